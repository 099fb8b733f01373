"""Polling of simulated model servers, scheduled by the simulated clock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.demo.catalogue import KINDS
from modelhost_exporter.engines.pages import NotServed
from modelhost_exporter.engines.polling.pollers import pause
from modelhost_exporter.gpu.usage_cache import GpuUse

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from modelhost_exporter.demo.world import SimulatedWorld

_PAGE_SECONDS, _BUSY_SECONDS = 0.002, 0.0003  # response time of a page, and its increase per running request
_EVEN = 0.5
_OK = json.dumps({"choices": [{"finish_reason": "length"}], "data": [{"embedding": [0.0]}]}).encode()


class _Job(NamedTuple):
    """An action that is repeated."""

    due: float
    action: Callable[[], bool]
    interval: float
    stopped: threading.Event
    close: Callable[[], None]
    failures: int = 0


class Polls:
    """A scheduler that runs due actions in the thread that advances the world, so that runs are reproducible."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._jobs: list[_Job] = []

    def schedule(  # noqa: PLR0913 - as run_schedule
        self,
        action: Callable[[], bool],
        interval_seconds: float,
        stopped: threading.Event,
        name: str,
        close: Callable[[], None],
        *,
        at_once: bool = True,
    ) -> None:
        """Schedule an action at once, or after an interval, and then at every interval."""
        del name
        due = self._clock() + (0.0 if at_once else interval_seconds)
        self._jobs.append(_Job(due, action, interval_seconds, stopped, close))

    def run_due(self) -> None:
        """Run all due actions, and drop stopped ones."""
        now, jobs = self._clock(), self._jobs
        self._jobs = []
        for job in jobs:
            if job.stopped.is_set():
                job.close()
            elif job.due > now:
                self._jobs.append(job)
            else:
                failures = 0 if job.action() else job.failures + 1
                again = now + pause(job.interval, failures, _EVEN)
                self._jobs.append(job._replace(due=again, failures=failures))


class SimulatedClient:
    """An HTTP client of one simulated server, found by its port."""

    def __init__(self, world: SimulatedWorld, url: str) -> None:
        self._world = world
        port = int(url.rpartition(":")[2])
        self._engine = next(engine for engine in world.engines if engine.spec.port == port)

    def get(self, path: str) -> bytes:
        """Return a page in the format of the server's kind."""
        self._reach()
        write = KINDS[self._engine.spec.kind].PAGES.get(path)
        if write is None:
            raise NotServed(f"{path} answers 404", 404)
        return write(self._engine, self._world.now)

    def post(self, path: str, body: bytes) -> bytes:
        """Return the response to a request for one token."""
        del path
        self._reach()
        wanted = json.loads(body)["model"]
        model = next(model for model in self._engine.models if model.name == wanted)
        self._world.clock.spend(0.02 + model.token_seconds * self._engine.slowness)
        return _OK

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _reach(self) -> None:
        self._world.clock.spend(_PAGE_SECONDS + _BUSY_SECONDS * len(self._engine.requests))
        if not self._engine.up:
            raise ConnectionRefusedError("connection refused")


def gpu_uses(world: SimulatedWorld) -> Mapping[str, GpuUse]:
    """Return each GPU's energy, and the memory of the processes on it."""
    return {
        card.uuid: GpuUse(card.joules, {pid: float(held) for pid, held in card.processes})
        for card in world.cards
        if card.on_bus
    }
