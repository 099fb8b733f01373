"""Fixtures for the tests of the demo."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from modelhost_exporter.demo.host import DemoHost
from modelhost_exporter.demo.incidents import IncidentSchedule

if TYPE_CHECKING:
    from collections.abc import Iterator

START = 1_800_014_400.0  # noon in January 2027, UTC


class MakeHost(Protocol):
    """Makes simulated hosts; closed when the test ends."""

    def __call__(self, **wanted: Any) -> DemoHost:
        """Make one that begins at START; nothing goes wrong unless a schedule is given."""
        ...


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Give a function that makes simulated hosts."""
    with contextlib.ExitStack() as stack:

        def make(**wanted: Any) -> DemoHost:
            host = DemoHost(START, **{"schedule": IncidentSchedule(), **wanted})
            stack.callback(host.close)
            return host

        yield make
