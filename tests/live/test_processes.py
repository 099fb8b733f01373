"""The processes with most CPU time and memory: what is measured, when, and at what cost."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.linux.processes import ProcessUse, process_uses
from modelhost_exporter.live.process_feed import ProcessFeed
from modelhost_exporter.live.processes import TOP, ProcessSampler, PsutilProcesses
from modelhost_exporter.live.settings import LiveOptions
from modelhost_exporter.process.daemon_thread import names
from tests.live.client import get

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from modelhost_exporter.live.process_message import ProcessMessage
    from tests.conftest import StartExporter
    from tests.live.conftest import Serve

MIB = 2**20


class Processes:
    """Processes that a test sets."""

    def __init__(self, *uses: ProcessUse) -> None:
        self.uses = list(uses)
        self.reads = 0
        self.described: list[int] = []

    def read(self) -> Iterable[ProcessUse]:
        """Return them."""
        self.reads += 1
        return list(self.uses)

    def describe(self, pid: int) -> tuple[str, str]:
        """Return a name and a user."""
        self.described.append(pid)
        return f"program {pid}", f"user {pid}"


class Hanging(Processes):
    """Processes whose reading hangs until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def read(self) -> Iterable[ProcessUse]:
        """Wait."""
        super().read()
        self.release.wait(30)
        return [ProcessUse(1, 0.0, 0.0, MIB)]


class Sampling:
    """A sampler whose time a test sets."""

    def __init__(self, source: Processes) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.sampler = ProcessSampler(source, lambda: self.now, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def shown(messages: list[ProcessMessage]) -> list[tuple[str, float]]:
    """Return name and CPU time in percent."""
    return [(message["name"], message["cpu"]) for message in messages]


def test_cpu_time_is_that_since_the_last_measurement() -> None:
    """In percent of one CPU; a process that is new counts from 0, one with a number that was used before as well."""
    source = Processes(*(ProcessUse(pid, 0.0, 50.0, pid * MIB) for pid in (1, 2, 3)))
    sampling = Sampling(source)
    first = sampling.sampler.measure()
    assert (first["byCpu"], first["seconds"], sampling.slept) == ([], 0.5, [0.5])
    source.uses = [
        ProcessUse(1, 0.0, 58.0, MIB),
        ProcessUse(2, 0.0, 50.0, 2 * MIB),
        ProcessUse(3, 7.0, 1.0, 3 * MIB),
        ProcessUse(4, 9.0, 2.0, 4 * MIB),
    ]
    sampling.now += 4
    message = sampling.sampler.measure()
    assert shown(message["byCpu"]) == [("program 1", 200.0), ("program 4", 50.0), ("program 3", 25.0)]
    assert [process["memory"] for process in message["byMemory"]] == [4 * MIB, 3 * MIB, 2 * MIB, MIB]
    assert (message["processes"], message["seconds"]) == (4, 4.0)
    assert message["byCpu"][0]["user"] == "user 1"
    assert sampling.slept == [0.5]


def test_a_measurement_of_long_ago_does_not_count() -> None:
    """After a minute without a viewer CPU time covers half a second again."""
    source = Processes(ProcessUse(1, 0.0, 0.0, MIB))
    sampling = Sampling(source)
    sampling.sampler.measure()
    sampling.now += 61
    assert sampling.sampler.measure()["seconds"] == 0.5
    assert sampling.slept == [0.5, 0.5]


def test_only_processes_that_are_shown_are_described() -> None:
    """Names and users cost more than one read of a file."""
    source = Processes(*(ProcessUse(pid, 0.0, 0.0, pid * MIB) for pid in range(1, 1001)))
    message = Sampling(source).sampler.measure()
    assert len(message["byMemory"]) == TOP
    assert len(source.described) <= 2 * TOP


def test_ten_thousand_processes_take_less_than_a_second_of_cpu_time(tmp_path: Path) -> None:
    """One file is read of each."""
    stat = "S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 4242 1000000 2560 18446744073709551615"
    for pid in range(1, 10_001):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (worker) {stat}")
    before = time.thread_time()
    assert len(list(process_uses(tmp_path))) == 10_000
    assert time.thread_time() - before < 1.0


async def test_one_measurement_serves_all_requests() -> None:
    """Those that arrive while it runs, and for two seconds afterwards."""
    source = Processes(ProcessUse(1, 0.0, 0.0, MIB))
    feed = ProcessFeed(ProcessSampler(source))
    bodies = await asyncio.gather(*(feed.encoded() for _ in range(50)))
    assert {*bodies, await feed.encoded()} == {bodies[0]}
    assert source.reads == 2
    feed.close()


async def test_a_source_that_hangs_delays_no_other_request() -> None:
    """It fails after the deadline, is not called again before it returns, and works afterwards."""
    source = Hanging()
    feed = ProcessFeed(ProcessSampler(source, sleep=lambda _: None), deadline_seconds=0.05)
    for _ in range(3):
        with pytest.raises(TimeoutError, match=r"not read within 0\.05 s"):
            await feed.encoded()
    source.release.set()
    async with asyncio.timeout(20):
        while True:
            try:
                body = await feed.encoded()
                break
            except TimeoutError:
                continue
    assert json.loads(body)["processes"] == 1
    feed.close()


async def test_many_requests_wait_in_one_thread() -> None:
    """However many clients there are."""
    source, before = Hanging(), names().count("call")
    feed = ProcessFeed(ProcessSampler(source, sleep=lambda _: None))
    requests = [asyncio.ensure_future(feed.encoded()) for _ in range(50)]
    await asyncio.sleep(0)
    assert names().count("call") <= before + 1
    source.release.set()
    assert len(set(await asyncio.gather(*requests))) == 1
    feed.close()


async def test_they_are_off_by_configuration(serve: Serve) -> None:
    """Then nothing is measured."""
    served = await serve(live=LiveOptions(history=False, processes=False))
    status, answer = await get(served.address, "/api/processes")
    assert (status, answer) == (404, {"error": "processes are off (live.processes)"})


async def test_a_failure_is_an_error_response(serve: Serve, tmp_path: Path) -> None:
    """Where the processes cannot be listed."""
    served = await serve(procfs=tmp_path / "absent")
    status, answer = await get(served.address, "/api/processes")
    assert status == 503
    assert "absent" in answer["error"]


@pytest.fixture
def _busy() -> Iterator[None]:
    """Use a CPU in a process with an argument that nobody may see."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass", "--api-key=SECRET"]) as process:
        yield
        process.kill()


@pytest.mark.usefixtures("_busy")
async def test_a_busy_process_of_this_machine_is_first(start_exporter: StartExporter) -> None:
    """With name and user, and without its arguments."""
    exporter = start_exporter()
    async with asyncio.timeout(20):  # others may use both CPUs of the machine for a moment
        while True:
            status, answer = await get(exporter.address, "/api/processes")
            assert status == 200
            if any(process["name"].startswith("python") for process in answer["byCpu"]):
                break
    assert "SECRET" not in json.dumps(answer)
    assert answer["processes"] > 3
    assert {*answer["byMemory"][0]} == {"name", "user", "cpu", "memory"}


def test_other_systems_use_psutil() -> None:
    """It returns the same of this process."""
    source = PsutilProcesses()
    (own,) = [use for use in source.read() if use.pid == os.getpid()]
    assert own.resident_bytes > MIB
    assert own.cpu_seconds > 0
    assert source.describe(os.getpid())[0].startswith(("python", "pytest"))
    assert source.describe(4_000_000) == ("unknown", "unknown")
