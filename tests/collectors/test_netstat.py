from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.netstat import NetstatCollector, create
from tests.support.machine import FILES, write
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path


def test_counters(tmp_path: Path) -> None:
    """TCP's counters come from snmp and netstat, those of UDP are the sum of IPv4 and IPv6."""
    read = readings(NetstatCollector(write(tmp_path, FILES) / "proc").collect())
    assert {name: value[()] for name, value in read.items()} == {
        "netstat_tcp_out_segments_total": 900,
        "netstat_tcp_retransmitted_segments_total": 9,
        "netstat_tcp_out_resets_total": 5,
        "netstat_tcp_established_resets_total": 4,
        "netstat_tcp_in_errors_total": 1,
        "netstat_tcp_listen_overflows_total": 2,
        "netstat_tcp_listen_drops_total": 3,
        "netstat_udp_in_errors_total": 11,
        "netstat_udp_receive_buffer_errors_total": 22,
        "netstat_udp_send_buffer_errors_total": 33,
        "netstat_udp_no_ports_total": 44,
    }


@pytest.mark.parametrize("name", ["snmp", "netstat", "snmp6"])
def test_a_file_that_is_missing_costs_only_its_numbers(name: str, tmp_path: Path) -> None:
    """A kernel without IPv6 has no snmp6."""
    (write(tmp_path, FILES) / "proc/net" / name).unlink()
    read = readings(NetstatCollector(tmp_path / "proc").collect())
    assert ("netstat_tcp_listen_drops_total" in read) == (name != "netstat")
    assert ("netstat_tcp_out_resets_total" in read) == (name != "snmp")
    assert "netstat_udp_in_errors_total" in read


def test_without_proc_it_is_unavailable(tmp_path: Path) -> None:
    """On other systems than Linux the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable):
        list(NetstatCollector(tmp_path).collect())


def test_this_machine() -> None:
    """A connection to a port without a server is a reset, and a datagram to one has no port."""
    collector = create(CollectorOptions(), CollectorContext())
    before = readings(collector.collect())
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with socket.socket() as client, contextlib.suppress(ConnectionRefusedError):
            client.connect(unused.getsockname())
    with socket.socket(type=socket.SOCK_DGRAM) as closed, socket.socket(type=socket.SOCK_DGRAM) as sender:
        closed.bind(("127.0.0.1", 0))
        address = closed.getsockname()
        closed.close()
        sender.sendto(b"x", address)
    after = readings(collector.collect())
    for name in ("netstat_tcp_out_resets_total", "netstat_udp_no_ports_total"):
        assert after[name][()] > before[name][()]
