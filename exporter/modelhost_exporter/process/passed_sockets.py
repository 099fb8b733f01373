"""Listening sockets that systemd has opened (socket activation), as in sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.parsing import ConfigError

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

_FIRST_DESCRIPTOR = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class PassedSockets:
    """The sockets that were passed to this process, and their addresses."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self.sockets = tuple(sockets)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The TCP addresses; Unix sockets have none."""
        names = [each.getsockname() for each in self.sockets if each.family != getattr(socket, "AF_UNIX", None)]
        return tuple(Address(str(name[0]), int(name[1])) for name in names)


def take(environment: MutableMapping[str, str]) -> PassedSockets:
    """Return the sockets, and remove the variables, so that child processes do not use them.

    Raises ConfigError for a descriptor that is not a listening stream socket.
    """
    values = {name: environment.pop(name, "") for name in _VARIABLES}
    if values["LISTEN_PID"] != str(os.getpid()) or not values["LISTEN_FDS"].isdecimal():
        return PassedSockets(())
    count = int(values["LISTEN_FDS"])
    return PassedSockets([_socket(number) for number in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + count)])


def _socket(number: int) -> socket.socket:
    try:
        os.set_inheritable(number, False)
        found = socket.socket(fileno=number)
    except OSError as error:
        raise ConfigError("LISTEN_FDS", f"descriptor {number} is no socket: {error.strerror}") from error
    if found.type != socket.SOCK_STREAM or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.detach()
        raise ConfigError(
            "LISTEN_FDS", f"descriptor {number} is no listening stream socket: use ListenStream= and Accept=no"
        )
    found.setblocking(False)
    return found
