from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from modelhost_exporter.linux.interfaces import Interfaces, Link, NicCounts, parse_dev
from tests.support.machine import write

if TYPE_CHECKING:
    from collections.abc import Mapping

LONG = 20.0
HEADER = "Inter-|   Receive                   |  Transmit\n face |bytes    packets errs drop …|bytes …\n"
ETH0 = "  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0"
ODD = [
    "  eth1: 1 2 3",
    "  eth1: 1 2 3 4 0 0 0 0 5 6 7 -8 0 0 0 0",
    "  eth1 1 2 3 4",
    ": 1 2 3 4 0 0 0 0 5 6 7 8",
    "\udcff",
]


def links(tmp_path: Path, files: Mapping[str, Mapping[str, str]]) -> dict[str, Link]:
    """Return the links of interfaces with these files below /sys/class/net."""
    for name, of in files.items():
        write(tmp_path / "class/net" / name, of)
    return Interfaces(tmp_path, tmp_path, LONG).links(list(files))


def test_a_line() -> None:
    """Each column is the counter that the kernel writes there."""
    counts = NicCounts(
        bytes_recv=1, packets_recv=2, errin=3, dropin=4, bytes_sent=5, packets_sent=6, errout=7, dropout=8
    )
    assert parse_dev(f"{HEADER}{ETH0}\n") == {"eth0": counts}


def test_a_name_keeps_what_only_python_takes_for_a_blank() -> None:
    """The kernel refuses the blanks of C in a name, and no others."""
    names = ["\x1cx", "x\x1f", "x\x85", "x"]
    text = "\n\n" + "\n".join(f"{name:>6}: " + " 1" * 16 for name in names)
    assert list(parse_dev(text)) == names


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_line_costs_only_itself(odd: str) -> None:
    """The interfaces before and after the invalid line are parsed."""
    assert set(parse_dev(f"{HEADER}{ETH0}\n{odd}\n{ETH0.replace('eth0', 'eth2')}\n")) == {"eth0", "eth2"}


@pytest.mark.parametrize("text", ["", HEADER, "one line"])
def test_no_interfaces(text: str) -> None:
    """A file without an interface has no counters."""
    assert parse_dev(text) == {}


@pytest.mark.parametrize(
    ("operstate", "is_up"),
    [("up", True), ("unknown", True), ("down", False), ("lowerlayerdown", False), ("dormant", False), ("odd", False)],
)
def test_the_state(operstate: str, is_up: bool, tmp_path: Path) -> None:
    """An interface is up when the kernel would set IFF_RUNNING: loopback and tunnels have the state 'unknown'."""
    assert links(tmp_path, {"eth0": {"operstate": f"{operstate}\n"}}) == {"eth0": Link(is_up, 0)}


def test_the_speed_of_an_interface_that_is_down_is_not_read(tmp_path: Path) -> None:
    """The kernel returns an error (EINVAL)."""
    assert links(tmp_path, {"eth0": {"operstate": "down\n", "speed": "1000\n"}}) == {"eth0": Link(isup=False, speed=0)}


@pytest.mark.parametrize(("speed", "expected"), [("1000\n", 1000), ("-1\n", -1), ("odd\n", 0), ("", 0)])
def test_the_speed(speed: str, expected: int, tmp_path: Path) -> None:
    """An invalid value is unknown; the next interface is not affected."""
    found = links(
        tmp_path, {"eth0": {"operstate": "up\n", "speed": speed}, "eth1": {"operstate": "up\n", "speed": "10\n"}}
    )
    assert found == {"eth0": Link(isup=True, speed=expected), "eth1": Link(isup=True, speed=10)}


def test_an_interface_that_is_gone_is_absent(tmp_path: Path) -> None:
    """An interface that vanished between two reads is left out, and the others are read."""
    assert links(tmp_path, {"gone": {}, "eth0": {"operstate": "up\n"}}) == {"eth0": Link(isup=True, speed=0)}


def test_a_driver_that_never_answers(tmp_path: Path) -> None:
    """Other speeds, and all states, are read; a FIFO stands in for a file that blocks."""
    folder = write(tmp_path / "class/net/slow", {"operstate": "up\n"})
    os.mkfifo(folder / "speed")
    write(tmp_path / "class/net/eth0", {"operstate": "up\n", "speed": "1000\n"})
    subject = Interfaces(tmp_path, tmp_path, LONG)
    for _ in range(3):
        found = subject.links(["slow", "eth0"])
        assert found == {"slow": Link(isup=True, speed=0), "eth0": Link(isup=True, speed=1000)}
    with (folder / "speed").open("w") as fifo:
        fifo.write("25000\n")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /sys")
def test_the_same_as_psutil() -> None:
    """On the real machine interfaces, states and speeds are psutil's (0 and -1 are both unknown)."""
    subject = Interfaces(Path("/proc"), Path("/sys"), LONG)
    theirs = psutil.net_if_stats()
    assert subject.net_io_counters(pernic=True, nowrap=False).keys() == theirs.keys()
    ours = subject.links(list(theirs))
    assert {name: (link.isup, max(0, link.speed)) for name, link in ours.items()} == {
        name: (stats.isup, stats.speed) for name, stats in theirs.items()
    }
