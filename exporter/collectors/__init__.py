"""Collectors: one file here is one collector, and its file name is its name everywhere.

The name in flags (``--collector.NAME``), in the configuration (``collectors.NAME``), in ``collect[]=NAME``, in the
``collector`` label and in the tests. A new collector is one new file with ``FAMILIES``, ``Options`` and ``create``.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

    from exporter.families import Family

log = logging.getLogger(__name__)


class Unavailable(Exception):
    """Says that the machine lacks what the collector measures: expected, and logged once at info."""


class Collector(Protocol):
    """Measures one thing; prometheus_client's own collector protocol."""

    def collect(self) -> Iterable[Metric]:
        """Return fresh families; may block; called by one thread at a time.

        Raises Unavailable when the machine lacks what is measured, anything else on failure.
        """
        ...


@dataclass(frozen=True)
class Options:
    """What every collector can be told; a collector that has more adds fields to it."""

    enabled: bool | None = None
    """None: as ``enabled_by_default`` says."""

    enabled_by_default: ClassVar[bool] = True


@dataclass(frozen=True)
class Paths:
    """Where the kernel's and the host's files are found."""

    procfs: Path = Path("/proc")
    sysfs: Path = Path("/sys")
    rootfs: Path = Path("/")


AnyOptions = Options


class CollectorModule(Protocol):
    """What each file in this folder offers."""

    FAMILIES: tuple[Family, ...]

    @property
    def Options(self) -> type[AnyOptions]:  # noqa: N802 - a class
        """The collector's options."""
        ...

    def create(self, options: AnyOptions, paths: Paths) -> Collector:
        """Build the collector; must not block and must not fail for lack of hardware."""
        ...


@cache
def names() -> tuple[str, ...]:
    """Return every collector's name, sorted: the files of this folder."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def module(name: str) -> CollectorModule:
    """Return the module of one collector."""
    return cast("CollectorModule", importlib.import_module(f"{__name__}.{name}"))


def close(name: str, collector: Collector) -> None:
    """Let the threads of a collector end, where it has any of its own; an error is logged."""
    try:
        getattr(collector, "close", _nothing)()
    except Exception:
        log.exception("collector not closed", extra={"fields": {"collector": name}})


def _nothing() -> None:
    pass
