"""The protocol of collectors, their options, and the context in which they are created."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from modelhost_exporter.logs.state_log import StateLog

if TYPE_CHECKING:
    import platform
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.gpu.contract import GpuSource

K = TypeVar("K")
T = TypeVar("T")

log = logging.getLogger(__name__)

_left_out = StateLog(initial=False)


class Unavailable(Exception):
    """The machine does not have what the collector measures. This is no failure; it is logged once at level info."""


class Undetermined(Unavailable):
    """It is not known whether the machine has what is measured: a driver is missing, or has not answered yet."""


class Collector(Protocol):
    """A source of metric families: prometheus_client's own collector protocol."""

    def collect(self) -> Iterable[Metric]:
        """Return current families; may block. Called by one thread at a time.

        Raises Unavailable when the machine does not have what is measured, anything else on failure.
        """
        ...


@dataclass(frozen=True)
class CollectorOptions:
    """The options that every collector has; a subclass adds those of one collector."""

    enabled: bool | None = None
    """None: ``enabled_by_default``."""

    enabled_by_default: ClassVar[bool] = True


@dataclass(frozen=True)
class Paths:
    """Where /proc, /sys and the host's root file system are mounted."""

    procfs: Path = Path("/proc")
    sysfs: Path = Path("/sys")
    rootfs: Path = Path("/")


class SimulatedHost(Protocol):
    """The sources that ``--demo`` provides to collectors in place of the machine."""

    @property
    def psutil(self) -> Any:
        """A stand-in for the psutil module."""
        ...

    @property
    def page_bytes(self) -> int:
        """Size of a memory page."""
        ...

    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        ...

    def clock_discipline(self) -> tuple[float, float, bool]:
        """Return the clock's offset and largest error in seconds, and whether it is synchronised."""
        ...

    def uname(self) -> platform.uname_result:
        """Return the name and release of the operating system."""
        ...

    def gpu_sources(self) -> Mapping[str, GpuSource]:
        """Return the sources of GPUs by vendor."""
        ...


def _no_families() -> Iterable[Metric]:
    return ()


@dataclass(frozen=True)
class CollectorContext:
    """What collectors use besides their options. The defaults measure this machine."""

    paths: Paths = field(default_factory=Paths)
    owner_of: Callable[[int], str | None] | None = None
    """Returns the configured server that a process ID belongs to; None when there is none."""
    engine_families: Callable[[], Iterable[Metric]] = _no_families
    """Returns the families of all polled engines."""
    simulated: SimulatedHost | None = None
    """The simulated host of ``--demo``."""


def parts(*readers: Callable[[], Iterable[Metric]]) -> Iterator[Metric]:
    """Yield the families of each reader; a failure costs only its own families, unless nothing is left (see each)."""
    lists = {number: partial(_listed, reader) for number, reader in enumerate(readers)}
    yield from chain.from_iterable(each(lists).values())


def _listed(reader: Callable[[], Iterable[Metric]]) -> list[Metric]:
    return list(reader())


def each(readers: Mapping[K, Callable[[], T]]) -> dict[K, T]:
    """Return the result of each reader; a failure costs only that reader's result, unless nothing is left.

    When every result is missing or empty, raise the first failure; Unavailable where there is no other.
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
        problems.clear()  # an exception that refers to its own frame would be a reference cycle
    return results


def log_once(source: str, problem: str) -> None:
    """Log once for each source that a part of a collector is left out; the problem may differ in each scrape."""
    if _left_out.changed(state=True, key=source):
        log.warning("a part of a collector is left out", extra={"fields": {"source": source, "problem": problem}})
