"""The machine's clock: time, boot time, offset and synchronisation."""

from __future__ import annotations

import ctypes
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, parts
from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

TIME = gauge("time_seconds", "Time of the machine's clock, in seconds since 1970.")
BOOT_TIME = gauge("boot_time_seconds", "Time at which the machine was booted, in seconds since 1970.")
OFFSET = gauge(
    "clock_offset_seconds",
    "Offset of the clock that the kernel is correcting.",
    note="Always 0 where a time daemon, such as chrony, steers the clock without reporting an offset to the kernel.",
)
MAXIMUM_ERROR = gauge(
    "clock_maximum_error_seconds",
    "Upper bound of the clock's error as the kernel estimates it.",
    note="It grows while nothing synchronises the clock, and stops at 16.",
)
SYNCHRONIZED = gauge("clock_synchronized", "1 when a time daemon keeps the clock synchronised, else 0.")
FAMILIES = (TIME, BOOT_TIME, OFFSET, MAXIMUM_ERROR, SYNCHRONIZED)


class Discipline(NamedTuple):
    """The kernel's clock discipline: offset and largest error in seconds, and whether the clock is synchronised."""

    offset: float
    maximum_error: float
    synchronized: bool


class ClockCollector:
    """Time (Python), boot time (psutil) and the kernel's clock discipline (adjtimex; Linux)."""

    def __init__(
        self,
        source: Any = psutil,
        now: Callable[[], float] = time.time,
        discipline: Callable[[], Discipline] | None = None,
    ) -> None:
        self._source = source
        self._now = now
        self._discipline = discipline

    def collect(self) -> Iterator[Metric]:
        """Yield the clock's families; those of the discipline only where the platform permits reading it."""
        yield from parts(
            lambda: TIME.of(self._now()),
            lambda: BOOT_TIME.of(self._source.boot_time()),
            self._of_discipline,
        )

    def _of_discipline(self) -> Iterator[Metric]:
        if self._discipline is None:
            return
        try:
            offset, maximum_error, synchronized = self._discipline()
        except OSError:  # forbidden in a container, or unknown to the kernel (gVisor)
            return
        yield from OFFSET.of(offset)
        yield from MAXIMUM_ERROR.of(maximum_error)
        yield from SYNCHRONIZED.of(float(synchronized))


class _Timex(ctypes.Structure):
    """struct timex; source: adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("_rest", ctypes.c_byte * 256),
    )


_STA_UNSYNC = 0x40
_STA_NANO = 0x2000
_TIME_ERROR = 5


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def adjtimex(libc: Any = None) -> Discipline:
    """Return the state of the Linux kernel's clock discipline; OSError where the kernel refuses. Changes nothing."""
    libc = libc or _libc()
    timex = _Timex()
    state = libc.adjtimex(ctypes.byref(timex))
    if state < 0:
        raise OSError(ctypes.get_errno(), "adjtimex refused")
    unit = 1e-9 if timex.status & _STA_NANO else 1e-6
    synchronized = state != _TIME_ERROR and not timex.status & _STA_UNSYNC
    return Discipline(timex.offset * unit, timex.maxerror * 1e-6, synchronized)


def create(_options: CollectorOptions, _context: CollectorContext) -> Collector:
    """Build the clock collector."""
    return ClockCollector(discipline=adjtimex if sys.platform == "linux" else None)


def create_simulated(_options: CollectorOptions, _context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return ClockCollector(host.psutil, host.now, lambda: Discipline(*host.clock_discipline()))
