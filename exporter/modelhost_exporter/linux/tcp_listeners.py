"""TCP ports of this network namespace that programs listen on (Linux Documentation/networking/proc_net_tcp.rst)."""

from __future__ import annotations

import ipaddress
import itertools
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_LISTEN = "0A"
_ADDRESS, _STATE, _INODE = 1, 3, 9
"""Fields of a line."""


class ListeningSocket(NamedTuple):
    """A socket that listens."""

    host: str
    """The address that reaches it from this machine."""
    port: int
    inode: str
    """Different for each socket, so that a server that was restarted has another."""


def tcp_listeners(procfs: Path = _PROC) -> list[ListeningSocket]:
    """Return the sockets that listen, those of IPv4 first. Raises OSError where the kernel does not list them."""
    found: dict[int, ListeningSocket] = {}
    with (procfs / "self/net/tcp").open(encoding="ascii", errors="replace") as lines:
        _add(found, lines)
    with suppress(FileNotFoundError), (procfs / "self/net/tcp6").open(encoding="ascii", errors="replace") as lines:
        _add(found, lines)  # absent without IPv6
    return list(found.values())


def _add(found: dict[int, ListeningSocket], lines: object) -> None:
    """Add the listeners of a file, whose lines begin with them: what follows may be 100,000 connections."""
    for line in itertools.islice(lines, 1, None):  # type: ignore[call-overload] # a text file
        words = line.split()
        if len(words) <= _INODE or words[_STATE] != _LISTEN:
            return
        address, _, port = words[_ADDRESS].rpartition(":")
        with suppress(ValueError):
            listener = ListeningSocket(_reachable(address), int(port, 16), words[_INODE])
            found.setdefault(listener.port, listener)


def _reachable(hexadecimal: str) -> str:
    """Return an address as text; loopback for one that stands for every address."""
    raw = bytes.fromhex(hexadecimal)
    if len(raw) % 4 or not raw:
        raise ValueError(hexadecimal)
    swapped = b"".join(struct.pack(">I", *struct.unpack("=I", raw[at : at + 4])) for at in range(0, len(raw), 4))
    address = ipaddress.ip_address(swapped)
    mapped = getattr(address, "ipv4_mapped", None)
    return "127.0.0.1" if address.is_unspecified else str(mapped or address)
