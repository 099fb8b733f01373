"""The machines that --demo shows, and the hour that the live page shows from the start."""

from __future__ import annotations

import json
import time
import urllib.request
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from modelhost_exporter.config.flags import DEMO_PROFILES
from modelhost_exporter.demo.host import DemoHost
from modelhost_exporter.demo.kernel import KernelFiles
from modelhost_exporter.demo.profiles import PROFILES, WORKSTATION
from modelhost_exporter.live.history import History
from modelhost_exporter.live.message_builder import MessageConstants
from modelhost_exporter.live.meter import INTERVAL_SECONDS, Meter, read_source
from modelhost_exporter.metrics.exposition import OPENMETRICS
from tests.demo.conftest import START
from tests.support.programs import DEADLINE_SECONDS, fetch
from tests.support.readings import Page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from modelhost_exporter.live.message import LiveMessage
    from tests.conftest import StartExporter
    from tests.demo.conftest import MakeHost

HOUR = 3600.0


class Start(NamedTuple):
    """A live demo just after its start."""

    host: DemoHost
    before: Sequence[LiveMessage]
    """The messages of the hour before."""
    first: LiveMessage
    """The first measured message."""
    history: dict[str, Any]
    """What the page loads."""


@pytest.fixture(scope="module", params=sorted(PROFILES))
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Yield each profile's demo, started at noon and measured two seconds later."""
    host = DemoHost(START, profile=PROFILES[request.param], live=True)
    try:
        host.page(START + INTERVAL_SECONDS)
        constants = MessageConstants.of_this_exporter(INTERVAL_SECONDS, demo=True)
        ahead = START - host.service.earlier_readings[-1].at + INTERVAL_SECONDS
        meter = Meter(
            partial(read_source, host.service),
            constants,
            clock=lambda: START + 2 * INTERVAL_SECONDS - ahead,
            now=lambda: START + INTERVAL_SECONDS,
        )
        history, before = History(HOUR, INTERVAL_SECONDS), []
        for reading in host.service.earlier_readings:
            when, message = meter.message_of(reading)
            history.add(when, message)
            before.append(message)
        when, first = meter.measure()
        history.add(when, first)
        yield Start(host, before, first, json.loads(history.encode()))
    finally:
        host.close()


def test_the_command_line_has_every_profile() -> None:
    """--demo has the profiles as its values; the first one, which is the default, is the rack."""
    assert set(DEMO_PROFILES) == PROFILES.keys()
    assert DEMO_PROFILES[0] == "rack"


def test_the_charts_are_full(start: Start) -> None:
    """An hour without a gap that the page would show, with every number but those of minutes without requests."""
    times = [at / 1e3 for at in start.history["timestamps"]]
    assert times[-1] - times[0] == pytest.approx(HOUR, abs=10)
    assert max(after - before for before, after in pairwise(times)) <= 3 * INTERVAL_SECONDS
    of_requests = {"avgResponseTime", "p50", "p95", "p99", "errorRate"}
    for name, column in start.history["series"].items():
        known = sum(value is not None for value in column) / len(column)
        assert known >= (0.9 if name in of_requests else 0.99), name
    for gpu in start.history["gpus"]:
        share = [value is not None for value in gpu["memoryUsed"]]
        assert sum(share) > 0.85 * len(times), gpu["id"]  # one is off the bus for some minutes
    used = {model["id"] for model in start.first["models"] if model["totalRequests"]}
    assert used == start.history["models"].keys()


def test_every_gpu_has_the_numbers_that_it_will_have(start: Start) -> None:
    """In the hour before and now the same numbers are known, such as no utilisation of a GPU that is split."""
    last = {gpu["id"]: gpu for gpu in start.before[-1]["gpus"]}
    for gpu in start.first["gpus"]:
        before = last[gpu["id"]]
        for name in ("usage", "memoryUsed", "memoryTotal", "temperature", "powerWatts", "powerLimitWatts"):
            assert (gpu[name] is None) == (before[name] is None), (gpu["id"], name)
        assert gpu["memoryTotal"] == before["memoryTotal"]
        assert gpu["temperature"] == pytest.approx(before["temperature"], abs=3)


def test_the_counters_and_the_history_agree(start: Start) -> None:
    """The total is that of the rates over the hour, the distribution and the models sum to it."""
    times, rates = start.history["timestamps"], start.history["series"]["requestsPerSecond"]
    steps = [(after - before) / 1e3 for before, after in pairwise(times)]
    over_the_hour = sum((rate or 0.0) * step for rate, step in zip(rates[1:], steps, strict=True))
    stats = start.first["apiStats"]
    assert stats["totalRequests"] == pytest.approx(over_the_hour, rel=0.1)
    assert sum(stats["responseTimeDistribution"].values()) == stats["totalRequests"]
    assert sum(model["totalRequests"] or 0 for model in start.first["models"]) == stats["totalRequests"]


def test_the_first_message_goes_on_where_the_hour_ends(start: Start) -> None:
    """Rates cover ten seconds at once, and tokens are not counted twice or lost where the metrics begin at zero."""
    assert start.first["apiStats"]["rateSeconds"] >= 9
    recent = start.before[-1]["apiStats"]["recentRequests"]  # of 60 to 65 s: five seconds may leave at once
    assert start.first["apiStats"]["recentRequests"] == pytest.approx(recent, rel=0.15, abs=8)
    before = sum(model["tokensPerSecond"] or 0.0 for model in start.before[-1]["models"])
    now = sum(model["tokensPerSecond"] or 0.0 for model in start.first["models"])
    assert now == pytest.approx(before, rel=0.35, abs=30)


def test_no_line_is_flat_near_its_top(start: Start) -> None:
    """No minute of CPU, memory or GPU use above 90 % is a straight line."""
    columns = [start.history["series"][name] for name in ("cpuUsage", "memoryUsage")]
    columns += [gpu["usage"] for gpu in start.history["gpus"]]
    rows = 10  # a minute of the time before the start
    for column in columns:
        for at in range(len(column) - rows):
            minute = [value for value in column[at : at + rows] if value is not None]
            if len(minute) == rows and min(minute) > 90:
                assert max(minute) - min(minute) > 0.2, column[at : at + rows]


def test_recent_requests_are_of_the_last_minutes(start: Start) -> None:
    """They ended before now, in order, and those in progress began before now."""
    recent = start.host.service.recent_requests.newest_first()
    ended = [request.ended for request in recent]
    assert ended == sorted(ended, reverse=True)
    assert START - HOUR < ended[-1] < ended[0] <= START + INTERVAL_SECONDS
    assert len(recent) > 100
    running = start.host.service.running_requests.longest_first()
    assert all(0 <= request.seconds < 300 for request in running)
    in_flight = sum(model["inFlight"] or 0 for model in start.first["models"])
    assert len(running) == in_flight


def test_the_page_starts_with_an_hour(start_exporter: StartExporter) -> None:
    """A started workstation has a name of its own, its history at the first request, and its engines and models."""
    exporter = start_exporter("--demo=workstation")
    history = json.loads(fetch(f"http://{exporter.address}/api/history"))
    now = time.time()
    times = [at / 1e3 for at in history["timestamps"]]
    assert times[0] == pytest.approx(now - HOUR, abs=20)
    assert times[-1] == pytest.approx(now, abs=10)
    with urllib.request.urlopen(f"http://{exporter.address}/api/live", timeout=DEADLINE_SECONDS) as events:
        message = json.loads(next(line for line in events if line.startswith(b"data:")).removeprefix(b"data:"))
    host = message["host"]
    assert (host["name"], host["system"]) == ("workstation", "Linux")
    assert [gpu["name"] for gpu in message["gpus"]] == ["NVIDIA GeForce RTX 4090"]
    assert {server["kind"] for server in message["servers"]} == {"llamacpp", "ollama"}
    assert message["apiStats"]["totalRequests"] > 200
    page = Page(exporter.page().decode())
    assert sum(page.by("modelhost_requests_total", "server", "model", "outcome", "code", "stream").values()) < 60


def test_a_workstation_has_no_hardware_of_a_server(make_host: MakeHost) -> None:
    """Its page is one of a desktop: no ECC, NVLink, MIG, InfiniBand or RAID, but fans, and no other collector fails."""
    page = make_host(profile=WORKSTATION).page(START + 120, OPENMETRICS).decode()
    absent = ("_gpu_ecc", "_nvlink", "_mig_", "_infiniband", "_raid", "_bonding", "_gpu_sm_active", "_gpu_memory_temp")
    assert [name for name in absent if f"modelhost{name}" in page] == []
    read = Page(page)
    assert 0 <= read.one("modelhost_gpu_fan_speed_ratio") <= 1
    success = read.by("modelhost_scrape_collector_success", "collector")
    unavailable = {"bonding", "edac", "infiniband", "mdadm", "systemd", "textfile"}
    assert {collector for (collector,), value in success.items() if not value} <= unavailable
    used = read.one("modelhost_gpu_memory_used_bytes")
    assert sum(read.by("modelhost_gpu_process_memory_bytes", "process").values()) < used


def test_a_kernel_file_that_gets_shorter_has_no_further_line(make_host: MakeHost, tmp_path: Path) -> None:
    """It is padded, so that a reader never sees half of it, but at the end of its last line."""
    machine, files = make_host().world.machine, KernelFiles(tmp_path)
    sizes = []
    for connections in (1_000, 9):
        machine.connections = machine.time_wait = connections
        files.write(machine)
        text = (tmp_path / "proc/net/sockstat").read_text()
        sizes.append(len(text))
        assert all(line.strip() for line in text.splitlines())
        assert f" inuse {40 + connections} " in text
    assert sizes[0] == sizes[1]
