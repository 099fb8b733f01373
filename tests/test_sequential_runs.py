"""Functions that are well run one after another in one thread; those that are not delay no other."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from modelhost_exporter.process import daemon_thread
from modelhost_exporter.process.run import SingleRun
from modelhost_exporter.sequential_runs import start, start_in_order
from modelhost_exporter.threads import Pool
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_START = 0.02


def later(seconds: float = 10.0) -> float:
    """Return a moment in some seconds."""
    return time.monotonic() + seconds


def test_one_thread_runs_all_that_are_well() -> None:
    """They run in order, in a thread that is not the caller's, and stays for the next ones."""
    pool = Pool("well", kept=1)
    functions = [(number, SingleRun(threading.get_ident)) for number in range(20)]
    for _ in range(3):
        runs = start_in_order(functions, pool, HEAD_START, later())
        assert list(runs) == list(range(20))
        assert all(run.wait(0) for run in runs.values())
        wait_until(lambda: pool._idle == 1, "the thread waits for more", every=0.001)
    assert len({run.value for run in runs.values()}) == 1
    assert runs[0].value != threading.get_ident()
    assert daemon_thread.names().count("well") == 1


def test_what_is_slow_is_left_behind() -> None:
    """The rest go on in another thread; the slow one is not started again, and ends in its own."""
    pool = Pool("left-behind", kept=1)
    release, calls = threading.Event(), []

    def hang() -> int:
        calls.append(1)
        release.wait(20)
        return threading.get_ident()

    functions: dict[str, SingleRun[int]] = {
        "first": SingleRun(threading.get_ident),
        "slow": SingleRun(hang),
        "next": SingleRun(threading.get_ident),
        "last": SingleRun(threading.get_ident),
    }
    runs = start_in_order(functions.items(), pool, HEAD_START, later())
    assert runs["next"].wait(10)
    assert runs["last"].wait(10)
    assert runs["next"].value == runs["last"].value != runs["first"].value
    again = start_in_order(functions.items(), pool, HEAD_START, later())
    assert again["slow"] is runs["slow"]
    assert again["last"].wait(10)
    release.set()
    assert runs["slow"].wait(10)
    assert runs["slow"].value == runs["first"].value
    assert len(calls) == 1


def test_when_the_time_is_over_all_start_at_once() -> None:
    """However many hang, the caller waits no longer than that."""
    pool, release = Pool("hanging", kept=1), threading.Event()
    begun = threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        release.wait(20)

    began = time.monotonic()
    start_in_order([(number, SingleRun(hang)) for number in range(50)], pool, 0.05, later(0.1))
    assert time.monotonic() - began < 50 * 0.05 / 2
    try:
        assert all(begun.acquire(timeout=10) for _ in range(50))
    finally:
        release.set()


def test_a_failure_costs_only_its_own_run() -> None:
    """An exception, whatever its kind, is kept in its run; without memory a run has no end, and the next does."""

    def raising(error: BaseException) -> Callable[[], int]:
        def fail() -> int:
            raise error

        return fail

    pool = Pool("failing", kept=1)
    errors = [ValueError(), SystemExit(), MemoryError()]
    functions = [*((error, SingleRun(raising(error))) for error in errors), (None, SingleRun(lambda: 1))]
    runs = start_in_order(functions, pool, HEAD_START, later())
    assert [runs[error].error for error in errors] == errors
    assert runs[None].wait(10)
    assert runs[None].value == 1


def test_without_a_thread_left_all_fail_and_are_tried_again() -> None:
    """The next start has the thread that is there again."""

    class Machine:
        is_full = True

        def new(self, work: Callable[[], object], name: str) -> daemon_thread.Thread:
            """Return a thread; raises while there is none."""
            if self.is_full:
                raise RuntimeError("can't start new thread")
            return daemon_thread.Thread(work, name)

    machine = Machine()
    pool = Pool("none-left", kept=1, new_thread=machine.new)
    functions = [(number, SingleRun(lambda: 1)) for number in range(3)]
    runs = start_in_order(functions, pool, HEAD_START, later())
    assert [str(run.error) for run in runs.values()] == ["can't start new thread"] * 3
    assert str(start(functions[0][1], pool).error) == "can't start new thread"
    machine.is_full = False
    again = start_in_order(functions, pool, HEAD_START, later())
    assert [run.wait(10) and run.value for run in again.values()] == [1, 1, 1]


def test_a_queued_run_does_not_wait_for_the_one_who_asked_first() -> None:
    """Who shares a run that waits behind a slow one of another caller starts it; it is executed once."""
    pool, release, begun, calls = Pool("shared", kept=1), threading.Event(), threading.Event(), []

    def hang() -> None:
        begun.set()
        release.wait(20)

    slow: SingleRun[None] = SingleRun(hang)
    wanted: SingleRun[None] = SingleRun(lambda: calls.append(1))
    first = threading.Thread(
        target=start_in_order, args=([("slow", slow), ("wanted", wanted)], pool, 20, later(20)), daemon=True
    )
    first.start()
    assert begun.wait(10)
    run = start_in_order([("wanted", wanted)], pool, HEAD_START, later())["wanted"]
    try:
        assert run.wait(5)
        assert wanted.begin().run is not run
    finally:
        release.set()
    first.join(10)
    assert calls == [1]


def test_a_run_that_was_never_executed_is_by_the_next_who_asks() -> None:
    """A caller that fails between asking and executing, for lack of memory, costs no later run; nor after a reload."""
    pool = Pool("abandoned", kept=1)
    one = SingleRun(lambda: "old")
    abandoned = one.begin().run
    assert start(one, pool) is abandoned
    assert abandoned.wait(10)
    wait_until(lambda: pool._idle == 1, "the thread waits for more", every=0.001)
    queued = one.begin().run
    replacement = SingleRun(lambda: "new", before=one)
    assert start(replacement, pool) is queued
    assert queued.wait(10)
    assert queued.value == "old"
    run = start(replacement, pool)
    assert run.wait(10)
    assert run.value == "new"


def test_a_caller_without_a_thread_does_not_fail_the_run_of_another() -> None:
    """The other one's thread executes it."""

    def full(_work: Callable[[], object], _name: str) -> daemon_thread.Thread:
        raise RuntimeError("can't start new thread")

    one = SingleRun(lambda: 1)
    asked = one.begin()
    assert start(one, Pool("full", kept=1, new_thread=full)) is asked.run
    assert not asked.run.is_finished()
    one.execute(asked.run)
    assert asked.run.value == 1
