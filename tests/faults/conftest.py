"""Fixtures for the tests of faults: those of other rooms whose stand-ins are used here."""

from __future__ import annotations

from tests.gpu.conftest import driver, standin

__all__ = ["driver", "standin"]
