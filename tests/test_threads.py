"""Daemon threads and the one-at-a-time worker."""

from __future__ import annotations

import asyncio
import threading

import pytest

from exporter import threads


async def test_call_returns_the_result() -> None:
    """What the function returns comes back, from another thread that is a daemon."""
    thread = await threads.call(threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon


async def test_call_raises_what_the_function_raised() -> None:
    """An error in the thread is the caller's."""
    with pytest.raises(ZeroDivisionError):
        await threads.call(lambda: 1 // 0)


async def test_a_cancelled_call_drops_the_late_result() -> None:
    """Cancelling returns at once; the thread's late result disturbs nobody."""
    release, ended = threading.Event(), threading.Event()

    def slow() -> None:
        release.wait(10)
        ended.set()

    future = threads.call(slow)
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    release.set()
    assert await threads.call(lambda: ended.wait(10))


def test_a_loop_that_is_gone_does_not_break_the_thread() -> None:
    """A call whose loop was closed meanwhile ends quietly."""
    release = threading.Event()
    started: list[threading.Thread] = []

    def slow() -> None:
        started.append(threading.current_thread())
        release.wait(10)

    async def leave() -> None:
        threads.call(slow)

    asyncio.run(leave())
    release.set()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def test_without_a_thread_left_a_run_fails_and_the_next_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that cannot be started fails that run only; once threads are there again the worker works."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    worker = threads.Worker(threading.get_ident, "worker")
    with monkeypatch.context() as no_threads:
        no_threads.setattr(threading.Thread, "start", refuse)
        refused = worker.start()
        assert refused.wait(0)
        assert str(refused.error) == "can't start new thread"
    run = worker.start()
    assert run.wait(10)
    assert run.error is None
    worker.close()


def test_a_worker_shares_the_run_under_way() -> None:
    """Whoever asks during a run gets that run, and the function runs once."""
    release = threading.Event()
    worker = threads.Worker(lambda: release.wait(10), "worker")
    first, second = worker.start(), worker.start()
    assert first is second
    release.set()
    assert first.wait(10)
    worker.close()


def test_a_worker_keeps_its_thread_for_the_next_run() -> None:
    """Runs one after the other happen in one thread."""
    worker = threads.Worker(threading.get_ident, "worker")
    runs = []
    for _ in range(3):
        run = worker.start()
        assert run.wait(10)
        runs.append(run.value)
    worker.close()
    assert len(set(runs)) == 1
