from __future__ import annotations

import pytest

from modelhost_exporter.linux.netstat import parse_pairs, parse_snmp6, parse_sockstat, total

SNMP = "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: RtoMin MaxConn RetransSegs\nTcp: 200 -1 7\n"


def test_pairs_of_lines() -> None:
    """Names and numbers belong together by their place; a number below 0 is none."""
    assert parse_pairs(SNMP) == {
        ("Ip", "Forwarding"): 1,
        ("Ip", "DefaultTTL"): 64,
        ("Tcp", "RtoMin"): 200,
        ("Tcp", "RetransSegs"): 7,
    }


@pytest.mark.parametrize(
    "odd",
    [
        "\n",
        "odd\n",
        "Udp:\n",
        "Udp: InErrors\nIcmp: 3\n",
        "Udp: InErrors\nUdp: x\n",
        "Udp: InErrors\n",
        "\0\n",
        " \n \n",
    ],
)
def test_an_odd_line_costs_only_itself(odd: str) -> None:
    """The protocols before and after invalid lines are parsed."""
    found = parse_pairs(f"{SNMP}{odd}Z: a\nZ: 1\n")
    assert found == {**parse_pairs(SNMP), ("Z", "a"): 1}


def test_snmp6() -> None:
    """The protocol ends with the 6."""
    text = "Ip6InReceives    \t5\nUdp6InErrors   3\nUdp6RcvbufErrors\nUdpLite6InErrors 4\nOdd 3\nUdp6X y\n"
    assert parse_snmp6(text) == {("Ip6", "InReceives"): 5, ("Udp6", "InErrors"): 3, ("UdpLite6", "InErrors"): 4}


def test_sockstat() -> None:
    """Names and numbers come in turn."""
    text = "sockets: used 80\nTCP: inuse 10 orphan x tw 12 alloc\n\n \nFRAG: inuse 0 memory 0\n"
    assert parse_sockstat(text) == {
        ("sockets", "used"): 80,
        ("TCP", "inuse"): 10,
        ("TCP", "tw"): 12,
        ("FRAG", "inuse"): 0,
        ("FRAG", "memory"): 0,
    }


def test_a_total_of_what_is_known() -> None:
    """A kernel without IPv6 has IPv4's number, and one that has neither none."""
    assert total({("Udp", "a"): 1, ("Udp6", "a"): 2}, ("Udp", "Udp6"), "a") == 3
    assert total({("Udp", "a"): 1}, ("Udp", "Udp6"), "a") == 1
    assert total({}, ("Udp", "Udp6"), "a") is None
