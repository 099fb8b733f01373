"""Each incident changes the page, and none of its effects is present without incidents."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

import pytest

from modelhost_exporter.demo.incidents import Incident, IncidentSchedule, Kind
from tests.demo.conftest import START, MakeHost
from tests.support.readings import Page

if TYPE_CHECKING:
    from collections.abc import Callable

BEGIN, SECONDS, SEEN = 30.0, 300.0, 270.0


class Effect(NamedTuple):
    """A number on the page, and the bound beyond which it shows the incident."""

    target: str
    value: Callable[[Page], float]
    beyond: float


def gauge(name: str, *values: str, labels: tuple[str, ...] = ()) -> Callable[[Page], float]:
    """Return what reads one series, 0 where it is not there."""
    return lambda page: page.by(f"modelhost_{name}", *labels).get(values, 0.0)


def total(name: str, where: dict[str, str], *labels: str) -> Callable[[Page], float]:
    """Return a function that sums some series of a page."""
    return lambda page: sum(page.by(f"modelhost_{name}", *labels, where=where).values())


def below(read: Callable[[Page], float]) -> Callable[[Page], float]:
    """Return a function whose result is the negative number, since effects are upper bounds."""
    return lambda page: -read(page)


EFFECTS: dict[Kind, Effect] = {
    "clock_unsynchronised": Effect("", gauge("clock_maximum_error_seconds"), 15.9),
    "collector_failing": Effect(
        "sensors", below(gauge("scrape_collector_success", "sensors", labels=("collector",))), -0.5
    ),
    "cpu_busy": Effect("", gauge("load1"), 128),
    "disk_busy": Effect("nvme0n1", gauge("disk_io_time_weighted_seconds_total", "nvme0n1", labels=("device",)), 3000),
    "disk_filling": Effect(
        "/data", below(gauge("filesystem_available_bytes", "/data", labels=("mountpoint",))), -0.03 * 7e12
    ),
    "disk_readonly": Effect("/archive", gauge("filesystem_readonly", "/archive", labels=("mountpoint",)), 0.5),
    "files_filling": Effect("/", below(gauge("filesystem_files_free", "/", labels=("mountpoint",))), -0.03 * 57e6),
    "gpu_contained_error": Effect("2", gauge("gpu_xid_errors_total", "2", "94", labels=("gpu", "xid")), 0.5),
    "gpu_hot": Effect("1", gauge("gpu_throttled", "1", "hw_thermal", labels=("gpu", "reason")), 0.5),
    "gpu_link_narrow": Effect("2", below(gauge("gpu_pcie_link_width", "2", labels=("gpu",))), -15),
    "gpu_lost": Effect("4", below(gauge("gpu_devices")), -7.5),
    "gpu_memory_errors": Effect("3", gauge("gpu_row_remap_pending", "3", labels=("gpu",)), 0.5),
    "gpu_power_capped": Effect("0", gauge("gpu_throttled", "0", "sw_power_cap", labels=("gpu", "reason")), 0.5),
    "gpu_program_fault": Effect("5", gauge("gpu_xid_errors_total", "5", "31", labels=("gpu", "xid")), 0.5),
    "gpu_remap_failed": Effect("6", gauge("gpu_row_remap_failed", "6", labels=("gpu",)), 0.5),
    "memory_pressure": Effect("", below(gauge("memory_available_bytes")), -0.1 * 1.08e12),
    "models_evicted": Effect("ollama", total("request_cold_starts_total", {"server": "ollama"}, "model"), 8),
    "network_errors": Effect("eth1", gauge("network_receive_errors_total", "eth1", labels=("device",)), 100),
    "queue_growing": Effect("vllm", gauge("engine_requests_waiting", "vllm", labels=("server",)), 20),
    "replica_down": Effect(
        "llamacpp",
        below(gauge("proxy_upstream_up", "llamacpp", "127.0.0.1:8081", labels=("server", "upstream"))),
        -0.5,
    ),
    "server_crash_loop": Effect("tgi", below(gauge("engine_up", "tgi", labels=("server",))), -0.5),
    "server_down": Effect("ollama", below(gauge("engine_up", "ollama", labels=("server",))), -0.5),
    "server_errors": Effect(
        "sglang", total("requests_total", {"server": "sglang", "outcome": "server_error"}, "code", "stream"), 20
    ),
    "server_stuck": Effect(
        "sglang", total("requests_in_flight", {"server": "sglang"}, "model", "operation", "state"), 40
    ),
    "upstream_unreachable": Effect(
        "llamacpp",
        total("requests_total", {"server": "llamacpp", "outcome": "upstream_unreachable"}, "model", "stream"),
        10,
    ),
}


def test_every_kind_has_an_effect() -> None:
    """Every type of incident has an effect."""
    assert EFFECTS.keys() == set(get_args(Kind))


@pytest.fixture(scope="module")
def quiet() -> Page:
    """Return the page of the same host at the same time, without incidents."""
    from modelhost_exporter.demo.host import DemoHost  # noqa: PLC0415
    from modelhost_exporter.demo.incidents import IncidentSchedule  # noqa: PLC0415

    host = DemoHost(START, schedule=IncidentSchedule())
    try:
        host.page(START + 15)
        return Page(host.page(START + BEGIN + SEEN).decode())
    finally:
        host.close()


@pytest.mark.parametrize("kind", sorted(EFFECTS))
def test_an_incident_shows(kind: Kind, quiet: Page, make_host: MakeHost) -> None:
    """The page shows the incident while it lasts, and does not without it."""
    effect = EFFECTS[kind]
    host = make_host(schedule=IncidentSchedule((Incident(kind, BEGIN, SECONDS, effect.target),), origin=START))
    host.page(START + 15)  # what watches for XIDs begins with the first scrape
    assert effect.value(Page(host.page(START + BEGIN + SEEN).decode())) > effect.beyond
    assert effect.value(quiet) <= effect.beyond


def test_a_gpu_that_fell_off_the_bus_comes_back(make_host: MakeHost) -> None:
    """XID 79, one GPU fewer, and its server down; afterwards all recover without a restart of the exporter."""
    host = make_host(schedule=IncidentSchedule((Incident("gpu_lost", 60, 60, "4"),), origin=START))
    host.page(START + 15)
    pages = [Page(host.page(START + at).decode()) for at in range(45, 400, 15)]
    devices = [page.one("modelhost_gpu_devices") for page in pages]
    assert (devices[0], min(devices), devices[-1]) == (8, 7, 8)
    lost = pages[devices.index(7) + 1]
    assert lost.one("modelhost_gpu_devices_expected") == 8
    assert lost.by("modelhost_gpu_up", "gpu")["4",] == 0
    assert lost.by("modelhost_gpu_xid_errors_total", "gpu", "xid") == {("4", "79"): 1}
    assert lost.by("modelhost_engine_up", "server")["sglang",] == 0
    assert pages[-1].by("modelhost_engine_up", "server")["sglang",] == 1


def test_a_stuck_model_server_sends_nothing_until_it_recovers(make_host: MakeHost) -> None:
    """No chunk and no answer but those of clients that give up; afterwards requests end as before."""
    host = make_host(schedule=IncidentSchedule((Incident("server_stuck", 60, 300, "sglang"),), origin=START))
    host.page(START + 15)
    sent = total("stream_chunks_total", {"server": "sglang"}, "model", "operation")
    given_up = total("requests_total", {"server": "sglang", "outcome": "client_disconnect"}, "model", "stream", "code")
    succeeded = total("requests_total", {"server": "sglang", "outcome": "ok"}, "model", "stream", "code", "operation")
    stuck, later, recovered = (Page(host.page(START + at).decode()) for at in (62, 350, 480))
    assert sent(stuck) == sent(later) < sent(recovered)
    assert given_up(later) > given_up(stuck) + 60
    assert succeeded(recovered) > succeeded(later) + 50


def test_a_model_server_in_a_crash_loop_comes_up_in_between(make_host: MakeHost) -> None:
    """It starts for eight minutes, responds for two, and starts again."""
    host = make_host(schedule=IncidentSchedule((Incident("server_crash_loop", 0, 3000, "tgi"),), origin=START))
    up = gauge("engine_up", "tgi", labels=("server",))
    pages = [Page(host.page(START + at).decode()) for at in (300, 595, 900, 1195)]
    assert [up(page) for page in pages] == [0, 1, 0, 1]


def test_memory_that_runs_out_kills_a_model_server(make_host: MakeHost) -> None:
    """The kernel kills a model server at the end of the pressure, and its counters restart at 0."""
    host = make_host(schedule=IncidentSchedule((Incident("memory_pressure", 60, 600),), origin=START))
    before, after = (Page(host.page(START + at).decode()) for at in (650, 700))
    assert [page.one("modelhost_oom_kills_total") for page in (before, after)] == [0, 1]
    tokens = [
        page.by("modelhost_engine_output_tokens_total", "server", "upstream")["llamacpp", "127.0.0.1:8080"]
        for page in (before, after)
    ]
    assert tokens[1] < tokens[0]


def test_a_replica_that_is_down_is_ejected_and_comes_back(make_host: MakeHost) -> None:
    """Its requests are sent to the other one, no request fails, and its polls fail meanwhile."""
    host = make_host(schedule=IncidentSchedule((Incident("replica_down", 60, 240, "llamacpp"),), origin=START))
    before, down, after = (Page(host.page(START + at).decode()) for at in (59, 280, 900))
    one, two = "127.0.0.1:8080", "127.0.0.1:8081"
    for page, up in ((before, 1), (down, 0), (after, 1)):
        where = {"server": "llamacpp"}
        assert page.by("modelhost_engine_up", "upstream", where=where) == {(one,): 1, (two,): up}
        assert page.by("modelhost_proxy_upstream_up", "upstream") == {(one,): 1, (two,): up}
    ejections = down.by("modelhost_proxy_upstream_ejections_total", "upstream")
    assert ejections[one,] == 0
    assert ejections[two,] > 1
    attempts = after.by("modelhost_proxy_upstream_requests_total", "upstream", "outcome")
    assert attempts[two, "upstream_unreachable"] >= 3
    assert (one, "upstream_unreachable") not in attempts
    assert attempts[two, "ok"] > before.by("modelhost_proxy_upstream_requests_total", "upstream", "outcome")[two, "ok"]
    outcomes = after.by("modelhost_requests_total", "outcome", "code", "stream", where={"server": "llamacpp"})
    assert "upstream_unreachable" not in {outcome for outcome, *_ in outcomes}
