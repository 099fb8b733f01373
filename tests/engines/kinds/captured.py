"""Snapshots of captured servers."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.pages import PollPolicy
from tests.support.pages import SERVERS, pages

if TYPE_CHECKING:
    from modelhost_exporter.engines.snapshot import ServerSnapshot

_ARGUMENTS = {"llama-server-pages": ("llama-server", "--parallel", "2")}
"""How a server was started, where that matters."""


def snapshot(folder: str) -> ServerSnapshot:
    """Return what a captured server says, every page allowed."""
    care = PollPolicy("on", _ARGUMENTS.get(folder, ()))
    return kinds.engine_kind(SERVERS[folder]).snapshot(pages(folder).__getitem__, care)


def said(value: object) -> dict[str, Any]:
    """Return the fields that have a value, histograms as count and sum."""
    found = {field.name: getattr(value, field.name) for field in fields(value)}  # type: ignore[arg-type]
    if "latencies" in found:
        found["latencies"] = {name: (h.count, h.sum) for name, h in found["latencies"].items()}
    return {
        name: content
        for name, content in found.items()
        if content not in (None, "", (), {}) and (name != "asleep" or content)
    }
