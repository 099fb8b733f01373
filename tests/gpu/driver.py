"""The stand-in driver: compiling it, scripting it, and the cards it simulates."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import installed

SOURCE = Path(__file__).parent / "standin/nvml.c"
GIB = 2**30
XID_EVENT = 8

Lines = dict[str, str | int | float]


@cache
def compiled(folder: Path) -> Path:
    """Return the stand-in as a library, with the name and the soname of the real one; skips without a compiler."""
    library = folder / "libnvidia-ml.so.1"
    command = [installed("gcc", "cc"), "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [*command, "-Wl,-soname,libnvidia-ml.so.1", "-o", str(library), str(SOURCE), "-lpthread"], check=True
    )
    return library


class Driver:
    """The stand-in library in this process, and the script from which it returns values."""

    def __init__(self, library: Path, script: Path) -> None:
        self._library: Any = ctypes.CDLL(str(library))
        self._library.standin_calls.restype = ctypes.c_long
        self._library.standin_all_calls.restype = ctypes.c_long
        self._library.standin_stale.restype = ctypes.c_long
        self._library.standin_allocated.restype = ctypes.c_long
        self.script = script
        self._lines: dict[tuple[str, str], str | float] = {}
        self._versions = itertools.count()
        self._events: list[str] = []
        self.say("-", Count=0, DriverVersion="580.95.05")
        self._library.standin_use(str(script).encode())

    def say(self, who: str | int, lines: Lines | None = None, /, **more: str | float) -> None:
        """Return these values from now on: a function's name without nvmlDeviceGet → its value."""
        for key, value in {**(lines or {}), **more}.items():
            self._lines[str(who), key] = value
        self._write()

    def forget(self, who: str | int, *keys: str) -> None:
        """Return 'not supported' for these keys of ``who`` from now on; for all keys if none is given."""
        for key in keys or [key for name, key in self._lines if name == str(who)]:
            self._lines.pop((str(who), key), None)
        self._write()

    def forget_all(self) -> None:
        """Return only errors from now on; calls that hang return."""
        self._lines = {("-", "Init"): "!9"}  # a later user of this library finds no driver
        self._write()

    def push_xid(self, gpu: int, xid: int) -> None:
        """Send an XID event."""
        self._events.append(f"{len(self._events) + 1}:{gpu}:{XID_EVENT}:{xid}")
        self.say("-", events=" ".join(self._events))

    def calls(self, who: int, key: str) -> int:
        """Return how often a function was called for a device."""
        return int(self._library.standin_calls(who, key.encode()))

    def all_calls(self) -> int:
        """Return how many calls there were."""
        return int(self._library.standin_all_calls())

    def references(self) -> int:
        """Return how often it was initialised and not shut down."""
        return int(self._library.standin_references())

    def allocated(self) -> int:
        """Return how many samples and sets of events were allocated and not freed."""
        return int(self._library.standin_allocated())

    def void_handles_used(self) -> int:
        """Return how often a handle was used that is no longer valid."""
        return int(self._library.standin_stale())

    def _write(self) -> None:
        text = "".join(f"{who} {key} {value}\n" for (who, key), value in self._lines.items())
        new = self.script.with_suffix(f".{next(self._versions)}")
        new.write_text(text)
        new.replace(self.script)
        self._library.standin_changed()


def identity(index: int, name: str) -> Lines:
    """Return the identity of a card: name, UUID, PCI address, versions."""
    return {
        "Name": name,
        "UUID": uuid(index),
        "PciInfo": f"00000000:{index + 1:02X}:00.0",
        "VbiosVersion": "96.00.74.00.01",
        "CudaComputeCapability": "9 0",
    }


def uuid(index: int) -> str:
    """Return the UUID of the stand-in's card."""
    return f"GPU-00000000-0000-0000-0000-00000000000{index}"


def address(index: int) -> str:
    """Return the PCI address of the stand-in's card, as the kernel writes it."""
    return f"0000:{index + 1:02x}:00.0"


H100: Lines = {
    "MemoryInfo_v2": f"{80 * GIB} {60 * GIB} {19 * GIB} {GIB}",
    "MemoryInfo": f"{80 * GIB} {61 * GIB} {19 * GIB}",
    "UtilizationRates": "93 41",
    "EncoderUtilization": "7 167000",
    "DecoderUtilization": "8 167000",
    "PowerUsage": 650_000,
    "EnforcedPowerLimit": 700_000,
    "TotalEnergyConsumption": 123_456_789_012,
    "Temperature.0": 61,
    "field.82.0": "u:70",
    "MarginTemperature": 26,
    **{f"TemperatureThreshold.{kind}": celsius for kind, celsius in enumerate((92, 89, 95, 87))},
    **{f"ClockInfo.{domain}": 1700 + domain for domain in range(4)},
    **{f"MaxClockInfo.{domain}": 1980 + domain for domain in range(4)},
    "PerformanceState": 0,
    "CurrPcieLinkGeneration": 5,
    "MaxPcieLinkGeneration": 5,
    "CurrPcieLinkWidth": 16,
    "MaxPcieLinkWidth": 16,
    "field.94.0": "u:3",
    "field.1.0": "u:1",
    **{f"field.{number}.0": number for number in (3, 4, 5, 6)},
    **{f"field.{number}.0": f"u:{number - 141}" for number in (142, 143)},
    "field.144.0": "u:0",
    "field.145.0": "u:0",
    "field.230.0": "u:0",
    "field.91.0": "u:18",
    **{f"field.138.{link}": 1000 + link for link in range(18)},
    **{f"field.139.{link}": 2000 + link for link in range(18)},
    **{f"field.165.{link}": "u:1" for link in range(18)},
    "SupportedClocksEventReasons": 0x1FF,
    "CurrentClocksEventReasons": 0x4,
    "field.74.0": 1_500_000_000,
    "field.76.0": 0,
    "field.77.0": 0,
    "field.79.0": 0,
    "field.269.0": 2_500_000_000,
    "field.270.0": 0,
    "field.271.0": 0,
    "Samples.1": "1000000:50",
    "ComputeRunningProcesses": f"4100000001:{50 * GIB}:",
    "GraphicsRunningProcesses": "",
    "MPSComputeRunningProcesses": "",
    "MigMode": "0 0",
    "SupportedEventTypes": 0xFFFF,
    "RegisterEvents": 1,
    "GpmSupport": 1,
    "gpm.2": 83.5,
    "gpm.3": 40,
    "gpm.5": 55.25,
    "gpm.10": 71,
    "gpm.20": 100,
    "gpm.21": 200,
}

# What the H100 lacks: fans, retired pages; and what only older drivers return.
OLDER: Lines = {
    "NumFans": 2,
    "FanSpeed.0": 45,
    "FanSpeed.1": 104,
    "field.29.0": "u:4",
    "field.30.0": "u:1",
    "field.31.0": "u:1",
}

FULL: Lines = {**H100, **OLDER}

RTX: Lines = {
    "MemoryInfo_v2": f"{24 * GIB} {GIB} {22 * GIB} {GIB}",
    "UtilizationRates": "5 2",
    "EncoderUtilization": "0 167000",
    "DecoderUtilization": "0 167000",
    "PowerUsage": 31_000,
    "EnforcedPowerLimit": 450_000,
    "Temperature.0": 35,
    "field.82.0": "u:0",  # no such sensor
    "NumFans": 1,
    "FanSpeed.0": 0,
    "ClockInfo.0": 210,
    "ClockInfo.1": 210,
    "ClockInfo.2": 405,
    "ClockInfo.3": 4294967295,  # not available
    "PerformanceState": 8,
    "SupportedClocksEventReasons": 0x1FF,
    "CurrentClocksEventReasons": 0x1,
    "field.230.0": "9223372036854775792",  # DCGM's blank
    "field.94.0": "u:2147483632",  # DCGM's blank, of 32 bits
    "TotalEnergyConsumption": "18446744073709551615",
    "Samples.0": "1000000:31000",
    "Samples.1": "1000000:5",
    "ComputeRunningProcesses": "",
    "GraphicsRunningProcesses": "4100000002:-:",
    "SupportedEventTypes": 0x8,
    "RegisterEvents": 1,
}


def plug_in(driver: Driver, count: int, card: Lines, name: str) -> None:
    """Plug ``count`` cards of a type into the simulated machine."""
    for index in range(count):
        driver.say(index, identity(index, name))
    driver.say("*", card)
    driver.say("-", Count=count)


def skip_without_compiler() -> None:
    """Skip the test where no C compiler is installed."""
    if not any(map(shutil.which, ("gcc", "cc"))):
        pytest.skip("no C compiler")
