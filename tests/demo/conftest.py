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
    """A factory of simulated hosts, which are closed when the test ends."""

    def __call__(self, **wanted: Any) -> DemoHost:
        """Create a host that starts at START; without a schedule it has no incidents."""
        ...


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Yield a factory of simulated hosts."""
    with contextlib.ExitStack() as stack:

        def make(**wanted: Any) -> DemoHost:
            host = DemoHost(START, **{"schedule": IncidentSchedule(), **wanted})
            stack.callback(host.close)
            return host

        yield make
