from __future__ import annotations

import ctypes
import os
import time
from typing import Any, NoReturn

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions
from modelhost_exporter.collectors.clock import ClockCollector, Discipline, adjtimex, create
from tests.support.machine import psutil_double
from tests.support.readings import readings

TIME_OK, TIME_ERROR = 0, 5
STA_UNSYNC, STA_NANO = 0x40, 0x2000


class Libc:
    """A C library whose kernel returns these values."""

    def __init__(self, state: int, status: int = 0, offset: int = 0, maxerror: int = 0) -> None:
        self._state = state
        self._answer = {"status": status, "offset": offset, "maxerror": maxerror}

    def adjtimex(self, pointer: Any) -> int:
        """Fill in the structure as the kernel would."""
        timex = pointer._obj
        self.size = ctypes.sizeof(timex)
        assert timex.modes == 0, "asked to change the clock"
        for name, value in self._answer.items():
            setattr(timex, name, value)
        return self._state


def refused() -> NoReturn:
    """Raise an error, as in a restricted container."""
    raise PermissionError


def test_everything_the_clock_says() -> None:
    """Time and boot time since 1970; offset, largest error and synchronisation from the kernel's discipline."""
    clock = ClockCollector(psutil_double(), lambda: 1.8e9, lambda: Discipline(-0.25, 0.5, synchronized=True))
    assert readings(clock.collect()) == {
        "time_seconds": {(): 1.8e9},
        "boot_time_seconds": {(): 1.7e9},
        "clock_offset_seconds": {(): -0.25},
        "clock_maximum_error_seconds": {(): 0.5},
        "clock_synchronized": {(): 1},
    }


def test_a_clock_that_nothing_synchronises() -> None:
    """An unsynchronised clock has the value 0, so that an alert can use it."""
    clock = ClockCollector(psutil_double(), discipline=lambda: Discipline(0.0, 16.0, synchronized=False))
    assert readings(clock.collect())["clock_synchronized"] == {(): 0}


@pytest.mark.parametrize("discipline", [None, refused], ids=["none", "refused"])
def test_without_a_discipline_there_is_still_the_time(discipline: Any) -> None:
    """Without a clock discipline, or the permission to read it, time and boot time are still there."""
    read = readings(ClockCollector(psutil_double(), lambda: 1.8e9, discipline).collect())
    assert read == {"time_seconds": {(): 1.8e9}, "boot_time_seconds": {(): 1.7e9}}


def test_the_offset_s_unit_is_the_kernel_s() -> None:
    """The offset is in nanoseconds where STA_NANO is set, else in microseconds; the error always in microseconds."""
    nano = adjtimex(Libc(TIME_OK, STA_NANO, offset=-1_500_000, maxerror=2_000_000))
    micro = adjtimex(Libc(TIME_OK, 0, offset=-1_500_000, maxerror=2_000_000))
    assert nano == pytest.approx(Discipline(-0.0015, 2.0, synchronized=True))
    assert micro == pytest.approx(Discipline(-1.5, 2.0, synchronized=True))


@pytest.mark.parametrize(
    ("state", "status", "synchronized"),
    [
        (TIME_OK, 0, True),
        (1, 0, True),
        (TIME_ERROR, 0, False),
        (TIME_OK, STA_UNSYNC, False),
        (TIME_ERROR, STA_UNSYNC, False),
    ],
)
def test_synchronized(state: int, status: int, synchronized: bool) -> None:
    """A clock is synchronised unless its state or status is an error; a leap second is not an error."""
    assert adjtimex(Libc(state, status)).synchronized is synchronized


def test_a_refusal_is_an_error() -> None:
    """A kernel that refuses causes an OSError, not uninitialised numbers."""
    with pytest.raises(OSError, match="adjtimex"):
        adjtimex(Libc(-1))


def test_the_structure_is_the_kernel_s() -> None:
    """The structure holds the kernel's struct timex, which is 208 bytes where a long has 8."""
    libc = Libc(TIME_OK)
    adjtimex(libc)
    assert libc.size >= 208


def test_this_machine() -> None:
    """On the real machine: the time is now, the boot before it, and the error within 16 s."""
    before = time.time()
    read = {
        name: value[()] for name, value in readings(create(CollectorOptions(), CollectorContext()).collect()).items()
    }
    assert before <= read["time_seconds"] <= time.time()
    assert 0 < read["boot_time_seconds"] < before
    if os.uname().sysname == "Linux":
        assert 0 < read["clock_maximum_error_seconds"] <= 16.5
        assert read["clock_synchronized"] in (0, 1)
        assert abs(read["clock_offset_seconds"]) <= 1
