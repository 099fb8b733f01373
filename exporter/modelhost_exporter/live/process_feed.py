"""The processes as JSON for requests of the event loop, measured in a thread."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter import threads
from modelhost_exporter.process.worker import Worker

if TYPE_CHECKING:
    from modelhost_exporter.live.processes import ProcessSampler

_DEADLINE_SECONDS = 5.0
_MIN_INTERVAL_SECONDS = 2.0
_MAX_SHARE = 0.05
"""The share of a core that may be spent on measuring."""


class _Result(NamedTuple):
    """An encoded message, and until when it is shared (monotonic)."""

    body: bytes
    until: float


class ProcessFeed:
    """The processes as JSON, for requests of the event loop: one measurement at a time, in a thread of its own.

    A result is shared for two seconds, and longer where measuring takes long: on average it takes 5 % of a core.
    """

    def __init__(self, sampler: ProcessSampler, deadline_seconds: float = _DEADLINE_SECONDS) -> None:
        self._sampler = sampler
        self._worker = Worker(self._measure, "processes")
        self._deadline = deadline_seconds
        self._result: _Result | None = None
        self._pending: asyncio.Future[bytes] | None = None

    async def encoded(self) -> bytes:
        """Return the processes as JSON.

        Raises TimeoutError where measuring takes too long, RuntimeError where no thread is free, and the errors of the
        source.
        """
        if self._result is not None and time.monotonic() < self._result.until:
            return self._result.body
        if self._pending is None or self._pending.done():
            self._pending = threads.call(self._wait)
        return await asyncio.shield(self._pending)

    def close(self) -> None:
        """End the thread, once its measurement is done."""
        self._worker.close()

    def _wait(self) -> bytes:
        """Measure, or wait for the measurement in progress; at most until the deadline."""
        run = self._worker.start()
        if not run.wait(self._deadline):
            raise TimeoutError(f"the processes were not read within {self._deadline:g} s")
        if run.error is not None:
            raise run.error
        self._result = run.value
        return run.value.body

    def _measure(self) -> _Result:
        before = time.thread_time()
        body = json.dumps(self._sampler.measure(), allow_nan=False).encode()
        pause = max(_MIN_INTERVAL_SECONDS, (time.thread_time() - before) / _MAX_SHARE)
        return _Result(body, time.monotonic() + pause)
