"""Fixtures for every test."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
import sys
import threading
from typing import TYPE_CHECKING, Protocol

import pytest

from modelhost_exporter.logs.formatting import QueueingHandler
from tests.gpu.driver import Driver, compiled
from tests.support import simulation
from tests.support.past import INTERVAL, SECONDS, START, Past, record, serving
from tests.support.programs import Exporter, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Undo the logging set-up of a test that runs the exporter in this process: the next has another standard error."""
    root = logging.getLogger()
    level = root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(capture=False)
    root.setLevel(level)
    for handler in [handler for handler in root.handlers if isinstance(handler, QueueingHandler)]:
        root.removeHandler(handler)


class StartExporter(Protocol):
    """A function that starts the real exporter with the given flags; it is stopped when the test ends."""

    def __call__(self, *arguments: str, under: Sequence[str] = ()) -> Exporter:
        """Start the exporter and wait until it is ready."""
        ...


@pytest.fixture
def start_exporter() -> Iterator[StartExporter]:
    """Return a function that starts real exporters."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, under: Sequence[str] = ()) -> Exporter:
            exporter = Exporter(*arguments, under=under)
            stack.enter_context(running(exporter))
            return exporter

        yield start


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the compiled stand-in driver; one for all rooms, since a process loads the library once."""
    return compiled(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def driver(standin: Path, tmp_path: Path) -> Iterator[Driver]:
    """Return the stand-in driver, without GPUs; calls that hang in it are released at the end."""
    made = Driver(standin, tmp_path / "script")
    yield made
    made.forget_all()
    assert made.void_handles_used() == 0
    assert made.allocated() == 0, "what the library allocated is freed before it is shut down"


@pytest.fixture(scope="session")
def past(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Past]:
    """Serve 90 minutes of incidents and the results of the rules from a Prometheus; recorded once for all workers."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    recorded = shared / "past"
    with (shared / "past.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not recorded.exists():
            folder = tmp_path_factory.mktemp("recording")
            record(folder, simulation.incidents(START, SECONDS, INTERVAL))
            folder.rename(recorded)
    copy = own / "past-copy"
    shutil.copytree(recorded, copy)  # a Prometheus writes to its folder
    with serving(copy) as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes longest, so that the others run beside it."""
    items.sort(key=lambda item: item.path.name != "test_rule_tests.py")
