"""Daemon threads and the one-at-a-time worker."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter import sequential_runs, threads
from modelhost_exporter.process import daemon_thread, executor
from modelhost_exporter.process.run import Run, SingleRun
from modelhost_exporter.process.worker import Worker
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


async def test_call_returns_the_result() -> None:
    """A call returns the function's result, computed in another thread."""
    assert await threads.call(threading.get_ident) != threading.get_ident()


async def test_call_raises_what_the_function_raised() -> None:
    """An error in the thread is raised to the caller."""
    with pytest.raises(ZeroDivisionError):
        await threads.call(lambda: 1 // 0)


async def test_a_cancelled_call_drops_the_late_result() -> None:
    """Cancelling returns at once; the thread's late result is dropped."""
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
    release, begun = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        release.wait(10)

    pool = threads.Pool("lonely", kept=0)

    async def leave() -> None:
        threads.call(slow, pool)

    asyncio.run(leave())
    assert begun.wait(10)
    release.set()
    wait_until(lambda: "lonely" not in daemon_thread.names(), "its thread has ended")


class Machine:
    """A machine that has no thread left for a while; ``dying``: its new threads run out of memory at once."""

    def __init__(self) -> None:
        self.is_full = False
        self.dying = False

    def new(self, work: Callable[[], object], name: str) -> daemon_thread.Thread:
        """Return a thread that starts, fails to start, or dies before it begins."""
        machine = self

        class Thread(daemon_thread.Thread):
            def start(self, wait_seconds: float | None = None) -> None:
                if machine.is_full:
                    raise RuntimeError("can't start new thread")
                if not machine.dying:
                    super().start(wait_seconds)

        return Thread(work, name)

    def start(self, work: Callable[[], object], name: str) -> daemon_thread.Thread:
        """Start a thread and wait until it has begun."""
        thread = self.new(work, name)
        thread.start(10)
        return thread


def test_without_a_thread_left_a_run_fails_and_the_next_is_tried() -> None:
    """A thread that cannot be started fails that run only; once threads are there again the worker works."""
    machine = Machine()
    machine.is_full = True
    worker = Worker(threading.get_ident, "worker", start_thread=machine.start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        worker.prepare()
    refused = worker.start()
    assert refused.wait(0)
    assert str(refused.error) == "can't start new thread"
    machine.is_full = False
    run = worker.start()
    assert run.wait(10)
    assert run.error is None
    worker.close()


def test_a_worker_shares_the_run_under_way() -> None:
    """A start during a run returns that run, and the function runs once."""
    release = threading.Event()
    worker = Worker(lambda: release.wait(10), "worker")
    first, second = worker.start(), worker.start()
    assert first is second
    release.set()
    assert first.wait(10)
    worker.close()


def test_a_worker_keeps_its_thread_for_the_next_run() -> None:
    """Runs one after the other happen in one thread."""
    worker = Worker(threading.get_ident, "worker")
    runs = []
    for _ in range(3):
        run = worker.start()
        assert run.wait(10)
        runs.append(run.value)
    worker.close()
    assert len(set(runs)) == 1


def test_a_prepared_worker_needs_no_new_thread() -> None:
    """Once its thread is there, a worker runs on a machine without a free thread."""
    machine = Machine()
    worker = Worker(threading.get_ident, "worker", start_thread=machine.start)
    worker.prepare()
    machine.is_full = True
    run = worker.start()
    assert run.wait(10)
    assert run.error is None
    worker.close()


def test_a_worker_survives_the_end_of_its_thread() -> None:
    """A thread that died is replaced with the next run."""
    worker = Worker(threading.get_ident, "dying-worker")
    worker.prepare()
    worker._queue.put(None)
    wait_until(lambda: "dying-worker" not in daemon_thread.names(), "the thread has ended")
    assert worker.start().wait(10)
    worker.close()


def test_a_finished_run_is_never_shared() -> None:
    """A run that failed before the function was called (no memory for its frame) is followed by another."""
    worker = Worker(threading.get_ident, "worker")
    failed: Run[int] = Run()
    failed.fail(MemoryError())
    worker._function._current = failed
    run = worker.start()
    assert run.wait(10)
    assert run.error is None
    worker.close()


def test_a_run_that_was_never_queued_is_started_by_the_next() -> None:
    """A start that runs out of memory before its run is queued does not end the worker."""
    worker = Worker(threading.get_ident, "worker")
    lost = worker._function.begin().run
    assert worker.start() is lost
    assert lost.wait(10)
    worker.close()


async def test_a_pool_without_a_thread_left_answers_in_those_it_has() -> None:
    """Calls one after the other go on; one more than there are threads is an error at once; later all is well."""
    machine = Machine()
    pool = threads.Pool("full-pool", kept=1, new_thread=machine.new)
    pool.prepare()
    machine.is_full = True
    release, begun = threading.Event(), threading.Event()

    def slow() -> bool:
        begun.set()
        return release.wait(10)

    for _ in range(3):
        assert await threads.call(lambda: 1, pool) == 1
        wait_until(lambda: pool._idle == 1, "its thread waits for the next call", every=0.001)
    waiting = threads.call(slow, pool)
    assert begun.wait(10)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        threads.call(lambda: 1, pool)
    machine.is_full = False
    assert await threads.call(lambda: 2, pool) == 2
    release.set()
    assert await waiting


async def test_a_thread_that_dies_before_it_begins_loses_no_call() -> None:
    """The next thread runs the call."""
    machine = Machine()
    pool = threads.Pool("dying-pool", kept=0, new_thread=machine.new)
    machine.dying = True
    lost = threads.call(lambda: 1, pool)
    machine.dying = False
    assert await threads.call(lambda: 2, pool) == 2
    assert await asyncio.wait_for(lost, 10) == 1


def test_a_call_without_the_memory_to_begin_is_tried_again() -> None:
    """The call is repeated, and runs once."""

    class Starved:
        """A call that runs out of memory before its first line."""

        begun = False

        def __init__(self) -> None:
            self.attempts = 0

        def __call__(self) -> None:
            self.attempts += 1
            if self.attempts < 3:
                raise MemoryError
            self.begun = True

    pool = threads.Pool("starved-pool", kept=0)
    job = Starved()
    pool.submit(job)
    wait_until(lambda: pool.finished == 1, "it has run")
    wait_until(lambda: "starved-pool" not in daemon_thread.names(), "the thread has ended")
    assert job.attempts == 3


async def test_a_pool_shrinks_to_what_it_keeps() -> None:
    """Threads started for many simultaneous calls end after them, except those that are kept."""
    pool = threads.Pool("wide-pool", kept=2)
    barrier = threading.Barrier(10, timeout=10)
    await asyncio.gather(*(threads.call(barrier.wait, pool) for _ in range(10)))
    wait_until(lambda: daemon_thread.names().count("wide-pool") == 2, "two threads are left")


def test_a_start_that_never_begins_is_an_error() -> None:
    """Where the new thread dies before its first line, start() raises instead of waiting for ever."""
    thread = daemon_thread.Thread(lambda: None, "unborn")
    thread._run = lambda: None  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match=r"it has not begun within 0\.05 s"):
        thread.start(0.05)


async def test_the_default_executor_looks_names_up_in_these_threads() -> None:
    """What asyncio runs in its default executor does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    executor.use_for_name_look_ups(loop)
    assert await loop.run_in_executor(None, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, lambda: 1 // 0)


class Payload:
    """Something that an error keeps alive through its frames."""


def test_a_failed_run_keeps_no_frame() -> None:
    """A failed function's local objects are freed at once, without a garbage collection."""
    seen: list[weakref.ref[Payload]] = []

    def fail() -> None:
        payload = Payload()
        seen.append(weakref.ref(payload))
        try:
            int("inner")
        except ValueError as error:
            raise OSError("outer") from error

    with without_garbage_collection():
        worker = Worker(fail, "worker")
        run = worker.start()
        assert run.wait(10)
        assert isinstance(run.error, OSError)
        assert isinstance(run.error.__cause__, ValueError)
        worker.close()
        wait_until(lambda: seen[0]() is None, "nothing is kept")


async def test_a_failed_call_leaves_no_cycle() -> None:
    """An error that a call raised is free with its frames once it was handled."""
    seen: list[weakref.ref[Payload]] = []

    def fail() -> None:
        payload = Payload()
        seen.append(weakref.ref(payload))
        raise OSError("no")

    with without_garbage_collection():
        for _ in range(3):
            with contextlib.suppress(OSError):
                await threads.call(fail)
        await asyncio.sleep(0)  # the event loop lets go of the last one
        wait_until(lambda: all(ref() is None for ref in seen), "nothing is kept")


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Switch the cyclic garbage collection off."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_thousands_of_replacements_wait_for_a_run_that_hangs() -> None:
    """As many reloads may come while a collector hangs; its run is found without a recursion."""
    release = threading.Event()
    last = SingleRun(lambda: release.wait(10))
    run = sequential_runs.start(last, threads.Pool("hangs", kept=0))
    for _ in range(5000):
        last = SingleRun(lambda: release.wait(10), last)
    found = last.in_progress()
    assert found is not None
    assert last.begin().run is found.run is run
    release.set()


def test_a_thread_is_traced_like_those_of_threading() -> None:
    """Debuggers and coverage set a trace function for all threads that start from then on."""
    seen: list[str] = []

    def work() -> None:
        pass

    before = threading.gettrace()
    threading.settrace(lambda frame, *_: seen.append(frame.f_code.co_name))
    try:
        assert daemon_thread.start(work, "traced").join(20)
    finally:
        threading.settrace(before)
    assert "work" in seen
