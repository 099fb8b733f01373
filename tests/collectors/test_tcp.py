from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.tcp import TcpCollector, create, parse_established, parse_time_wait
from tests.support.machine import FILES, write
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path


def test_connections_by_state(tmp_path: Path) -> None:
    """Established comes from snmp, by its column's name, and time_wait from sockstat."""
    read = readings(TcpCollector(write(tmp_path, FILES) / "proc").collect())
    assert read == {"tcp_connections": {("established",): 6, ("time_wait",): 12}}


@pytest.mark.parametrize(
    "snmp",
    ["", "Udp: InDatagrams\nUdp: 3\n", "Tcp: CurrEstab\n", "Tcp: ActiveOpens\nTcp: 3\n"],
    ids=["empty", "no tcp", "names without numbers", "no such column"],
)
def test_a_summary_without_the_number_says_nothing(snmp: str) -> None:
    """What the kernel does not report is unknown, not zero."""
    assert parse_established(snmp) is None


@pytest.mark.parametrize(
    "sockstat", ["", "TCP: inuse 10 orphan 0 alloc 11\n", "UDP: inuse 1 tw 3\n", "TCP6: inuse 1 tw 3\n"]
)
def test_a_sockstat_without_the_number_says_nothing(sockstat: str) -> None:
    """Only the line of TCP is parsed."""
    assert parse_time_wait(sockstat) is None


def test_a_state_that_is_unknown_is_absent(tmp_path: Path) -> None:
    """One state can be known without the other."""
    write(tmp_path, {"net/snmp": "", "net/sockstat": "TCP: inuse 1 orphan 0 tw 2 alloc 1 mem 1\n"})
    assert readings(TcpCollector(tmp_path).collect()) == {"tcp_connections": {("time_wait",): 2}}


def test_without_the_kernel_s_summaries_it_is_unavailable(tmp_path: Path) -> None:
    """On other systems than Linux the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable):
        list(TcpCollector(tmp_path).collect())


def test_this_machine() -> None:
    """On the real machine both ends of a new connection are counted as established."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        read = readings(create(CollectorOptions(), CollectorContext()).collect())["tcp_connections"]
    assert read["established",] >= 2
    assert read["time_wait",] >= 0
