"""Cost of the live feed: without viewers, with one, with a hundred, and of a message of maximum size.

Run from the repository's root: ``python -m benchmarks.live``. Shares of a core are user and system time of the
exporter's process divided by wall time; viewers are connections of this process that read everything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from benchmarks.measuring import EXPORTER, Program, event_loop, exporter, machine, table, verdict, version
from modelhost_exporter.live.history import History
from modelhost_exporter.live.last_minute import LastMinute
from modelhost_exporter.live.message_builder import MessageConstants
from modelhost_exporter.live.meter import INTERVAL_SECONDS, MachineReading, Meter
from modelhost_exporter.live.request_totals import RequestTotals
from modelhost_exporter.live.token_progress import TokenProgress
from modelhost_exporter.requests.metrics import RequestMetrics
from modelhost_exporter.requests.observation import RequestLabels, RequestObservation, Tokens
from modelhost_exporter.requests.series_by_model import chunks_by_model, in_flight_by_model
from modelhost_exporter.requests.slo import Objectives

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_VIEWERS = 100
_MAX_PERCENT = 1.0
_MODELS = 100
_KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
_UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", _KEY)


class Kind(NamedTuple):
    """A type of viewer: its request, and the bytes that start each message."""

    name: str
    path: str
    fields: Sequence[str]
    mark: bytes


_KINDS = (
    Kind("WebSocket", "/metrics", _UPGRADE, b'{"timestamp"'),
    Kind("events", "/api/live", (), b"event: message"),
)


class Viewer(asyncio.Protocol):
    """A viewer that counts messages."""

    def __init__(self, request: bytes, mark: bytes) -> None:
        self.messages = 0
        self._request = request
        self._mark = mark

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count messages."""
        self.messages += data.count(self._mark)


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    print(f"{version(*EXPORTER)}, {event_loop()}\n{machine()}\n{arguments.seconds:g} s each\n")
    rows = [["", "share of a core", "to reach"]]
    with _without_history() as program:
        rows.append(["nobody watches, history off", _shown(asyncio.run(_share(program, 0, arguments.seconds))), ""])
        for kind in _KINDS:
            one, many = (asyncio.run(_share(program, count, arguments.seconds, kind)) for count in (1, _VIEWERS))
            more = many - one
            rows += [
                [f"1 viewer, {kind.name}", _shown(one), ""],
                [f"{_VIEWERS} viewers, {kind.name}", _shown(many), ""],
                [
                    "  more than one",
                    _shown(more),
                    f"{verdict(reached=more < _MAX_PERCENT)} (below {_MAX_PERCENT:g} %)",
                ],
            ]
    with exporter() as program:
        rows.append(["nobody watches, history on", _shown(asyncio.run(_share(program, 0, arguments.seconds))), ""])
    print(table([*rows, *_messages()]))


@contextlib.contextmanager
def _without_history() -> Iterator[Program]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("live: {history: false}\n")
        file.flush()
        with exporter(f"--config.file={file.name}") as program:
            yield program


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each is measured (default 30)")
    return parser.parse_args()


async def _share(program: Program, viewers: int, seconds: float, kind: Kind = _KINDS[0]) -> float:
    """Return the exporter's share of a core in percent for a number of viewers."""
    url = urlsplit(program.url)
    request = "\r\n".join((f"GET {kind.path} HTTP/1.1", f"Host: {url.netloc}", *kind.fields, "", "")).encode()
    loop = asyncio.get_running_loop()
    pairs = [
        await loop.create_connection(lambda: Viewer(request, kind.mark), url.hostname or "", url.port or 0)
        for _ in range(viewers)
    ]
    await asyncio.sleep(2 * INTERVAL_SECONDS)
    before, began = program.cpu_seconds(), time.monotonic()
    await asyncio.sleep(seconds)
    share = (program.cpu_seconds() - before) / (time.monotonic() - began)
    fewest = min((viewer.messages for _, viewer in pairs), default=None)
    for transport, _ in pairs:
        transport.close()
    await asyncio.sleep(2 * INTERVAL_SECONDS)
    if fewest is not None and fewest < seconds / INTERVAL_SECONDS:
        raise SystemExit(f"a viewer had {fewest} messages only")
    return share * 100


def _messages() -> list[list[str]]:
    """Return the cost of a message about many models, and of an hour of history."""
    registry = CollectorRegistry()
    totals, minute, progress = RequestTotals(), LastMinute(), TokenProgress()
    metrics = RequestMetrics(registry, (totals.add, minute.add, progress.add))
    observed = RequestObservation(
        RequestLabels("s", "m0", "chat"),
        stream=True,
        outcome="ok",
        code="200",
        duration=0.3,
        time_to_first_token=0.1,
        tokens=Tokens(output=9),
    )
    history = History(3600.0, INTERVAL_SECONDS)
    clock = iter(range(0, 1 << 20, INTERVAL_SECONDS))
    meter = Meter(
        lambda: MachineReading(
            *((), (), totals.by_model(), in_flight_by_model(registry), progress.read(chunks_by_model(registry))),
            *(minute.all_models(), minute.by_model()),
        ),
        MessageConstants.of_this_exporter(INTERVAL_SECONDS, demo=False),
        clock=lambda: next(clock),
    )
    taken = []
    for _ in range(100):
        for number in range(_MODELS):
            labels = RequestLabels("s", f"m{number}", "chat")
            metrics.record(observed._replace(labels=labels), Objectives())
        before = time.process_time()
        timed = meter.measure()
        history.add(*timed)
        message = json.dumps(timed.message)
        taken.append((time.process_time() - before) * 1e3)
    before = time.process_time()
    encoded = history.encode()
    return [
        [f"message about {_MODELS} busy models, {len(message) / 1e3:.0f} kB", f"{statistics.median(taken):.1f} ms", ""],
        [f"history of {len(taken)} such messages as JSON", f"{(time.process_time() - before) * 1e3:.0f} ms", ""],
        ["  its size", f"{len(encoded) / 1e3:.0f} kB", ""],
        ["  memory of an hour at most", f"{history.max_bytes / 1e6:.1f} MB", ""],
    ]


def _shown(percent: float) -> str:
    return f"{percent:.2f} %"


if __name__ == "__main__":
    main()
