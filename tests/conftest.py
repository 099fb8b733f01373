"""Fixtures for every test."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from typing import TYPE_CHECKING, Protocol

import pytest

from modelhost_exporter.logs.formatting import QueueingHandler
from tests.support.past import Past, incidents, recorded
from tests.support.programs import Exporter, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@pytest.fixture(autouse=True)
def logging_of_its_own() -> Iterator[None]:
    """Take back what a test that runs the exporter in this process sets up: the next one has another standard error."""
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
    """Starts the real exporter with the given flags; it is stopped when the test ends."""

    def __call__(self, *arguments: str, under: Sequence[str] = ()) -> Exporter:
        """Start it and wait until it is ready."""
        ...


@pytest.fixture
def start_exporter() -> Iterator[StartExporter]:
    """Give a function that starts real exporters."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, under: Sequence[str] = ()) -> Exporter:
            exporter = Exporter(*arguments, under=under)
            stack.enter_context(running(exporter))
            return exporter

        yield start


@pytest.fixture(scope="session")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    """Give a Prometheus with an hour and a half of incidents, recorded and judged by the rules."""
    with recorded(tmp_path_factory.mktemp("past"), incidents()) as server:
        yield server
