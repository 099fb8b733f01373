from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults import dead_mount
from tests.faults.mount_namespace import CANNOT_MOUNT
from tests.support.programs import Program, fetch, running, wait_until
from tests.support.readings import Page

if TYPE_CHECKING:
    from collections.abc import Iterator

STUCK_AFTER_SECONDS = 1.0
FLAGS = ("--web.listen-address=127.0.0.1:0", "--log.format=json", "--no-discovery")


class Machine:
    """The real exporter on a machine whose mount at ``folder`` is dead."""

    def __init__(self, program: Program, url: str, folder: Path, fifo: Path) -> None:
        self.program = program
        self.folder = folder
        self._url = url
        self._fifo = fifo

    def errors(self) -> dict[tuple[str, ...], float]:
        """Scrape, and return each mount point's device error."""
        return self.page().by("modelhost_filesystem_device_error", "mountpoint")

    def page(self) -> Page:
        """Scrape."""
        return Page(fetch(self._url).decode())

    def end_calls(self) -> None:
        """End the mount's server, so that calls on the mount fail."""
        with self._fifo.open("wb"):
            pass

    def hanging(self) -> int:
        """Return how many of the exporter's threads wait in the kernel for the dead server."""
        return sum("fuse" in where for where in self._waiting_in())

    def _waiting_in(self) -> Iterator[str]:
        for file in Path(f"/proc/{self.program.process.pid}/task").glob("*/wchan"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                yield file.read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Start the real exporter beside a mount that never answers."""
    folder, fifo, config = tmp_path / "dead", tmp_path / "fifo", tmp_path / "config.yaml"
    folder.mkdir()
    os.mkfifo(fifo)
    config.write_text(
        f"collectors: {{filesystem: {{timeout: {STUCK_AFTER_SECONDS}s, mountpoints: {{include: '/|{folder}'}},"
        f" fstypes: {{include: '.*'}}}}}}\n"
    )
    exporter = (sys.executable, "-m", "modelhost_exporter", *FLAGS)
    program = Program(
        [sys.executable, dead_mount.__file__, folder, fifo, *exporter, f"--config.file={config}"],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with running(program):
        line = program.wait_for_line(lambda line: '"msg": "listening"' in line or CANNOT_MOUNT in line)
        if CANNOT_MOUNT in line:
            pytest.skip(line.strip())
        yield Machine(program, json.loads(line)["url"], folder, fifo)


def test_a_mount_that_hangs_in_the_kernel(machine: Machine) -> None:
    """A dead mount delays one scrape by its time-out; not later ones, nor the stop; it costs one thread and no page."""
    dead, root = (str(machine.folder),), ("/",)
    assert machine.errors() == {root: 0, dead: 1}
    for _ in range(5):
        began = time.monotonic()
        page = machine.page()
        assert time.monotonic() - began < STUCK_AFTER_SECONDS
        assert page.by("modelhost_filesystem_device_error", "mountpoint") == {root: 0, dead: 1}
        assert set(page.by("modelhost_filesystem_size_bytes", "mountpoint")) == {root}
        assert page.by("modelhost_scrape_collector_success", "collector")["filesystem",] == 1
        assert machine.hanging() == 1
    assert machine.program.stop() < 5
    assert machine.program.process.returncode == 0


def test_a_dead_mount_that_is_given_up(machine: Machine) -> None:
    """When the call that hung fails, its thread ends, and the next scrape does not wait again."""
    machine.errors()
    assert machine.hanging() == 1
    machine.end_calls()
    wait_until(lambda: machine.hanging() == 0, "the call that hung fails")
    began = time.monotonic()
    assert machine.errors() == {("/",): 0, (str(machine.folder),): 1}
    assert time.monotonic() - began < STUCK_AFTER_SECONDS
