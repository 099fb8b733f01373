"""Tests of threads that run an action periodically."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from modelhost_exporter.process.periodic_thread import PeriodicThread, WakeableEvent
from tests.support.programs import wait_until

if TYPE_CHECKING:
    import pytest


def test_a_thread_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error is logged once and costs one run."""
    calls = threading.Semaphore(0)

    def fail() -> None:
        calls.release()
        raise ValueError("never seen before")

    thread = PeriodicThread(fail, lambda _: 0.001, "sampling")
    assert all(calls.acquire(timeout=10) for _ in range(3))
    thread.stop()
    assert thread.join(10)
    assert [record.getMessage() for record in caplog.records] == ["a periodic task failed; it is run again"]


def test_a_pause_can_be_ended() -> None:
    """A thread that pauses for an hour runs at once when it is woken, and goes on."""
    runs = threading.Semaphore(0)
    stopped = WakeableEvent()
    thread = PeriodicThread(runs.release, lambda _: 3600.0, "polls", stopped=stopped)
    assert runs.acquire(timeout=10)

    def runs_again() -> bool:
        stopped.wake()  # of no effect before the pause begins
        return runs.acquire(blocking=False)

    wait_until(runs_again, "another run", every=0.01)
    assert not stopped.is_set()
    thread.stop()
    assert thread.join(10)


def test_pauses_depend_on_the_failures_in_a_row() -> None:
    """A run that raises or returns False is a failure; any other result, None included, ends the series."""
    results: list[object] = [False, ValueError("unexpected"), None, True, False]
    failures: list[int] = []
    stopped, closed = threading.Event(), threading.Event()

    def act() -> object:
        result = results.pop(0)
        if not results:
            stopped.set()
        if isinstance(result, Exception):
            raise result
        return result

    def pause(failed: int) -> float:
        failures.append(failed)
        return 0.0

    thread = PeriodicThread(act, pause, "pausing", stopped=stopped, at_once=False, close=closed.set)
    assert thread.join(10)
    assert failures == [0, 1, 2, 0, 0, 1]
    assert closed.is_set()
    assert not thread.is_alive()


def test_running_out_of_memory_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """It is a failure that is not logged: a log line would need memory too."""
    runs: list[int] = []
    stopped = threading.Event()

    def act() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise MemoryError
        stopped.set()

    assert PeriodicThread(act, lambda _: 0.0, "starving", stopped=stopped).join(10)
    assert len(runs) == 2
    assert caplog.records == []
