from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, NoReturn

import pytest

from modelhost_exporter.parallel_reads import ParallelReads, Reading, _Result
from modelhost_exporter.process.daemon_thread import Thread, running
from modelhost_exporter.threads import Pool
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SOON = 0.2
LONG = 20.0
NOW = 1.8e9
ENDING_NAME = "reads-of-a-test"
ENDING = Pool(ENDING_NAME, kept=0)


class Source:
    """Reads a key as its capital letter; some keys are slow: each call for one returns when it is released."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.most_at_once = 0
        self._running = 0
        self._lock = threading.Lock()
        self._gates: dict[str, threading.Event] = {}

    def hang(self, *keys: str) -> None:
        """Hang in calls for these keys from now on."""
        for key in keys:
            self._gates[key] = threading.Event()

    def release(self, *keys: str) -> None:
        """Return from the calls for these keys, now and later."""
        for key in keys:
            self._gates.pop(key).set()

    def release_all(self) -> None:
        """Return from every call."""
        self.release(*self._gates)

    def read(self, key: str) -> str:
        """Return a capital, once the key does not hang."""
        with self._lock:
            self.calls.append(key)
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        gate = self._gates.get(key)
        if gate is not None:
            gate.wait(10 * LONG)  # longer than any test waits, or threads become free in the middle of it
        with self._lock:
            self._running -= 1
        return key.upper()


@pytest.fixture
def source() -> Iterator[Source]:
    """Return a source whose calls all return at the end of the test."""
    source = Source()
    yield source
    source.release_all()
    join_threads()


def threads() -> list[Thread]:
    """Return the threads that read."""
    return [thread for thread in running() if thread.name == ENDING_NAME]


def join_threads() -> None:
    """Wait until nothing is being read."""
    for thread in threads():
        assert thread.join(LONG)


def reads(source: Source, timeout: float = SOON, wait: float = LONG) -> ParallelReads[str, str]:
    """Return reads of this source at a fixed time."""
    return ParallelReads(source.read, timeout, wait, lambda: NOW, pool=ENDING)


def states(readings: dict[str, Reading[str]]) -> dict[str, str]:
    """Return each key's value, or its state where it has none."""
    return {key: reading.value or reading.state for key, reading in readings.items()}


def test_every_key_is_read_once(source: Source) -> None:
    """Each reading is the key's own, with its time, and a key that is named twice is read once, by a single thread."""
    assert reads(source).measure(["a", "b", "a"]) == {"a": Reading("ok", "A", NOW), "b": Reading("ok", "B", NOW)}
    assert source.calls == ["a", "b"]
    assert source.most_at_once == 1


def test_no_keys_no_thread(source: Source) -> None:
    """Without keys there is nothing to read."""
    assert reads(source).measure([]) == {}
    assert threads() == []


@pytest.mark.parametrize("error", [PermissionError, ValueError])
def test_an_error_costs_only_its_key(error: type[Exception]) -> None:
    """A key whose call fails has no value; the others are read, and the failed one is read again the next time."""
    calls: list[str] = []

    def read(key: str) -> str:
        calls.append(key)
        if key == "a":
            raise error
        return key

    subject = ParallelReads(read, SOON, LONG, pool=ENDING)
    assert states(subject.measure("ab")) == states(subject.measure("ab")) == {"a": "error", "b": "b"}
    assert sorted(calls) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("stuck", ["a", "b", "c"], ids=["first", "middle", "last"])
def test_the_others_are_read_when_one_hangs(stuck: str, source: Source) -> None:
    """All other keys are read, whatever the position of the one that hangs."""
    source.hang(stuck)
    assert states(reads(source).measure("abc")) == {key: "stuck" if key == stuck else key.upper() for key in "abc"}


def test_more_keys_hang_than_there_are_threads(source: Source) -> None:
    """Each stuck thread is replaced: ten dead keys cost the living ones nothing."""
    source.hang(*"abcdefghij")
    found = states(reads(source).measure("abcdefghijxyz"))
    assert found == {**dict.fromkeys("abcdefghij", "stuck"), "x": "X", "y": "Y", "z": "Z"}
    assert len(threads()) == 10


def test_a_stuck_key_is_not_read_again(source: Source) -> None:
    """While its call hangs a key is not read: one call and one thread, and no scrape waits for it again."""
    source.hang("a")
    subject = reads(source)
    subject.measure("ab")
    for _ in range(20):
        began = time.monotonic()
        assert states(subject.measure("ab")) == {"a": "stuck", "b": "B"}
        assert time.monotonic() - began < LONG / 2
    assert source.calls.count("a") == 1
    wait_until(lambda: len(threads()) == 1, "the stuck thread alone")


def test_a_key_that_returns_is_read_again(source: Source) -> None:
    """A late result counts once its call has returned, and then the key is read like any other."""
    source.hang("a")
    subject = reads(source)
    subject.measure("ab")
    source.release("a")
    join_threads()
    assert states(subject.measure("ab")) == {"a": "A", "b": "B"}
    assert sorted(source.calls) == ["a", "a", "b", "b"]


def test_a_slow_key_keeps_its_last_reading(source: Source) -> None:
    """A key that was slow the last time has twice that time; until then its last reading is kept without waiting."""
    source.hang("a")
    subject = reads(source, timeout=LONG, wait=SOON)
    assert states(subject.measure("a")) == {"a": "pending"}
    source.release("a")
    join_threads()
    source.hang("a")
    subject._timeout = 0.01
    assert states(subject.measure("a")) == {"a": "A"}


def test_a_slow_key_that_dies_is_stuck_in_the_end(source: Source) -> None:
    """A key that was slow before and then hangs is stuck too."""
    source.hang("a")
    subject = reads(source, timeout=0.01, wait=0.1)
    subject.measure("a")
    source.release("a")
    join_threads()
    source.hang("a")
    wait_until(lambda: states(subject.measure("a")) == {"a": "stuck"}, "stuck")


def test_what_is_not_read_in_time_goes_on_without_the_caller(source: Source) -> None:
    """The caller waits no longer than ``wait``; keys that were not read are pending until the next time."""
    keys = [f"key{number}" for number in range(20)]
    source.hang(*keys)
    subject = reads(source, timeout=LONG, wait=0.1)
    assert set(states(subject.measure(keys)).values()) == {"pending"}
    assert len(source.calls) == 4
    source.release_all()
    join_threads()
    assert sorted(source.calls) == sorted(keys)


def test_fast_keys_are_read_first(source: Source) -> None:
    """With every thread held by slow keys, a key that was fast the last time is still read at once."""
    subject = reads(source, timeout=LONG, wait=0.1)
    subject.measure(["fast"])
    source.hang(*"abcdefgh")
    subject.measure([*"abcdefgh", "fast"])
    source.calls.clear()
    subject.measure([*"abcdefgh", "fast"])
    assert source.calls == ["fast"]


def test_slow_keys_take_turns(source: Source) -> None:
    """Fast keys come first, the fastest at the head; then keys that were never read, and the oldest readings."""
    subject = reads(source)
    taken = {"old": (10.0, 0.4), "new": (20.0, 0.2), "fast": (20.0, 0.01), "faster": (5.0, 0.001)}
    subject._results = {key: _Result(Reading("ok", key, when), seconds) for key, (when, seconds) in taken.items()}
    assert subject._ordered(["new", "old", "never", "fast", "faster"]) == ["faster", "fast", "never", "old", "new"]


def test_a_key_that_is_gone_is_forgotten(source: Source) -> None:
    """A key that is not wanted for a while starts anew."""
    subject = reads(source, wait=0.05)
    subject.measure("a")
    subject.measure("b")
    source.hang("a")
    assert states(subject.measure("a")) == {"a": "pending"}


def test_without_a_thread_it_fails_and_recovers(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that cannot be started costs one measurement, not those after it."""

    def refuse(*_: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    subject = reads(source)
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="thread"):
            subject.measure("ab")
    assert states(subject.measure("ab")) == {"a": "A", "b": "B"}


def test_threads_are_bounded_when_everything_hangs(source: Source) -> None:
    """With many keys stuck only those that were fast are read: a hundred dead mounts do not take a hundred threads."""
    keys = [f"key{number}" for number in range(100)]
    source.hang(*keys)
    subject = reads(source, timeout=0.01, wait=2.0)
    subject.measure(["living"])
    for _ in range(3):
        found = states(subject.measure([*keys, "living"]))
        assert found["living"] == "LIVING"
    assert 60 < len(threads()) <= 64 + 5 + 2 * 3


def test_a_living_key_behind_many_dead_ones_is_read_in_the_end(source: Source) -> None:
    """From a start with 80 dead mounts on: what cannot be tried yet counts as stuck, and delays no other key."""
    keys = [f"key{number}" for number in range(80)]
    source.hang(*keys)
    subject = reads(source, timeout=0.01)
    found = states(subject.measure([*keys, "living"]))
    assert set(found.values()) == {"stuck"}
    wait_until(lambda: states(subject.measure([*keys, "living"]))["living"] == "LIVING", "it is read")
    assert len(threads()) >= 80


def test_dead_keys_without_end_take_a_bounded_number_of_threads(source: Source) -> None:
    """The number of threads stays bounded however often they are measured."""
    keys = [f"key{number}" for number in range(300)]
    source.hang(*keys)
    subject = reads(source, timeout=0.001)
    end = time.monotonic() + 5 * LONG  # one more in each round, but in one in which the last is not stuck yet
    while len(threads()) < 256 and time.monotonic() < end:
        subject.measure(keys)
    for _ in range(20):
        subject.measure(keys)
    assert len(threads()) == 256


def test_a_successor_does_not_make_a_call_that_hangs_once_more(source: Source) -> None:
    """However often a reload replaces the reads, a dead key blocks one thread, and is read again after its call."""
    running: dict[str, float] = {}

    def successor() -> ParallelReads[str, str]:
        return ParallelReads(source.read, SOON, LONG, lambda: NOW, running, pool=ENDING)

    source.hang("a")
    for _ in range(5):
        assert states(successor().measure("ab")) == {"a": "stuck", "b": "B"}
    assert source.calls.count("a") == 1
    source.release("a")
    join_threads()
    assert states(successor().measure("ab")) == {"a": "A", "b": "B"}
    assert running == {}


def test_a_call_that_really_hangs_in_the_kernel(tmp_path: Path) -> None:
    """A system call that blocks (opening a FIFO without a writer) is abandoned like any other."""
    fifo, folder = tmp_path / "fifo", tmp_path / "folder"
    os.mkfifo(fifo)
    folder.mkdir()

    def read(path: str) -> str:
        os.close(os.open(path, os.O_RDONLY))
        return "opened"

    subject = ParallelReads(read, SOON, LONG, pool=ENDING)
    assert states(subject.measure([str(fifo), str(folder)])) == {str(fifo): "stuck", str(folder): "opened"}
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)  # fails unless a reader is there, waiting
    join_threads()
    assert states(subject.measure([str(fifo), str(folder)])) == {str(fifo): "opened", str(folder): "opened"}
    os.close(writer)
