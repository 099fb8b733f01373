"""Collectors: one file here is one collector, and its file name is its name everywhere.

The name in flags (``--collector.NAME``), in the configuration (``collectors.NAME``), in ``collect[]=NAME``, in the
``collector`` label and in the tests. A new collector is one new file with ``FAMILIES``, ``Options`` and ``create``.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar, cast

from modelhost_exporter.logs.state_log import StateLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.metrics.families import Family

K = TypeVar("K")
T = TypeVar("T")

log = logging.getLogger(__name__)

_left_out = StateLog(initial=False)


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


def parts(*readers: Callable[[], Iterable[Metric]]) -> Iterator[Metric]:
    """Yield the families of each reader; one that fails costs only its own, unless nothing is left."""
    lists = {number: partial(_listed, reader) for number, reader in enumerate(readers)}
    yield from chain.from_iterable(each(lists).values())


def _listed(reader: Callable[[], Iterable[Metric]]) -> list[Metric]:
    return list(reader())


def each(readers: Mapping[K, Callable[[], T]]) -> dict[K, T]:
    """Return what each reader returns; one that fails costs only its own, unless nothing is left.

    Then the first failure is raised, or Unavailable when there is no other. Whatever is empty is as good as nothing.
    """
    results: dict[K, T] = {}
    problems: list[Exception] = []
    for key, reader in readers.items():
        try:
            results[key] = reader()
        except Exception as problem:  # noqa: BLE001 - raised or logged below
            problems.append(problem)
    try:
        failures = [failure for failure in problems if not isinstance(failure, Unavailable)]
        if problems and all(result is None or result in ([], {}) for result in results.values()):
            raise (failures or problems)[0]
        for failure in failures:
            log_once(getattr(failure, "filename", None) or type(failure).__name__, str(failure))
    finally:
        problems.clear()  # an exception that holds its own frame is a cycle
    return results


def log_once(source: str, problem: str) -> None:
    """Log that a part of a collector is left out, once for each source: what is odd may differ in each scrape."""
    if _left_out.changed(state=True, key=source):
        log.warning("a part of a collector is left out", extra={"fields": {"source": source, "problem": problem}})


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
