from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.pressure import PressureCollector, create, parse_totals
from tests.support.machine import FILES, write
from tests.support.readings import readings

if TYPE_CHECKING:
    from collections.abc import Callable


def refusing(number: int) -> Callable[[Path], str]:
    """Return a function that fails as a read does with this error."""

    def read(_path: Path) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return read


def test_seconds_by_resource(tmp_path: Path) -> None:
    """The kernel's microseconds under some and full become seconds of waiting and being stalled."""
    read = readings(PressureCollector(write(tmp_path, FILES) / "proc").collect())
    assert read["pressure_waiting_seconds_total"] == {("cpu",): 1.5, ("memory",): 2.5, ("io",): 3.0}
    assert read["pressure_stalled_seconds_total"] == {("memory",): 0.5, ("io",): 0.25}


def test_a_stalled_cpu_is_absent(tmp_path: Path) -> None:
    """The kernel writes a 'full' line for the CPU of the whole machine too, where it is not defined: left out."""
    read = readings(PressureCollector(write(tmp_path, FILES) / "proc").collect())
    assert ("cpu",) not in read["pressure_stalled_seconds_total"]


def test_kernels_before_5_13_have_no_full_line_for_the_cpu() -> None:
    """A file with 'some' alone is read as it is."""
    assert parse_totals("some avg10=0.00 avg60=0.00 avg300=0.00 total=42\n") == {"some": 42e-6}


def test_an_empty_file_says_nothing() -> None:
    """Text without totals yields none, rather than zeros."""
    assert parse_totals("") == {}


def test_a_kernel_without_pressure_is_unavailable(tmp_path: Path) -> None:
    """Without /proc/pressure the machine lacks it, which is no failure."""
    with pytest.raises(Unavailable, match="does not exist"):
        list(PressureCollector(tmp_path).collect())


def test_switched_off_is_unavailable() -> None:
    """Pressure compiled in but disabled (psi=0) is Unavailable, with a hint on how to enable it."""
    with pytest.raises(Unavailable, match="psi=1"):
        list(PressureCollector(Path("/proc"), refusing(errno.EOPNOTSUPP)).collect())


def test_any_other_error_is_a_failure() -> None:
    """A file that the exporter may not read is a failure, not a missing feature."""
    with pytest.raises(PermissionError):
        list(PressureCollector(Path("/proc"), refusing(errno.EACCES)).collect())


def test_this_machine() -> None:
    """On the real machine waiting never falls, and a stalled resource was waited for at least as long."""
    collector = create(CollectorOptions(), CollectorContext())
    if not Path("/proc/pressure").exists():
        with pytest.raises(Unavailable):
            list(collector.collect())
        return
    first, second = readings(collector.collect()), readings(collector.collect())
    waiting, stalled = second["pressure_waiting_seconds_total"], second["pressure_stalled_seconds_total"]
    assert set(waiting) == {("cpu",), ("memory",), ("io",)}
    assert all(waiting[key] >= value for key, value in first["pressure_waiting_seconds_total"].items())
    assert all(waiting[key] >= value for key, value in stalled.items())
