"""The numbers of the last hour, so that a page can show the time before it was opened."""

from __future__ import annotations

import gzip
import json
import math
import threading
from array import array
from typing import TYPE_CHECKING, Literal

from modelhost_exporter.live.ring_buffer import BYTES_PER_NUMBER, RingBuffer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from modelhost_exporter.live.message import LiveMessage, ModelMessage

MAX_GPUS = 32
MAX_MODELS = 100

_SERIES = (
    *("cpuUsage", "memoryUsage", "memoryUsed", "networkIn", "networkOut"),
    *("requestsPerSecond", "avgResponseTime", "p50", "p95", "p99", "errorRate"),
)
_GPU_SERIES: tuple[Literal["usage", "memoryUsed", "temperature"], ...] = ("usage", "memoryUsed", "temperature")
_MODEL_SERIES: tuple[Literal["p50", "p95", "p99", "requestsPerSecond", "tokensPerSecond"], ...] = (
    *("p50", "p95", "p99"),
    *("requestsPerSecond", "tokensPerSecond"),
)
_DECIMALS = 3
_GZIP_LEVEL = 1
_MACHINE = ""


class History:
    """Columns of numbers with a row for each message; thread-safe."""

    def __init__(self, seconds: float, interval_seconds: float) -> None:
        """Start empty, with room for ``seconds`` of messages that arrive every ``interval_seconds``."""
        self.seconds = seconds
        self._interval = interval_seconds
        self._rows = int(seconds / interval_seconds) + 1
        self._written = 0
        self._times = array("d", [0.0]) * self._rows
        self._machine = RingBuffer(_SERIES, self._rows, 1)
        self._gpus = RingBuffer(_GPU_SERIES, self._rows, MAX_GPUS)
        self._models = RingBuffer(_MODEL_SERIES, self._rows, MAX_MODELS)
        self._lock = threading.Lock()

    @property
    def max_bytes(self) -> int:
        """Upper bound of the memory of the columns."""
        columns = 1 + len(_SERIES) + MAX_GPUS * len(_GPU_SERIES) + MAX_MODELS * len(_MODEL_SERIES)
        return columns * self._rows * BYTES_PER_NUMBER

    def add(self, when: float, message: LiveMessage) -> None:
        """Append the numbers of a message; ``when`` is its time in seconds since 1970."""
        with self._lock:
            self._keep_times_ascending(when)
            self._times[self._written % self._rows] = when
            self._machine.put(self._written, {_MACHINE: _series_of(message)})
            self._gpus.put(
                self._written, {gpu["id"]: {name: gpu[name] for name in _GPU_SERIES} for gpu in message["gpus"]}
            )
            models = [model for model in message["models"] if _had_requests(model)]
            self._models.put(
                self._written, {model["id"]: {name: model[name] for name in _MODEL_SERIES} for model in models}
            )
            self._written += 1

    def encode(self) -> bytes:
        """Return the history as JSON: timestamps (ms since 1970) and columns as long as these, the oldest row first."""
        with self._lock:
            times = self._times_in_order()
            skipped = next((index for index, at in enumerate(times) if at >= times[-1] - self.seconds), 0)
            rings = [ring.columns(self._written, skipped) for ring in (self._machine, self._gpus, self._models)]
        machine, gpus, models = rings
        parts = {
            "interval": json.dumps(self._interval),
            "timestamps": _array(round(at * 1e3) for at in times[skipped:]),
            "series": _columns(machine.get(_MACHINE) or dict.fromkeys(_SERIES, _unknown(len(times) - skipped))),
            "gpus": f"[{','.join(_gpu(name, columns) for name, columns in gpus.items())}]",
            "models": _object({name: _columns(columns) for name, columns in models.items()}),
        }
        return _object(parts).encode()

    def encode_zipped(self) -> bytes:
        """Return the same, compressed with gzip."""
        return gzip.compress(self.encode(), _GZIP_LEVEL, mtime=0)

    def _keep_times_ascending(self, when: float) -> None:
        """Shift the earlier times when the clock was set back."""
        if not self._written:
            return
        last = self._times[(self._written - 1) % self._rows]
        if when <= last:
            moved = when - self._interval - last
            self._times = array("d", [at + moved for at in self._times])

    def _times_in_order(self) -> array[float]:
        if self._written <= self._rows:
            return self._times[: self._written]
        start = self._written % self._rows
        return self._times[start:] + self._times[:start]


def _unknown(rows: int) -> array[float]:
    return array("d", [math.nan]) * rows


def _series_of(message: LiveMessage) -> dict[str, float | None]:
    network, requests = message["networkStats"], message["apiStats"]
    return {
        "cpuUsage": message["cpuUsage"],
        "memoryUsage": message["memoryUsage"],
        "memoryUsed": message["memoryUsed"],
        "networkIn": network["bytesInPerSecond"],
        "networkOut": network["bytesOutPerSecond"],
        "requestsPerSecond": requests["requestsPerSecond"] if requests["rateSeconds"] else None,
        "avgResponseTime": requests["avgResponseTime"] if requests["recentRequests"] else None,
        "p50": requests["p50"],
        "p95": requests["p95"],
        "p99": requests["p99"],
        "errorRate": requests["errorRate"] if requests["eligibleRequests"] else None,
    }


def _had_requests(model: ModelMessage) -> bool:
    return model["p50"] is not None or bool(model["requestsPerSecond"])


# Encoded column by column: one json.dumps() of everything would hold the interpreter and stall all other threads.


def _array(values: Iterable[object]) -> str:
    return json.dumps(list(values), separators=(",", ":"))


def _numbers(column: Iterable[float]) -> Iterator[float | None]:
    for value in column:
        yield round(value, _DECIMALS) if value == value else None  # noqa: PLR0124 - NaN is not itself


def _columns(columns: Mapping[str, Iterable[float]]) -> str:
    return _object({field: _array(_numbers(column)) for field, column in columns.items()})


def _gpu(name: str, columns: Mapping[str, Iterable[float]]) -> str:
    return _object({"id": json.dumps(name), **{field: _array(_numbers(column)) for field, column in columns.items()}})


def _object(parts: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{part}" for name, part in parts.items()) + "}"
