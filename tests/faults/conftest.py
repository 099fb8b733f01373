"""Fixtures for the tests of faults: the stand-in GPU driver, and programs without coverage's tracer."""

from __future__ import annotations

import pytest

from tests.gpu.conftest import driver, standin

__all__ = ["driver", "standin"]

_TRACED_BY = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


@pytest.fixture(autouse=True)
def programs_without_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start programs that coverage does not trace: several times slower, they would miss their deadlines."""
    for name in _TRACED_BY:
        monkeypatch.delenv(name, raising=False)
