"""Addresses to listen on."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

_MAX_PORT = 2**16 - 1


@dataclass(frozen=True)
class Address:
    """An address to listen on: a host ('' for every address of the machine) and a port (0 for any free one)."""

    host: str
    port: int

    @classmethod
    def from_text(cls, text: str) -> Address:
        """Parse ``HOST:PORT``, ``:PORT`` or ``[IPV6]:PORT``; raises ValueError for anything else."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not (port.isascii() and port.isdigit()) or (":" in host and not bracketed) or "/" in text:
            raise ValueError(f"{text!r} is not an address such as 127.0.0.1:8585, :8585 or [::1]:8585")
        if int(port) > _MAX_PORT:
            raise ValueError(f"{text!r}: the port must be at most {_MAX_PORT}")
        return cls(host[1:-1] if bracketed else host, int(port))

    @property
    def is_every_address(self) -> bool:
        """Whether this is every address of the machine, such as '' or ``0.0.0.0``."""
        try:
            return not self.host or ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            pass
        try:
            return not any(socket.inet_aton(self.host))  # the system accepts 0 and 0.0 as well
        except (OSError, ValueError):
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Return whether a host, of a URL or an address to listen on, is ``localhost`` or a loopback address."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
