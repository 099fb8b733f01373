"""Messages, computed from families and clocks that the test sets."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from modelhost_exporter import collectors
from modelhost_exporter.live.family_lookup import Families
from modelhost_exporter.live.message_builder import RATE_SECONDS
from modelhost_exporter.live.models import MAX_MODELS, all_models
from modelhost_exporter.requests import metrics as request_metrics
from modelhost_exporter.requests.observation import RequestLabels
from tests.live.client import check_message
from tests.live.machine import Machine


def _model(message: dict[str, Any], name: str = "s/m") -> dict[str, Any]:
    (found,) = [model for model in message["models"] if model["id"] == name]
    return dict(found)


def test_all_numbers_are_null_without_families() -> None:
    """But for those of requests, whose counts are 0; and the message can be encoded as JSON."""
    message = Machine().read()
    check_message(message)
    stats = message["apiStats"]
    assert {stats[name] for name in ("rateSeconds", "recentRequests", "eligibleRequests", "avgResponseTime")} == {0}
    for name in ("cpuUsage", "cpuCores", "loadAverage", "loadAverages", "memoryUsage", "memoryUsed", "gpuUsage"):
        assert message[name] is None
    assert message["gpus"] == message["models"] == []
    assert message["networkStats"] == {"bytesInPerSecond": None, "bytesOutPerSecond": None}
    assert message["diskUsage"] is None
    json.dumps(message, allow_nan=False)


def test_cpu_usage_is_work_over_the_last_ten_seconds() -> None:
    """Of all CPUs together; older measurements do not count."""
    machine = Machine()
    busy = 0.0
    for second in range(0, 40, 2):
        busy += 2.0 if second < 20 else 0.5
        machine.cpu(busy, 2.0 * second)
        message = machine.read()
        if second == 0:
            assert message["cpuUsage"] is None
        if second == 18:
            assert message["cpuUsage"] == pytest.approx(50.0)
    assert message["cpuUsage"] == pytest.approx(12.5)


def test_cpu_usage_of_a_part_of_a_cpu_is_never_above_100_percent() -> None:
    """A container may use more than its limit for a moment."""
    machine = Machine()
    machine.cpu(0.0, 0.0)
    machine.read()
    machine.cpu(1.5, 1.0)
    assert machine.read()["cpuUsage"] == 100.0


def test_network_rates_are_bytes_a_second_over_ten_seconds() -> None:
    """Rates are those of the physical interfaces together."""
    machine = Machine()
    for moment in range(12):
        machine.traffic(1e9 + 2000.0 * moment, 4000.0 * moment)
        message = machine.read()
    assert message["networkStats"] == {
        "bytesInPerSecond": pytest.approx(1000),
        "bytesOutPerSecond": pytest.approx(2000),
    }


def test_counters_that_restart_make_no_jump() -> None:
    """After a reload the counters start at 0 again."""
    machine = Machine()
    machine.traffic(1e12, 0.0)
    machine.read()
    machine.traffic(400.0, 0.0)
    assert machine.read()["networkStats"]["bytesInPerSecond"] == pytest.approx(200)


def test_rates_are_null_after_a_gap() -> None:
    """The first message after a pause of a minute has no rates; the next one has those since the pause."""
    machine = Machine()
    machine.traffic(0.0, 0.0)
    machine.cpu(0.0, 0.0)
    machine.request()
    machine.read()
    machine.traffic(1e12, 0.0)
    machine.cpu(60.0, 60.0)
    message = machine.read(after=70.0)
    assert message["networkStats"]["bytesInPerSecond"] is None
    assert message["cpuUsage"] is None
    assert message["apiStats"]["rateSeconds"] == message["apiStats"]["requestsPerSecond"] == 0
    machine.traffic(1e12 + 20, 0.0)
    assert machine.read()["networkStats"]["bytesInPerSecond"] == pytest.approx(10)


def test_setting_the_clock_does_not_affect_rates() -> None:
    """The time of day jumps by hours: the timestamp changes, rates do not."""
    machine = Machine()
    machine.traffic(0.0, 0.0)
    machine.read()
    machine.wall -= 7200.0
    machine.traffic(20.0, 0.0)
    message = machine.read()
    assert message["networkStats"]["bytesInPerSecond"] == pytest.approx(10)
    assert message["timestamp"] == "2027-01-15T06:00:04.000Z"


def test_rates_are_null_while_a_collector_fails() -> None:
    """Afterwards they cover the time since the last known measurement."""
    machine = Machine()
    machine.traffic(0.0, 0.0)
    machine.read()
    machine.forget()
    assert machine.read()["networkStats"]["bytesInPerSecond"] is None
    machine.traffic(400.0, 0.0)
    assert machine.read()["networkStats"]["bytesInPerSecond"] == pytest.approx(100)


def test_memory_load_and_cores_are_the_families_values() -> None:
    """Memory in bytes and percent, and load averages of 1, 5 and 15 minutes."""
    machine = Machine()
    for name, value in {
        "host_memory_available_bytes": 9e9,
        "host_memory_total_bytes": 12e9,
        "host_cpu_cores": 8,
        "load1": 1.5,
        "load5": 0.5,
        "load15": 0.25,
    }.items():
        machine.set(name, value)
    message = machine.read()
    assert message["memoryUsage"] == pytest.approx(25.0)
    assert (message["memoryUsed"], message["memoryAvailable"], message["memoryTotal"]) == (3e9, 9e9, 12e9)
    assert (message["cpuCores"], message["loadAverage"], message["loadAverages"]) == (8, 1.5, [1.5, 0.5, 0.25])


@pytest.mark.parametrize(
    ("mounts", "total"), [({"/": 100.0, "/data": 900.0}, 100.0), ({"/a": 100.0, "/b": 900.0}, 900.0)]
)
def test_the_disk_is_that_of_the_root_or_the_largest(mounts: dict[str, float], total: float) -> None:
    """Used space is what is not free; the percentage excludes space reserved for root, like df."""
    machine = Machine()
    for mountpoint, size in mounts.items():
        of = {"device": f"/dev{mountpoint}", "mountpoint": mountpoint, "fstype": "ext4"}
        machine.set("filesystem_size_bytes", size, **of)
        machine.set("filesystem_free_bytes", size * 0.5, **of)
        machine.set("filesystem_available_bytes", size * 0.3, **of)
    assert machine.read()["diskUsage"] == {"used": total / 2, "total": total, "percent": pytest.approx(62.5)}


def test_disks_that_are_full_silent_or_have_become_read_only() -> None:
    """Each once, however often it is mounted; one that was never writable is mounted read-only on purpose."""
    machine = Machine()

    def mount(
        point: str, device: str, available: float = 500, *, read_only: bool = False, silent: bool = False
    ) -> None:
        of = {"device": device, "mountpoint": point, "fstype": "ext4"}
        machine.set("filesystem_readonly", read_only, **of)
        machine.set("filesystem_device_error", silent, **of)
        machine.set("filesystem_size_bytes", 1000, **of)
        machine.set("filesystem_available_bytes", available, **of)

    mount("/", "a", 30)
    mount("/cd", "b", 0, read_only=True)
    mount("/data", "c")
    assert machine.read()["diskTroubles"] == []
    mount("/", "a", 29)
    mount("/again", "a", 29)
    mount("/data", "c", read_only=True)
    mount("/net", "d", silent=True)
    troubles = [("/", "full"), ("/data", "read_only"), ("/net", "silent")]
    expected = [{"mountpoint": mountpoint, "problem": problem} for mountpoint, problem in troubles]
    assert machine.read()["diskTroubles"] == expected
    kept = machine._values.pop("filesystem_readonly")
    assert machine.read()["diskTroubles"] == []
    machine._values["filesystem_readonly"] = kept
    assert machine.read()["diskTroubles"] == expected


def test_gpus_are_listed_by_index_and_the_first_is_the_summary() -> None:
    """Values that a GPU does not report are null."""
    machine = Machine()
    machine.gpu("10", memory_used_bytes=1.0)
    machine.gpu(
        "2",
        utilization_ratio=0.5,
        memory_used_bytes=2e9,
        memory_total_bytes=8e9,
        temperature_celsius=61,
        power_watts=70,
    )
    message = machine.read()
    first, second = message["gpus"]
    assert (first["id"], second["id"]) == ("2", "10")
    assert message["gpuUsage"] == 50.0
    assert message["gpuInfo"] == {
        "id": "2",
        "name": "card 2",
        "usage": 50.0,
        "memoryUsed": 2e9,
        "memoryTotal": 8e9,
        "temperature": 61,
    }
    assert (first["powerWatts"], first["powerLimitWatts"], second["usage"], second["memoryUsed"]) == (
        70,
        None,
        None,
        1.0,
    )


def test_a_lost_gpu_is_listed_without_numbers() -> None:
    """gpu_up is 0 and there are no other series: the GPU stays in the list, all numbers null."""
    machine = Machine()
    machine.gpu("0", utilization_ratio=0.5)
    machine.read()
    machine.forget()
    machine.set("gpu_up", 0, gpu="0", uuid="GPU-0")
    message = machine.read()
    assert message["gpuUsage"] is None
    known = {"id": "0", "uuid": "GPU-0", "state": "lost", "memoryUsers": [], "throttledBy": []}
    assert {field: value for field, value in message["gpus"][0].items() if value is not None} == known


def test_missing_gpus_are_counted() -> None:
    """Including GPUs without a known identity; null where no GPU is expected."""
    machine = Machine()
    assert machine.read()["gpusMissing"] is None
    machine.set("gpu_devices", 6)
    machine.set("gpu_devices_expected", 8)
    assert machine.read()["gpusMissing"] == 2
    machine.set("gpu_devices", 9)
    assert machine.read()["gpusMissing"] == 0


def test_gpus_are_listed_while_the_collector_is_late() -> None:
    """A collector that misses its deadline does not mean that there are no GPUs."""
    machine = Machine()
    machine.gpu("0", utilization_ratio=0.5)
    machine.read()
    machine.forget()
    machine.silent = ["gpu"]
    message = machine.read()
    assert message["gpuInfo"]["name"] == "card 0"
    assert message["gpuUsage"] is None
    machine.silent = []
    assert machine.read()["gpus"] == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_null(value: float) -> None:
    """They cannot be encoded as JSON."""
    machine = Machine()
    machine.set("load1", value)
    machine.gpu("0", utilization_ratio=value)
    message = machine.read()
    assert message["loadAverage"] is message["gpuUsage"] is None


def test_rates_cover_ten_seconds_and_means_a_minute() -> None:
    """After 20 s the rate is 0 and the mean is unchanged; after 70 s the mean is not known, and totals stay."""
    machine = Machine()
    machine.read()
    for _ in range(4):
        machine.request(seconds=0.2, output_tokens=50, time_to_first_token=0.1)
    machine.request(seconds=2.0, outcome="server_error")
    message = machine.read()
    stats, model = message["apiStats"], _model(message)
    assert stats["totalRequests"] == model["totalRequests"] == 5
    assert stats["requestsPerSecond"] == model["requestsPerSecond"] == pytest.approx(2.5)
    assert stats["avgResponseTime"] == model["avgResponseTime"] == pytest.approx(560)
    assert stats["rateSeconds"] == 2
    assert stats["recentRequests"] == model["recentRequests"] == 5
    assert stats["eligibleRequests"] == model["eligibleRequests"] == 5
    assert stats["errorRate"] == pytest.approx(20)
    assert model["successRate"] == pytest.approx(80)
    assert model["tokensPerSecond"] == pytest.approx(100)
    assert model["timeToFirstToken"] == pytest.approx(100)
    for _ in range(10):
        message = machine.read()
    assert _model(message)["requestsPerSecond"] == message["apiStats"]["requestsPerSecond"] == 0
    assert _model(message)["tokensPerSecond"] == 0
    assert message["apiStats"]["avgResponseTime"] == pytest.approx(560)
    for _ in range(25):
        message = machine.read()
    stats, model = message["apiStats"], _model(message)
    assert stats["totalRequests"] == 5
    for name in ("p50", "p95", "p99"):
        assert stats[name] is model[name] is None
    for name in ("avgResponseTime", "recentRequests", "eligibleRequests"):
        assert stats[name] == model[name] == 0
    assert stats["errorRate"] == model["successRate"] == 0
    assert model["timeToFirstToken"] is None
    before = {"secondsAgo": 72, "avgResponseTime": 560, "p50": 200, "p95": 2000, "p99": 2000, "successRate": 80}
    assert stats["last"] == model["last"] == {**before, "timeToFirstToken": 100}
    machine.request(seconds=0.5)
    message = machine.read()
    assert (message["apiStats"]["p50"], message["apiStats"]["last"], _model(message)["last"]) == (500, None, None)


def test_a_new_model_counts_from_0() -> None:
    """Its first request is included in the rate and the quantiles."""
    machine = Machine()
    machine.request("old")
    machine.read()
    machine.request("new", 0.3)
    message = machine.read()
    assert _model(message, "s/new")["requestsPerSecond"] == pytest.approx(0.5)
    assert _model(message, "s/new")["p50"] == 300
    assert _model(message, "s/old")["p50"] == 200
    assert message["apiStats"]["requestsPerSecond"] == pytest.approx(0.5)


def test_a_model_whose_series_were_removed() -> None:
    """It is not listed, while totals and rates of all models stay right; with new requests it counts from 0."""
    machine = Machine()
    for _ in range(3):
        machine.request("old")
    machine.read()
    machine.request("new")
    assert machine.metrics.remove_model("s", "old")
    message = machine.read()
    assert [model["id"] for model in message["models"]] == ["s/new"]
    assert message["apiStats"]["totalRequests"] == 4
    assert message["apiStats"]["requestsPerSecond"] == pytest.approx(0.5)
    machine.request("old")
    message = machine.read()
    assert _model(message, "s/old")["totalRequests"] == 1
    assert _model(message, "s/old")["requestsPerSecond"] == pytest.approx(0.25)
    assert message["apiStats"]["totalRequests"] == 5


def test_the_first_message_has_no_rates() -> None:
    """But totals, means and quantiles."""
    machine = Machine()
    machine.request()
    message = machine.read()
    assert message["apiStats"]["totalRequests"] == 1
    stats = message["apiStats"]
    assert stats["rateSeconds"] == stats["requestsPerSecond"] == _model(message)["requestsPerSecond"] == 0
    assert (stats["recentRequests"], stats["p50"], stats["avgResponseTime"]) == (1, 200, 200)


def test_totals_that_were_read_stay_as_they_were() -> None:
    """Later requests do not change the totals of an earlier measurement, from which rates are computed."""
    machine = Machine()
    machine.request()
    before = machine.totals.by_model()
    first = before["s", "m"]
    machine.request()
    assert (before["s", "m"], first.requests) == (first, 1)
    assert machine.totals.by_model()["s", "m"].requests == 2


def test_the_distribution_counts_since_the_start() -> None:
    """Counts of the five ranges with exact bounds, and the largest count."""
    machine = Machine()
    for seconds in (0.05, 0.1, 0.4, 0.6, 0.9, 1.0, 3.0, 5.5, 9000.0):
        machine.request(seconds=seconds)
    stats = machine.read()["apiStats"]
    assert stats["responseTimeDistribution"] == {"<100ms": 2, "100-500ms": 1, "500ms-1s": 3, "1-5s": 1, ">5s": 2}
    assert stats["maxDistributionCount"] == 3


def test_other_operations_and_unknown_models() -> None:
    """Operation 'other' is not counted; model 'unknown' is counted in the totals and is not listed."""
    machine = Machine()
    machine.request("m")
    machine.request("unknown", outcome="client_error")
    machine.request("unknown", operation="other")
    message = machine.read()
    assert message["apiStats"]["totalRequests"] == 2
    assert [model["id"] for model in message["models"]] == ["s/m"]


def test_client_errors_do_not_affect_success_and_error_rates() -> None:
    """Neither do disconnects; without other requests neither rate is known."""
    machine = Machine()
    machine.read()
    machine.request(outcome="client_error")
    machine.request(outcome="client_disconnect")
    message = machine.read()
    for counts in (message["apiStats"], _model(message)):
        assert (counts["recentRequests"], counts["eligibleRequests"]) == (2, 0)
    assert message["apiStats"]["errorRate"] == _model(message)["successRate"] == 0
    machine.request()
    message = machine.read()
    assert (message["apiStats"]["errorRate"], _model(message)["successRate"]) == (0.0, 100.0)


def test_token_rate_is_null_without_token_counts() -> None:
    """It is not 0."""
    machine = Machine()
    machine.read()
    machine.request()
    model = _model(machine.read())
    assert model["requestsPerSecond"] == 0.5
    assert model["tokensPerSecond"] is None


def test_a_model_combines_requests_and_server_state() -> None:
    """Memory of all types, loaded or not, requests in progress; without requests, no numbers of requests."""
    machine = Machine()
    for model in ("m", "idle"):
        machine.set("model_loaded", 1, server="s", model=model)
        machine.set("model_memory_bytes", 4e9, server="s", model=model, type="vram")
    machine.set("model_memory_bytes", 1e9, server="s", model="m", type="ram")
    machine.set("model_loaded", 0, server="s", model="asleep")
    machine.read()
    machine.request()
    machine.metrics.in_flight(RequestLabels("s", "m", "chat"), "waiting").inc()
    machine.metrics.in_flight(RequestLabels("s", "m", "chat"), "streaming").inc()
    machine.metrics.in_flight(RequestLabels("s", "m", "other"), "blocking").inc()
    message = machine.read()
    assert [model["id"] for model in message["models"]] == ["s/m", "s/asleep", "s/idle"]
    asked, asleep, idle = message["models"]
    assert (asked["memoryUsage"], asked["loaded"], asked["inFlight"]) == (5e9, True, 2)
    assert (asleep["memoryUsage"], asleep["loaded"]) == (0, False)
    assert (idle["memoryUsage"], idle["totalRequests"], idle["requestsPerSecond"], idle["inFlight"]) == (
        *(4e9, None),
        *(0, None),
    )


def test_numbers_of_an_engine_are_those_of_its_only_model() -> None:
    """Of the model that is loaded, with its memory on GPUs; of two loaded models neither has them."""
    machine = Machine()
    for server, models in {"one": {"m": 1, "asleep": 0}, "two": {"m": 1, "n": 1}}.items():
        for model, loaded in models.items():
            machine.set("model_loaded", loaded, server=server, model=model)
        machine.set("engine_up", 1, server=server, upstream="h:1")
        for upstream, usage in (("h:1", 0.25), ("h:2", 0.75)):
            machine.set("engine_requests_waiting", 2, server=server, upstream=upstream)
            machine.set("engine_kv_cache_usage_ratio", usage, server=server, upstream=upstream)
            machine.set("model_context_length_tokens", 8192 * usage, server=server, model="m", upstream=upstream)
    for kind, held in (("vram", 3e9), ("ram", 1e9)):
        machine.set("model_memory_bytes", held, server="one", model="m", type=kind)
    message = machine.read()
    names = ("requestsWaiting", "kvCacheUsage", "contextLength", "memoryUsage", "gpuMemoryUsage")
    shown = {model["id"]: [model[name] for name in names] for model in message["models"]}
    assert shown["one/m"] == [4, 75, 2048, 4e9, 3e9]
    assert shown["one/asleep"] == shown["two/n"] == [None, None, None, 0, None]
    assert shown["two/m"] == [None, None, 2048, 0, None]
    assert all_models(message)["requestsWaiting"] == 8  # type: ignore[arg-type]
    assert all_models(message)["gpuMemoryUsage"] == 3e9  # type: ignore[arg-type]


def test_models_are_sorted_and_bounded() -> None:
    """Most requests first, then by id; at most a hundred."""
    machine = Machine()
    for number in range(MAX_MODELS + 20):
        machine.request(f"m{number:03}", server="b" if number % 2 else "a")
    for _ in range(2):
        machine.request("m119", server="b")
    models = machine.read()["models"]
    assert len(models) == MAX_MODELS
    assert [model["id"] for model in models[:3]] == ["b/m119", "a/m000", "a/m002"]


def test_memory_stays_bounded_when_nothing_happens() -> None:
    """A model without new requests has one set of counts in all measurements."""
    machine = Machine()
    machine.request()
    for _ in range(100):
        machine.read()
    readings = machine.meter._measurements._measurements
    assert len(readings) <= 6
    assert len({id(reading.requests["s", "m"]) for reading in readings}) == 1


def test_each_message_has_its_time() -> None:
    """The time of day is returned with each message."""
    machine = Machine()
    messages = [machine.read(), machine.read()]
    assert machine.kept == [(1.8e9 + 2, messages[0]), (1.8e9 + 4, messages[1])]


def test_every_family_that_is_read_exists() -> None:
    """All names that the feed looks up are declared."""
    declared = {family.name for name in collectors.names() for family in collectors.module(name).FAMILIES}
    declared |= {family.name for family in request_metrics.FAMILIES}
    asked: set[str] = set()

    machine = Machine()
    original = Families.samples

    def samples(self: Families, name: str) -> Any:
        asked.add(f"modelhost_{name}")
        return original(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Families, "samples", samples)
        of = {"device": "d", "mountpoint": "/", "fstype": "ext4"}
        machine.set("filesystem_size_bytes", 1, **of)
        machine.read()
    assert asked <= declared
    assert len(asked) > 20
    assert RATE_SECONDS == 10


def test_replicas_are_one_server() -> None:
    """A model of several replicas is one: its memory is that of all, and it is loaded where any has loaded it."""
    machine = Machine()
    for upstream, loaded, held in (("h:1", 0, 0), ("h:2", 1, 2e9), ("h:3", 1, 3e9)):
        machine.set("model_loaded", loaded, server="r", upstream=upstream, model="m")
        machine.set("model_memory_bytes", held, server="r", upstream=upstream, model="m", type="vram")
    machine.set("model_loaded", 0, server="r", upstream="h:1", model="n")
    machine.request(server="r")
    shown = {model["id"]: model for model in machine.meter.measure().message["models"]}
    assert shown.keys() == {"r/m", "r/n"}
    assert (shown["r/m"]["loaded"], shown["r/m"]["memoryUsage"], shown["r/m"]["totalRequests"]) == (True, 5e9, 1)
    assert shown["r/n"]["loaded"] is False
