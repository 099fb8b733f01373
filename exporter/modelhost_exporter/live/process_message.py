"""The response of /api/processes: fields, types and units.

The tables of docs/live-api.md are generated from these classes and the strings below their fields.
"""

from __future__ import annotations

from typing import TypedDict


class ProcessesMessage(TypedDict):
    """The response of `/api/processes`."""

    processes: int
    """Number of processes."""
    seconds: float
    """Seconds that `cpu` covers."""
    byCpu: list[ProcessMessage]
    """The 10 with the most CPU time in these seconds, the first has the most; those without any are left out."""
    byMemory: list[ProcessMessage]
    """The 10 with the most resident memory, the first has the most."""


class ProcessMessage(TypedDict):
    """One process."""

    name: str
    """Name of its program, or of the script or module that an interpreter runs; never arguments."""
    user: str
    """Name of the user, or its number."""
    cpu: float
    """CPU time in percent of one CPU."""
    memory: int
    """Resident memory in bytes, shared memory included."""
