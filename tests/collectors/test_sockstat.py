from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.sockstat import SockstatCollector, create
from tests.support.machine import FILES, write
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path


def test_sockets(tmp_path: Path) -> None:
    """IPv4 and IPv6 are added, and pages of memory are bytes."""
    read = readings(SockstatCollector(write(tmp_path, FILES) / "proc", 4096).collect())
    assert {name: value[()] for name, value in read.items()} == {
        "sockstat_sockets_used": 80,
        "sockstat_tcp_inuse": 14,
        "sockstat_tcp_orphan": 0,
        "sockstat_tcp_alloc": 11,
        "sockstat_tcp_memory_bytes": 50 * 4096,
        "sockstat_udp_inuse": 6,
        "sockstat_udp_memory_bytes": 2 * 4096,
    }


def test_without_proc_it_is_unavailable(tmp_path: Path) -> None:
    """On other systems than Linux the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable):
        list(SockstatCollector(tmp_path).collect())


def test_this_machine() -> None:
    """A socket that is bound is in use."""
    collector = create(CollectorOptions(), CollectorContext())
    with socket.socket(type=socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        read = readings(collector.collect())
    assert read["sockstat_udp_inuse"][()] >= 1
    assert read["sockstat_sockets_used"][()] >= 1
