from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from modelhost_exporter.collector import CollectorContext, Unavailable
from modelhost_exporter.collectors.network import NetworkCollector, NetworkOptions, bytes_per_second, create
from modelhost_exporter.config.name_filter import NameFilter
from tests.support.machine import NicCounts, NicState, psutil_double
from tests.support.readings import readings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from types import SimpleNamespace

    from tests.support.readings import Readings

DEFAULT = NetworkOptions().devices


def with_interfaces(*names: str, states: dict[str, Any] | None = None) -> SimpleNamespace:
    """Return a psutil that has counters for these interfaces, and these states (by default: of the same ones)."""
    return psutil_double(
        net_io_counters=lambda **_: {name: NicCounts() for name in names},
        net_if_stats=lambda: {name: NicState() for name in names} if states is None else states,
    )


def test_counters_state_and_speed() -> None:
    """Each of psutil's counters has its family; the speed is in bytes per second, not megabits."""
    read = readings(NetworkCollector(DEFAULT, with_interfaces("eth0")).collect())
    assert {name: value["eth0",] for name, value in read.items() if not name.startswith("host_")} == {
        "network_transmit_bytes_total": 1,
        "network_receive_bytes_total": 2,
        "network_transmit_packets_total": 3,
        "network_receive_packets_total": 4,
        "network_receive_errors_total": 5,
        "network_transmit_errors_total": 6,
        "network_receive_dropped_total": 7,
        "network_transmit_dropped_total": 8,
        "network_up": 1,
        "network_speed_bytes": 125e6,
    }


def of_host(read: Readings) -> list[float]:
    """Return the bytes that the host has received and sent."""
    return [*read["host_network_receive_bytes_total"].values(), *read["host_network_transmit_bytes_total"].values()]


def test_bytes_of_the_host() -> None:
    """Bytes of the physical interfaces are summed from 0 on, those that are not selected included."""
    counts = {"eth0": NicCounts(), "eth1": NicCounts(), "bond0": NicCounts()}
    given: list[tuple[list[str], list[str]]] = []

    def carriers(names: Iterable[str], selected: Collection[str]) -> list[str]:
        given.append((list(names), list(selected)))
        return ["eth0", "eth1"]

    source = psutil_double(net_io_counters=lambda **_: counts)
    subject = NetworkCollector(NameFilter(include=re.compile("eth0")), source, lambda _: {}, carriers)
    assert of_host(readings(subject.collect())) == [0, 0]
    counts.update({name: NicCounts(bytes_recv=102, bytes_sent=11) for name in counts})
    assert of_host(readings(subject.collect())) == [200, 20]
    assert given[0] == (["eth0", "eth1", "bond0"], ["eth0"])


@pytest.mark.parametrize(
    ("names", "counted"),
    [(("eth0", "en1", "lo0", "bond0", "eth0.100", "bridge1"), 2), (("bond0", "lo"), 1), (("lo",), 0)],
)
def test_bytes_of_the_host_by_name(names: tuple[str, ...], counted: int) -> None:
    """On other systems than Linux names tell what is above others; such an interface counts where no other is."""
    counts = dict.fromkeys(names, NicCounts(bytes_recv=0))
    subject = NetworkCollector(NameFilter(), psutil_double(net_io_counters=lambda **_: counts))
    list(subject.collect())
    counts.update(dict.fromkeys(names, NicCounts(bytes_recv=1)))
    assert of_host(readings(subject.collect()))[0] == counted


@pytest.mark.parametrize(
    "name", ["eth0", "enp3s0f1np1", "wlan0", "wlp2s0", "ib0", "bond0", "en0", "eno1", "br0", "br-ace", "eth0.100"]
)
def test_real_interfaces_are_measured_by_default(name: str) -> None:
    """What carries the machine's traffic is measured."""
    assert set(readings(NetworkCollector(DEFAULT, with_interfaces(name)).collect())["network_up"]) == {(name,)}


@pytest.mark.parametrize(
    "name",
    [
        *("lo", "lo0", "veth1a2b3c", "docker0", "podman0", "br-0123456789ab", "virbr0", "virbr0-nic", "vnet3", "tap0"),
        *(
            "tun0",
            "wg0",
            "tailscale0",
            "utun4",
            "cni0",
            "flannel.1",
            "cali12ab",
            "cilium_host",
            "lxc0a1b",
            "kube-ipvs0",
        ),
        *("nerdctl0", "fwbr100i0", "fwln100i0", "fwpr100p0", "tap100i0"),
        *("dummy0", "ifb1", "sit0", "tunl0", "vxlan.calico", "awdl0", "bonding_masters"),
    ],
)
def test_virtual_interfaces_are_left_out_by_default(name: str) -> None:
    """Loopback, tunnels, bridges and containers' interfaces are left out: their bytes would count twice."""
    assert set(readings(NetworkCollector(DEFAULT, with_interfaces("eth0", name)).collect())["network_up"]) == {
        ("eth0",)
    }


def test_include_picks_what_the_default_leaves_out() -> None:
    """With lo included, lo is measured and nothing else."""
    chosen = NameFilter(include=re.compile("lo"))
    read = readings(NetworkCollector(chosen, with_interfaces("lo", "eth0")).collect())
    assert all(set(series) == {("lo",)} for name, series in read.items() if not name.startswith("host_"))


def test_a_link_that_is_down() -> None:
    """An interface that is not up has the value 0."""
    source = with_interfaces("eth0", states={"eth0": NicState(isup=False)})
    assert readings(NetworkCollector(DEFAULT, source).collect())["network_up"] == {("eth0",): 0}


@pytest.mark.parametrize("megabits", [0, -1, 2**16 - 1, 2**32 - 1, 2**31])
def test_an_unknown_speed_is_absent(megabits: int) -> None:
    """0, -1 and the drivers' own values for 'unknown' are no speed."""
    assert bytes_per_second(megabits) is None
    source = with_interfaces("eth0", states={"eth0": NicState(speed=megabits)})
    assert "network_speed_bytes" not in readings(NetworkCollector(DEFAULT, source).collect())


@pytest.mark.parametrize(("megabits", "wanted"), [(10, 1.25e6), (1000, 125e6), (400_000, 50e9)])
def test_speeds(megabits: int, wanted: float) -> None:
    """Megabits (a million bits) become bytes."""
    assert bytes_per_second(megabits) == wanted


def test_an_interface_that_goes_between_two_reads() -> None:
    """An interface with counters only, or with a state only, does not affect the others."""
    source = with_interfaces("eth0", "eth1", states={"eth0": NicState(), "eth2": NicState()})
    read = readings(NetworkCollector(DEFAULT, source).collect())
    assert set(read["network_receive_bytes_total"]) == {("eth0",), ("eth1",)}
    assert set(read["network_up"]) == set(read["network_speed_bytes"]) == {("eth0",)}


def test_states_that_cannot_be_read() -> None:
    """Traffic is exported even if states and speeds cannot be read."""

    def refuse() -> NoReturn:
        raise OSError(19, "No such device")

    read = readings(NetworkCollector(DEFAULT, psutil_double(net_if_stats=refuse)).collect())
    assert read["network_receive_bytes_total"] == {("eth0",): 2}
    assert not {"network_up", "network_speed_bytes"} & set(read)


@pytest.mark.parametrize("names", [(), ("lo", "docker0")])
def test_no_interface_is_unavailable(names: tuple[str, ...]) -> None:
    """Without a selected interface the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable, match="no network interface"):
        list(NetworkCollector(DEFAULT, with_interfaces(*names)).collect())


def test_psutil_without_an_answer_is_unavailable() -> None:
    """On a machine without interfaces psutil returns None."""
    with pytest.raises(Unavailable):
        list(NetworkCollector(DEFAULT, psutil_double(net_io_counters=lambda **_: None)).collect())


def test_this_machine() -> None:
    """On the real machine loopback has received what it has sent, and is up."""
    collector = create(NetworkOptions(devices=NameFilter(include=re.compile("lo0?"))), CollectorContext())
    read = {
        name: value for name, (value, *_) in ((n, tuple(s.values())) for n, s in readings(collector.collect()).items())
    }
    assert read["network_up"] == 1
    assert read["network_receive_bytes_total"] == read["network_transmit_bytes_total"]
    assert "network_speed_bytes" not in read
