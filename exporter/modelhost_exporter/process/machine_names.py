"""The names of this machine, to tell its own host names from those of other sites."""

from __future__ import annotations

import ipaddress
import socket

from modelhost_exporter.process.daemon_thread import Thread

LOCALHOST = "localhost"

_INSTALLERS_NAMES = frozenset(
    {
        *(LOCALHOST, "localhost4", "localhost6", "ip6-localhost"),
        *("alpine", "archlinux", "debian", "fedora", "kali", "nixos", "raspberrypi", "tegra-ubuntu", "ubuntu"),
    }
)
"""Default names of installers and images. With any domain accepted, ``ubuntu.attacker.example`` would pass."""

_NAMES_IN_CONTAINERS = ("host.docker.internal", "host.containers.internal")
"""Names of the host inside containers; ``.internal`` is reserved and cannot be registered."""


class MachineNames:
    """Host names of this machine: its own, the short form, and the short form with any domain."""

    def __init__(self, *names: str) -> None:
        """Start with these names; without any, with the system's, to which the resolver's is added later."""
        self._exact: set[str] = {LOCALHOST, *_NAMES_IN_CONTAINERS}
        self._shorts: set[str] = set()
        self._is_of_system = not names
        for name in names or (socket.gethostname(),):
            self.add(name)
        if self._is_of_system:
            self._add_resolved()

    def add(self, name: str) -> None:
        """Add a name, its short form and, unless it is a default name, the short form with any domain."""
        name = name.lower().rstrip(".")
        short = name.partition(".")[0]
        if not short or is_address(name):
            return
        self._exact |= {name, short, f"{short}.local"}
        if short not in _INSTALLERS_NAMES and not short.isdigit():
            self._shorts.add(short)

    def __contains__(self, host: str) -> bool:
        return self._has(host) or (self._is_of_system and self._has_after_renaming(host))

    def _has(self, host: str) -> bool:
        return host in self._exact or host.partition(".")[0] in self._shorts

    def _has_after_renaming(self, host: str) -> bool:
        """Check again with the system's current name, which may have been set after the start."""
        self.add(socket.gethostname())
        return self._has(host)

    def _add_resolved(self) -> None:
        """Add the fully qualified name, in a thread, since the resolver may block."""
        try:
            Thread(lambda: self.add(socket.getfqdn()), "fqdn").start()
        except RuntimeError:  # no thread left on this machine: continue with the other names
            return


def is_address(host: str) -> bool:
    """Return whether a URL's host is an IP address, in the form that browsers send."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
