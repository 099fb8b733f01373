from __future__ import annotations

import re
import subprocess
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter import collectors
from modelhost_exporter.demo.host import DemoHost
from modelhost_exporter.demo.incidents import USUAL, IncidentSchedule
from modelhost_exporter.metrics import exporter_metrics
from modelhost_exporter.metrics.exposition import OPENMETRICS
from modelhost_exporter.proxy import self_metrics
from modelhost_exporter.requests import metrics as request_metrics
from modelhost_exporter.scraping import scrape
from tests.demo.conftest import START, MakeHost
from tests.support import simulation
from tests.support.programs import installed
from tests.support.readings import Page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# families that the simulated machine cannot have, and why
_ABSENT = {
    "modelhost_systemd_unit_state": "units are not simulated",
    "modelhost_systemd_service_restart_total": "likewise",
    "modelhost_textfile_mtime_seconds": "no other program writes files",
    "modelhost_textfile_scrape_error": "likewise",
    "modelhost_gpu_fan_speed_ratio": "an H100 (SXM) has no fans of its own",
    "modelhost_gpu_retired_pages": "GPUs before Ampere",
    "modelhost_gpu_retired_pages_pending": "GPUs before Ampere",
    "modelhost_gpu_unified_memory": "GPUs that share the host's memory",
}
_REAL = re.compile(rb"^(process_|python_|modelhost_scrape_|modelhost_config_).*\n", re.MULTILINE)
_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
_SAMPLE = re.compile(r"^([^#\s{]\S*?)(\{.*\})? (\S+)$", re.MULTILINE)


def families() -> set[str]:
    """Return the name of every family in the tables of the documents."""
    of_collectors = [collectors.module(name).FAMILIES for name in collectors.names()]
    ours = (request_metrics.FAMILIES, self_metrics.FAMILIES, exporter_metrics.FAMILIES, scrape.FAMILIES)
    return {family.name for group in (*of_collectors, *ours) for family in group}


def rising(page: str) -> Mapping[str, float]:
    """Return the samples that must not fall: counters and histograms, by series."""
    types = dict(_TYPE.findall(page))
    return {
        name + labels: float(value)
        for name, labels, value in _SAMPLE.findall(page)
        if types.get(re.sub(r"_(bucket|count|sum)$", "", name), types.get(name)) in ("counter", "histogram")
    }


@pytest.fixture(scope="module")
def hour() -> list[str]:
    """Return a page for each minute of an hour with every incident."""
    return simulation.pages(START, 60, incidents=True)


@pytest.fixture(scope="module")
def well() -> Page:
    """Return the page after half an hour in which nothing goes wrong."""
    return Page(simulation.pages(START, 30, incidents=False)[-1])


def test_an_hour_shows_every_family(hour: Sequence[str]) -> None:
    """Within an hour there is data for every documented family, except those that need other hardware."""
    seen = {name for page in hour for name, _ in _TYPE.findall(page)}
    assert families() - seen == _ABSENT.keys()


@pytest.mark.parametrize("text", ["text", "openmetrics"])
def test_the_page_is_what_prometheus_wants(text: str, make_host: MakeHost) -> None:
    """Promtool accepts a page, and the OpenMetrics page has its end mark."""
    host = make_host()
    if text == "openmetrics":
        assert host.page(START + 60, OPENMETRICS).endswith(b"# EOF\n")
        return
    command = [installed("promtool"), "check", "metrics"]
    checked = subprocess.run(command, input=host.page(START + 60), capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_the_same_seed_and_start_are_the_same_world(make_host: MakeHost) -> None:
    """Two hosts with one seed have equal pages, except for the exporter's own times; another seed differs."""
    one, same, other = make_host(schedule=USUAL), make_host(schedule=USUAL), make_host(schedule=USUAL, seed=2)
    for at in (START + 15, START + 30, START + 600):
        pages = [_REAL.sub(b"", host.page(at)) for host in (one, same, other)]
        assert pages[0] == pages[1]
        assert pages[0] != pages[2]


def test_counters_never_fall(make_host: MakeHost) -> None:
    """Without restarts of engines or GPUs no counter or bucket decreases, and no series vanishes."""
    host = make_host()
    pages = [rising(host.page(START + 30 * step).decode()) for step in range(1, 25)]
    for before, after in pairwise(pages):
        assert before.keys() <= after.keys()
        assert {series: (value, after[series]) for series, value in before.items() if after[series] < value} == {}


def test_an_engine_that_comes_back_counts_from_zero(hour: Sequence[str]) -> None:
    """Incidents reset only an engine's own counters; the proxy's counters continue."""
    fallen: set[str] = set()
    for before, after in pairwise(map(rising, hour)):
        fallen |= {series.partition("{")[0] for series, value in before.items() if after.get(series, value) < value}
    assert fallen
    engine, reset = "modelhost_engine_", "modelhost_gpu_ecc_errors_total"
    assert {name for name in fallen if not name.startswith(engine) and name != reset} == set()


def later(host: DemoHost, seconds: float) -> Page:
    """Return the page some seconds after the start."""
    return Page(host.page(START + seconds).decode())


def test_gpus_keep_to_physics(make_host: MakeHost) -> None:
    """Memory sums match, ratios are at most 1, power is within its limit, and energy is the integral of power."""
    host = make_host()
    before = later(host, 300)
    powers = []
    for step in range(1, 61):
        host.advance(START + 300 + step)
        powers.append([card.power for card in host.world.cards])
    page = later(host, 360)
    prefix = "modelhost_gpu_memory_"
    total, used, free, reserved = (
        page.by(f"{prefix}{part}_bytes", "gpu") for part in ("total", "used", "free", "reserved")
    )
    assert total == {gpu: used[gpu] + free[gpu] + reserved[gpu] for gpu in total}
    assert len(total) == 8
    for name in ("utilization", "sm_active", "sm_occupancy", "tensor_active", "dram_active"):
        assert all(0 <= ratio <= 1 for ratio in page.by(f"modelhost_gpu_{name}_ratio", "gpu").values())
    limits = page.by("modelhost_gpu_power_limit_watts", "gpu")
    joules = [one.by("modelhost_gpu_energy_joules_total", "gpu") for one in (before, page)]
    for gpu, limit in limits.items():
        drawn = [power[int(gpu[0])] for power in powers]
        assert 60 <= min(drawn) <= max(drawn) <= limit
        assert joules[1][gpu] - joules[0][gpu] == pytest.approx(sum(drawn), rel=1e-3)


def test_gpus_work_when_their_server_does(make_host: MakeHost) -> None:
    """The GPUs of the busiest server are busy and draw more than those of the model without requests."""
    host = make_host()
    early, page = later(host, 120), later(host, 420)
    busy = {
        gpu: seconds - early.by("modelhost_gpu_busy_seconds_total", "gpu")[gpu]
        for gpu, seconds in page.by("modelhost_gpu_busy_seconds_total", "gpu").items()
    }
    assert busy["0",] > 0.6 * 300
    assert busy["6",] == 0
    watts = page.by("modelhost_gpu_power_watts", "gpu")
    assert watts["0",] > 3 * watts["6",]
    assert page.by("modelhost_gpu_process_memory_bytes", "gpu", "process")["0", "vllm"] > 70e9


def test_engines_count_at_least_what_passed_the_proxy(well: Page) -> None:
    """Some requests bypass the proxy: engines count more tokens, and the unproxied share is the difference."""
    proxied: dict[str, float] = {}
    for (server, _), tokens in well.by("modelhost_output_tokens_total", "server", "model").items():
        proxied[server] = proxied.get(server, 0.0) + tokens
    counted: dict[str, float] = {}
    for (server, _), tokens in well.by("modelhost_engine_output_tokens_total", "server", "upstream").items():
        counted[server] = counted.get(server, 0.0) + tokens
    for server, tokens in counted.items():
        assert tokens >= proxied.get(server, 0.0)
    shares = well.by("modelhost_engine_unproxied_tokens_ratio", "server")
    assert 0.02 < shares["vllm",] < 0.25
    assert 0 < shares["llamacpp",] < 0.4, "of both replicas together"


def test_requests_are_all_accounted_for(well: Page) -> None:
    """Durations, sizes and objectives count every request, and none is left in flight."""
    labels = ("server", "model", "operation", "outcome")
    requests: dict[tuple[str, ...], float] = {}
    for (*key, _code, _stream), count in well.by("modelhost_requests_total", *labels, "code", "stream").items():
        key[3] = "ok" if key[3] == "ok" else "error"
        requests[tuple(key)] = requests.get(tuple(key), 0.0) + count
    assert well.by("modelhost_request_duration_seconds_count", *labels) == requests
    engine = sum(well.by("modelhost_engine_requests_running", "server", where={"server": "vllm"}).values())
    in_flight = sum(well.by("modelhost_requests_in_flight", "state", "model", where={"server": "vllm"}).values())
    assert 0 < in_flight <= engine + 2
    ok = sum(count for key, count in requests.items() if key[3] == "ok")
    assert ok > 0.95 * sum(requests.values())


def test_replicas_share_the_requests_of_their_server(well: Page) -> None:
    """Each attempt is one of the server's requests, the faster replica has more, and none is left in flight."""
    attempts = well.by("modelhost_proxy_upstream_requests_total", "upstream", "outcome")
    by_upstream = {
        upstream: sum(count for (name, _), count in attempts.items() if name == upstream) for upstream, _ in attempts
    }
    requests = well.by(
        "modelhost_requests_total", "model", "outcome", "stream", "code", where={"server": "llamacpp"}
    ).items()
    assert sum(by_upstream.values()) == sum(count for (model, *_), count in requests if model != "unknown")
    assert by_upstream["127.0.0.1:8080"] > by_upstream["127.0.0.1:8081"] > 0
    in_flight = well.by("modelhost_requests_in_flight", "state", where={"server": "llamacpp"})
    attempts_in_flight = well.by("modelhost_proxy_upstream_requests_in_flight", "upstream")
    assert sum(attempts_in_flight.values()) == sum(in_flight.values())


def test_the_host_adds_up(make_host: MakeHost) -> None:
    """CPU time is real time on every CPU, memory parts add up, and no file system is fuller than its size."""
    host = make_host()
    before, page = later(host, 60), later(host, 120)
    seconds = [
        sum(one.by("modelhost_cpu_seconds_total", "cpu", "mode", where={"cpu": "7"}).values()) for one in (before, page)
    ]
    assert seconds[1] - seconds[0] == pytest.approx(60, abs=0.1)
    memory = {part: page.one(f"modelhost_memory_{part}_bytes") for part in ("total", "used", "available", "free")}
    assert memory["total"] == memory["used"] + memory["available"]
    assert memory["free"] <= memory["available"]
    sizes = page.by("modelhost_filesystem_size_bytes", "mountpoint")
    assert sizes.keys() == {("/",), ("/data",), ("/archive",)}
    for mount, available in page.by("modelhost_filesystem_available_bytes", "mountpoint").items():
        assert 0 < available < sizes[mount]


def test_as_many_models_as_wanted(make_host: MakeHost) -> None:
    """Each of twenty models soon has requests, on the existing servers."""
    page = later(make_host(models=20), 600)
    asked = {key for key in page.by("modelhost_requests_total", "model") if key != ("unknown",)}
    assert len(asked) == 19  # one is loaded and forgotten


def test_a_long_gap_is_not_lived_through(make_host: MakeHost) -> None:
    """After a gap of an hour, as when a laptop sleeps, only the last five minutes are simulated."""
    host = make_host()
    before = later(host, 60)
    host.advance(START + 3660)
    assert host.world.now == START + 3660
    page = Page(host.page().decode())
    requests = [
        sum(one.by("modelhost_requests_total", "server", "model", "outcome").values()) for one in (before, page)
    ]
    assert requests[1] - requests[0] < 300 * 3


_LIMITS = (
    ("gpu_power_watts", "gpu_power_limit_watts", ("gpu",)),
    ("gpu_clock_hertz", "gpu_clock_max_hertz", ("gpu", "domain")),
    ("gpu_memory_used_bytes", "gpu_memory_total_bytes", ("gpu",)),
    ("memory_used_bytes", "memory_total_bytes", ()),
    ("file_descriptors_allocated", "file_descriptors_maximum", ()),
)


def test_nothing_is_above_its_limit(hour: list[str]) -> None:
    """In every incident, no share of a total is above 1."""
    for page in map(Page, hour[::4]):
        for part, whole, labels in _LIMITS:
            limits = page.by(f"modelhost_{whole}", *labels)
            shares = {key: value / limits[key] for key, value in page.by(f"modelhost_{part}", *labels).items()}
            assert shares
            assert {key: share for key, share in shares.items() if not 0 <= share <= 1} == {}


def test_a_live_demo_has_caught_up_before_anybody_looks() -> None:
    """Otherwise the first rates would include all minutes that were simulated at once."""
    host = DemoHost(time.time() - 60, schedule=IncidentSchedule(), live=True)
    try:
        before = time.time()
        host.run()
        assert host.world.now > before - 2
    finally:
        host.close()
