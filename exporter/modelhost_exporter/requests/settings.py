"""Options of what is kept of requests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestOptions:
    """What is kept of requests besides their metrics."""

    recent: bool = True
    """Whether the last requests are kept in memory, without their content."""
