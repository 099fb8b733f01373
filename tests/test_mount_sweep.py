from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from exporter.daemon_thread import running
from exporter.mount_sweep import MountSweep, _Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporter.daemon_thread import Thread

SOON = 0.2
LONG = 20.0


class Mounts:
    """Mounts of which some hang: each until it is released."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hanging = threading.Semaphore(0)
        self._gates: dict[str, threading.Event] = {}

    def hang(self, mount: str) -> None:
        """Let the next call for this mount hang."""
        self._gates[mount] = threading.Event()

    def release(self, mount: str) -> None:
        """Let the call return, and those to come."""
        self._gates.pop(mount).set()

    def release_all(self) -> None:
        """Let everything return."""
        for mount in list(self._gates):
            self.release(mount)

    def ask(self, mount: str) -> str:
        """Answer in capitals, when the mount does not hang."""
        self.asked.append(mount)
        gate = self._gates.get(mount)
        if gate is not None:
            self.hanging.release()
            gate.wait()
        return mount.upper()


@pytest.fixture
def mounts() -> Iterator[Mounts]:
    """Give mounts, all of which answer in the end."""
    mounts = Mounts()
    yield mounts
    mounts.release_all()
    join_walks()


def walks() -> list[Thread]:
    """Return the threads that ask mounts."""
    return [thread for thread in running() if thread.name == "mount-sweep"]


def join_walks() -> None:
    """Wait until no mount is being asked any more."""
    for thread in walks():
        assert thread.join(LONG)


def test_every_mount_is_asked_in_order(mounts: Mounts) -> None:
    """Each answer is the mount's own, and a mount that is named twice is asked once."""
    assert MountSweep(mounts.ask, LONG).measure(["a", "b", "a"]) == {"a": "A", "b": "B"}
    assert mounts.asked == ["a", "b"]


def test_no_mounts_no_thread(mounts: Mounts) -> None:
    """Without mounts there is nothing to ask and nobody to ask it."""
    assert MountSweep(mounts.ask, LONG).measure([]) == {}
    assert mounts.asked == []


def test_a_refusal_is_no_answer() -> None:
    """A mount that refuses says None; the next is asked, and the one that refused is asked again next time."""
    asked: list[str] = []

    def ask(mount: str) -> int:
        asked.append(mount)
        if mount == "a":
            raise PermissionError
        return 1

    sweep = MountSweep(ask, LONG)
    assert sweep.measure(["a", "b"]) == sweep.measure(["a", "b"]) == {"a": None, "b": 1}
    assert asked == ["a", "b", "a", "b"]


@pytest.mark.parametrize("stuck", ["a", "b", "c"], ids=["first", "middle", "last"])
def test_the_others_are_asked_when_one_hangs(stuck: str, mounts: Mounts) -> None:
    """Wherever in the row a mount hangs, all others answer."""
    mounts.hang(stuck)
    answers = MountSweep(mounts.ask, SOON).measure(["a", "b", "c"])
    assert answers == {name: None if name == stuck else name.upper() for name in "abc"}


def test_several_hang_at_once(mounts: Mounts) -> None:
    """A dead server takes several mounts with it: each costs one time-out once, and the living answer."""
    mounts.hang("a")
    mounts.hang("c")
    sweep = MountSweep(mounts.ask, SOON)
    assert sweep.measure(["a", "b", "c", "d"]) == {"a": None, "b": "B", "c": None, "d": "D"}
    assert len(walks()) == 2


def test_a_stuck_mount_is_not_asked_again(mounts: Mounts) -> None:
    """While its call hangs a mount is left alone: one call and one thread, however many scrapes there are."""
    mounts.hang("a")
    sweep = MountSweep(mounts.ask, SOON)
    for _ in range(20):
        assert sweep.measure(["a", "b"]) == {"a": None, "b": "B"}
    assert mounts.asked.count("a") == 1
    assert len([thread for thread in walks() if thread.is_alive()]) <= 2  # the stuck one, and one on its way out


def test_a_mount_that_is_stuck_alone_starts_no_thread(mounts: Mounts) -> None:
    """When every mount is stuck there is nothing to do."""
    mounts.hang("a")
    sweep = MountSweep(mounts.ask, SOON)
    for _ in range(5):
        assert sweep.measure(["a"]) == {"a": None}
    assert len(walks()) == 1


def test_a_mount_that_answers_again_is_asked_again(mounts: Mounts) -> None:
    """Once the call that hung has returned the mount is measured like any other; the late answer is dropped."""
    mounts.hang("a")
    sweep = MountSweep(mounts.ask, SOON)
    sweep.measure(["a", "b"])
    mounts.release("a")
    join_walks()
    assert sweep.measure(["a", "b"]) == {"a": "A", "b": "B"}
    assert mounts.asked == ["a", "b", "a", "b"]


def test_a_mount_that_hangs_again_is_stuck_again(mounts: Mounts) -> None:
    """Coming back once is no licence."""
    sweep = MountSweep(mounts.ask, SOON)
    for _ in range(2):
        mounts.hang("a")
        assert sweep.measure(["a", "b"]) == {"a": None, "b": "B"}
        mounts.release("a")
        join_walks()
    assert sweep.measure(["a"]) == {"a": "A"}


def test_a_refusal_after_a_hang_frees_the_mount() -> None:
    """A dead mount's call often ends in an error: that frees it as an answer would."""
    gate = threading.Event()
    calls: list[str] = []

    def ask(mount: str) -> str:
        calls.append(mount)
        if len(calls) == 1:
            gate.wait()
            raise TimeoutError
        return mount.upper()

    sweep = MountSweep(ask, SOON)
    assert sweep.measure(["a"]) == {"a": None}
    gate.set()
    join_walks()
    assert sweep.measure(["a"]) == {"a": "A"}


def test_a_call_that_returns_at_the_last_moment_frees_its_mount(mounts: Mounts) -> None:
    """A call that returns just after it was given up ends its thread there: the mount is free, the next not asked."""
    mounts.hang("a")
    stuck: set[str] = set()
    run = _Run(mounts.ask, ["a", "b"], stuck)
    assert run.wait(SOON) == "a"
    assert stuck == {"a"}
    mounts.release("a")
    join_walks()
    assert stuck == set()
    assert mounts.asked == ["a"]


def test_a_slow_mount_is_not_stuck(mounts: Mounts) -> None:
    """A mount that answers late, but in time, has answered, and the sweep goes on as soon as it has."""
    mounts.hang("a")
    mounts.hang("b")
    sweep = MountSweep(mounts.ask, LONG)
    answers: list[dict[str, str | None]] = []
    measuring = threading.Thread(target=lambda: answers.append(sweep.measure(["a", "b"])))
    began = time.monotonic()
    measuring.start()
    for name in ("a", "b"):
        assert mounts.hanging.acquire(timeout=LONG)
        mounts.release(name)
    measuring.join(LONG)
    assert time.monotonic() - began < LONG / 2
    assert answers == [{"a": "A", "b": "B"}]


def test_a_call_that_really_hangs_in_the_kernel(tmp_path: Path) -> None:
    """A system call that blocks (opening a FIFO that nobody writes to) is given up like any other."""
    fifo, folder = tmp_path / "fifo", tmp_path / "folder"
    os.mkfifo(fifo)
    folder.mkdir()

    def ask(path: str) -> str:
        os.close(os.open(path, os.O_RDONLY))
        return "opened"

    sweep = MountSweep(ask, SOON)
    assert sweep.measure([str(fifo), str(folder)]) == {str(fifo): None, str(folder): "opened"}
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)  # fails unless a reader is there, waiting
    join_walks()
    assert sweep.measure([str(fifo), str(folder)]) == {str(fifo): "opened", str(folder): "opened"}
    os.close(writer)
