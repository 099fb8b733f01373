from __future__ import annotations

import gc
import json
import tracemalloc
from typing import TYPE_CHECKING, Any, cast

import pytest

from modelhost_exporter.live.history import MAX_GPUS, MAX_MODELS, History
from tests.live.machine import Machine

if TYPE_CHECKING:
    from modelhost_exporter.live.message import LiveMessage

SERIES = (
    *("cpuUsage", "memoryUsage", "memoryUsed", "networkIn", "networkOut", "requestsPerSecond", "avgResponseTime"),
    *("p50", "p95", "p99", "errorRate"),
)


def _decoded(history: History) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(history.encode())
    columns = [*decoded["series"].values()]
    columns += [column for gpu in decoded["gpus"] for name, column in gpu.items() if name != "id"]
    columns += [column for model in decoded["models"].values() for column in model.values()]
    assert {len(column) for column in columns} <= {len(decoded["timestamps"])}
    assert decoded["timestamps"] == sorted(set(decoded["timestamps"]))
    return decoded


def _message(cpu: float | None = None, models: dict[str, float] | None = None, gpus: int = 0) -> LiveMessage:
    message = Machine().read()
    message["cpuUsage"] = cpu
    message["gpus"] = [{"id": str(n), "usage": n, "memoryUsed": None, "temperature": 1.0} for n in range(gpus)]
    message["models"] = [
        {"id": name, "p50": p50, "p95": None, "p99": None, "requestsPerSecond": 0.0, "tokensPerSecond": None}
        for name, p50 in (models or {}).items()
    ]
    return cast("LiveMessage", message)


def test_an_empty_history_has_every_column() -> None:
    """Before the first message all series are present and empty."""
    decoded = _decoded(History(60, 2))
    assert decoded == {
        "interval": 2,
        "timestamps": [],
        "series": {name: [] for name in SERIES},
        "gpus": [],
        "models": {},
    }


def test_columns_hold_the_numbers_of_messages() -> None:
    """Unknown values are null, also before a model or GPU appeared."""
    history = History(60, 2)
    history.add(1000.0, _message())
    history.add(1002.0, _message(cpu=12.34567, models={"s/m": 250.0}, gpus=1))
    history.add(1004.0, _message(cpu=20.0))
    decoded = _decoded(history)
    assert decoded["timestamps"] == [1000000, 1002000, 1004000]
    assert decoded["series"]["cpuUsage"] == [None, 12.346, 20.0]
    assert decoded["series"]["p99"] == [None] * 3
    assert decoded["models"] == {
        "s/m": {
            "p50": [None, 250.0, None],
            "p95": [None] * 3,
            "p99": [None] * 3,
            "requestsPerSecond": [None, 0.0, None],
            "tokensPerSecond": [None] * 3,
        }
    }
    assert decoded["gpus"] == [
        {"id": "0", "usage": [None, 0.0, None], "memoryUsed": [None] * 3, "temperature": [None, 1.0, None]}
    ]


def test_all_series_come_from_the_message() -> None:
    """Each series has the number of that name."""
    machine = Machine()
    machine.memory(total=4e9, available=1e9)
    history = History(60, 2)
    for moment in range(3):
        machine.cpu(moment, 2.0 * moment)
        machine.traffic(20.0 * moment, 40.0 * moment)
        machine.request(seconds=0.3)
        message = machine.read()
        history.add(machine.wall, cast("LiveMessage", message))
    last = {name: column[-1] for name, column in _decoded(history)["series"].items()}
    stats = message["apiStats"]
    assert last == pytest.approx(
        {
            **{name: message[name] for name in ("cpuUsage", "memoryUsage", "memoryUsed")},
            "networkIn": 10.0,
            "networkOut": 20.0,
            **{
                name: stats[name] for name in ("requestsPerSecond", "avgResponseTime", "p50", "p95", "p99", "errorRate")
            },
        },
        abs=1e-3,
    )
    assert None not in last.values()


def test_only_the_configured_seconds_are_kept() -> None:
    """New rows replace the oldest in every column; the order is kept."""
    history = History(60, 2)
    for number in range(100):
        history.add(1000.0 + 2 * number, _message(cpu=float(number), models={"s/m": float(number)}))
    decoded = _decoded(history)
    assert len(decoded["timestamps"]) == 31
    assert decoded["timestamps"][-1] - decoded["timestamps"][0] == 60_000
    assert decoded["series"]["cpuUsage"] == decoded["models"]["s/m"]["p50"] == [float(n) for n in range(69, 100)]


def test_old_rows_are_left_out_after_a_sleep() -> None:
    """After a day of sleep the history has only rows of the last minute."""
    history = History(60, 2)
    for number in range(10):
        history.add(1000.0 + 2 * number, _message(cpu=1.0))
    history.add(90_000.0, _message(cpu=2.0, models={"s/m": 1.0}))
    decoded = _decoded(history)
    assert decoded["timestamps"] == [90_000_000]
    assert decoded["series"]["cpuUsage"] == [2.0]


def test_setting_the_clock_back_shifts_earlier_times() -> None:
    """Timestamps always ascend, and the newest one is right."""
    history = History(60, 2)
    for when in (1000.0, 1002.0, 400.0, 402.0):
        history.add(when, _message(cpu=1.0))
    assert _decoded(history)["timestamps"] == [396000, 398000, 400000, 402000]


def test_models_are_bounded_and_inactive_ones_are_replaced() -> None:
    """At most a hundred; a new model replaces one without recent requests, if there is one."""
    history = History(600, 2)
    busy = {f"s/m{number}": 1.0 for number in range(MAX_MODELS + 5)}
    history.add(1000.0, _message(models=busy))
    assert len(_decoded(history)["models"]) == MAX_MODELS
    history.add(1002.0, _message(models={**busy, "s/new": 1.0}))
    assert "s/new" not in _decoded(history)["models"]
    for when in (1004.0, 1006.0):
        history.add(when, _message(models={"s/new": 1.0}))
    models = _decoded(history)["models"]
    assert len(models) == MAX_MODELS
    assert models["s/new"]["p50"][-1] == 1.0


def test_a_model_without_requests_in_the_whole_history_is_removed() -> None:
    """An item without numbers in any row uses no memory."""
    history = History(60, 2)
    history.add(1000.0, _message(models={"s/m": 1.0}, gpus=1))
    for number in range(31):
        history.add(1002.0 + 2 * number, _message())
    decoded = _decoded(history)
    assert decoded["models"] == {}
    assert decoded["gpus"] == []


def test_memory_is_bounded() -> None:
    """A full history of the maximum size uses about max_bytes, and does not grow."""
    everything = _message(1.0, {f"s/m{number}": 1.0 for number in range(MAX_MODELS)}, gpus=MAX_GPUS)
    tracemalloc.start()
    history = History(360, 2)
    history.add(1000.0, everything)
    gc.collect()
    first, _ = tracemalloc.get_traced_memory()
    for number in range(1, 250):
        history.add(1000.0 + 2 * number, everything)
    gc.collect()
    last, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert History(3600, 2).max_bytes < 9e6
    assert first < history.max_bytes * 1.05 + 100_000
    assert last < first + 100_000
