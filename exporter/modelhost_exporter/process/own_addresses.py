"""The IP addresses behind a host name, and whether one is this machine's."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from pathlib import Path

from modelhost_exporter.linux.kernel_files import count_if_possible

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOOPBACK = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))
_SYSCTL = Path("/proc/sys/net")
_ANY_PORT, _DISCARD_PORT = 0, 9


def addresses_of(host: str) -> frozenset[IpAddress]:
    """Return the addresses of a host to listen on or to connect to, '' for every address of the machine.

    None where it cannot be resolved. May wait for name servers.
    """
    if host.lower().removesuffix(".") == "localhost":
        return frozenset(_LOOPBACK)
    try:
        infos = socket.getaddrinfo(host or None, _DISCARD_PORT, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):  # UnicodeError: a label of more than 63 letters
        return frozenset()
    return frozenset(_parsed(str(where[0])) for _, _, _, _, where in infos)


def _parsed(text: str) -> IpAddress:
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def is_own(address: IpAddress) -> bool:
    """Return whether an address is one of this machine's. Sends nothing, and does not wait."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((str(address), _ANY_PORT))
        return not _binds_any(address) or _is_its_own_source(address, family)
    return False


def _binds_any(address: IpAddress) -> bool:
    """Return whether the kernel binds addresses of other machines too, as keepalived needs it."""
    return bool(count_if_possible(_SYSCTL / f"ipv{address.version}" / "ip_nonlocal_bind"))


def _is_its_own_source(address: IpAddress, family: int) -> bool:
    """Return whether packets to an address would come from it, as those to a machine itself do."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((str(address), _DISCARD_PORT))
        return bool(_parsed(sock.getsockname()[0]) == address)
