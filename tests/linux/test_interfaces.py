from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from modelhost_exporter.linux.interfaces import Interfaces, Link, NicCounts, parse_dev
from tests.faults.mount_namespace import CANNOT_MOUNT
from tests.linux import network_of_a_host
from tests.support.machine import write
from tests.support.programs import installed, missing

if TYPE_CHECKING:
    from collections.abc import Mapping

LONG = 20.0
HARDWARE = {"device/vendor": "0x15b3", "type": "1", "ifindex": "2", "iflink": "2"}
VIRTUAL = {"type": "1", "ifindex": "3", "iflink": "3"}
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


def machine(tmp_path: Path, interfaces: Mapping[str, Mapping[str, str]], masters: Mapping[str, str]) -> Interfaces:
    """Return the interfaces with these files below /sys/class/net, and the links that the kernel makes to a master."""
    folder = tmp_path / "class/net"
    for name, files in interfaces.items():
        write(folder / name, files)
    for lower, master in masters.items():
        (folder / lower / "master").symlink_to(f"../{master}")
        (folder / lower / f"upper_{master}").symlink_to(f"../{master}")
        (folder / master / f"lower_{lower}").symlink_to(f"../{lower}")
    return Interfaces(tmp_path, tmp_path, LONG)


@pytest.mark.parametrize(
    ("interfaces", "masters", "expected"),
    [
        (
            {"enp1s0f0": HARDWARE, "enp1s0f1": HARDWARE, "bond0": {**VIRTUAL, "bonding/mode": "802.3ad 4"}}
            | {"bond0.100": {**VIRTUAL, "iflink": "4"}, "lan": {**VIRTUAL, "bridge/bridge_id": "8000"}},
            {"enp1s0f0": "bond0", "enp1s0f1": "bond0", "bond0": "bond0.100", "bond0.100": "lan"},
            ["enp1s0f0", "enp1s0f1"],
        ),
        (
            {"eno1": HARDWARE, "vmbr0": {**VIRTUAL, "bridge/x": ""}, "fwbr100i0": {**VIRTUAL, "bridge/x": ""}}
            | {"tap100i0": {**VIRTUAL, "tun_flags": "0x1002"}, "fwln100i0": VIRTUAL, "fwpr100p0": VIRTUAL},
            {"eno1": "vmbr0", "fwpr100p0": "vmbr0", "tap100i0": "fwbr100i0", "fwln100i0": "fwbr100i0"},
            ["eno1"],
        ),
        (
            {"wlp2s0": HARDWARE, "wg0": {**VIRTUAL, "type": "65534"}, "br-ace": {**VIRTUAL, "bridge/x": ""}},
            {},
            ["wlp2s0"],
        ),
        ({"eth0": HARDWARE, "enP1p0s2": HARDWARE}, {"enP1p0s2": "eth0"}, ["eth0"]),
        ({"ib0": {**HARDWARE, "type": "32"}, "ib0.8001": {**HARDWARE, "iflink": "7"}}, {}, ["ib0"]),
        (
            {"eth0": HARDWARE, "lan1": {**HARDWARE, "ifindex": "5"}, "br0": {**VIRTUAL, "bridge/x": ""}},
            {"lan1": "br0"},
            ["eth0"],
        ),
    ],
    ids=["bond, VLAN, bridge", "Proxmox", "wireless", "Hyper-V with a virtual function", "InfiniBand", "switch chip"],
)
def test_hardware_carries_each_byte_once(
    interfaces: Mapping[str, Mapping[str, str]], masters: Mapping[str, str], expected: list[str], tmp_path: Path
) -> None:
    """What is above a physical interface, or a part of one, is not counted beside it, whatever its name is."""
    subject = machine(tmp_path, {"lo": {**VIRTUAL, "type": "772"}, **interfaces}, masters)
    assert subject.carriers(["lo", *interfaces], ["lo", *interfaces]) == expected


def port(index: int, name: str, switch: str = "b8cef603") -> dict[str, str]:
    """Return the files of a port of a switch; those that are no port return an error, here an empty file."""
    numbers = {"ifindex": str(index), "iflink": str(index)}
    return {**HARDWARE, **numbers, "phys_port_name": f"{name}\n", "phys_switch_id": f"{switch}\n"}


@pytest.mark.parametrize(
    "name", ["pf0vf0", "pf1vf12", "c1pf0vf3", "pf0sf88", "pf0", "c1pf0", "p0pf0vf1", "pf0vfr2", "7"]
)
def test_a_representor_is_not_counted_beside_its_card(name: str, tmp_path: Path) -> None:
    """What a virtual function sends through the switch of its card passes the card's port too."""
    ports = {"uplink": port(2, "p0"), "split": port(3, "p0s1"), "function": port(4, name)}
    subject = machine(tmp_path, ports, {})
    for _ in range(2):
        assert subject.carriers(ports, list(ports)) == ["uplink", "split"]


def test_a_card_without_a_switch_is_counted(tmp_path: Path) -> None:
    """Some drivers number the ports of a card that is no switch."""
    ports = {"eth0": port(2, "0", switch=""), "eth1": port(3, "1", switch="")}
    assert machine(tmp_path, ports, {}).carriers(ports, []) == ["eth0", "eth1"]


def test_an_interface_that_takes_a_name_is_another(tmp_path: Path) -> None:
    """A representor that goes leaves its name to a card."""
    subject = machine(tmp_path, {"eth0": port(2, "p0"), "eth1": port(3, "pf0vf0")}, {})
    assert subject.carriers(["eth0", "eth1"], []) == ["eth0"]
    write(tmp_path / "class/net/eth1", port(4, "p1"))
    assert subject.carriers(["eth0", "eth1"], []) == ["eth0", "eth1"]


def test_a_lock_that_is_held_delays_nothing(tmp_path: Path) -> None:
    """An interface whose port cannot be read in time is counted; a FIFO stands in for a file that blocks."""
    subject = machine(tmp_path, {"eth0": port(2, "p0"), "eth1": {**HARDWARE, "phys_switch_id": "b8"}}, {})
    fifo = tmp_path / "class/net/eth1/phys_port_name"
    os.mkfifo(fifo)
    for _ in range(2):
        assert subject.carriers(["eth0", "eth1"], []) == ["eth0", "eth1"]
    with fifo.open("w") as file:
        file.write("pf0vf0\n")


def test_a_container_has_the_interfaces_that_are_there(tmp_path: Path) -> None:
    """Without hardware, selected interfaces that are neither loopback, tunnels nor above others are counted."""
    interfaces = {
        "lo": {**VIRTUAL, "type": "772"},
        "eth0": {**VIRTUAL, "iflink": "41"},
        "eth1": {**VIRTUAL, "iflink": "43"},
        "eth0.7": VIRTUAL,
        "vethab": VIRTUAL,
        "docker0": {**VIRTUAL, "bridge/bridge_id": "8000"},
        "office": {**VIRTUAL, "type": "65534", "tun_flags": "0x1001"},
        "home": {**VIRTUAL, "type": "65534"},
    }
    subject = machine(tmp_path, interfaces, {"eth0": "eth0.7", "vethab": "docker0"})
    selected = [name for name in interfaces if name not in ("vethab", "docker0")]
    assert subject.carriers(interfaces, selected) == ["eth0", "eth1"]


def test_without_sysfs_the_selected_interfaces_are_counted(tmp_path: Path) -> None:
    """Where /sys is not mounted, nothing is known of an interface."""
    assert Interfaces(tmp_path, tmp_path).carriers(["lo", "eth0"], ["eth0"]) == ["eth0"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_frames_through_a_real_bridge_are_counted_once(tmp_path: Path) -> None:
    """Frames that arrive at a member of a bridge are bytes of both, and count once for the host."""
    command = [installed("unshare"), "--net", "--mount", sys.executable, network_of_a_host.__file__, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if CANNOT_MOUNT in done.stdout or "unshare failed" in done.stderr:
        missing("network namespaces need root")
    rose = json.loads(done.stdout)
    sent = network_of_a_host.FRAMES * network_of_a_host.BYTES
    assert rose["network_receive_bytes_total"]["eth0"] == sent
    assert rose["network_receive_bytes_total"]["lan"] > sent * 0.9  # without the frames' headers
    assert rose["network_receive_bytes_total"]["macvlan0"] > sent * 0.9
    assert rose["host_network_receive_bytes_total"] == {"": sent}
