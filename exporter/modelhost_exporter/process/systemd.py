"""Notify systemd as in sd_notify(3): datagrams to the socket in NOTIFY_SOCKET."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

from modelhost_exporter.logs.state_log import StateLog

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

log = logging.getLogger(__name__)

_BUSY_ATTEMPTS, _BUSY_PAUSE_SECONDS = 50, 0.1


class Systemd:
    """A client of the service manager, if there is one. No method raises, and only ``ping`` blocks."""

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        """Prepare; without an address nothing is sent. An address that starts with @ is an abstract socket."""
        self.watchdog_seconds = watchdog_seconds
        """Seconds without a ping after which systemd restarts the service; None without a watchdog."""
        self._address = address
        self._socket: socket.socket | None = None
        self._failing = StateLog(initial=False)
        if address[:1] in ("/", "@"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def ready(self) -> None:
        """Report that the service has started, or that a reload is over."""
        self._send("READY=1")

    def ping(self) -> None:
        """Report that the service works; blocks for up to 5 s while the manager does not read.

        A lost ping may cause a restart: the next one follows half the watchdog's time later.
        """
        for _ in range(_BUSY_ATTEMPTS):
            if self._send("WATCHDOG=1") != errno.EAGAIN:
                return
            time.sleep(_BUSY_PAUSE_SECONDS)

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self._send("STOPPING=1")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Report the start and the end of a reload, successful or not."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self.ready()

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()

    def _send(self, *lines: str) -> int | None:
        """Send a message; return the error number if that fails, and log the first of consecutive failures."""
        if self._socket is None:
            return None
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if self._failing.changed(state=True):
                problem = error.strerror or str(error)
                log.warning("systemd not notified", extra={"fields": {"message": lines[0], "error": problem}})
            return error.errno
        self._failing.changed(state=False)
        return None


def from_environment(environment: MutableMapping[str, str]) -> Systemd:
    """Return the client for these environment variables, and remove them, so that child processes do not use them."""
    address = environment.pop("NOTIFY_SOCKET", "")
    microseconds = environment.pop("WATCHDOG_USEC", "")
    process = environment.pop("WATCHDOG_PID", "")
    is_ours = process in ("", str(os.getpid()))
    seconds = int(microseconds) / 1e6 if is_ours and microseconds.isdecimal() else 0.0
    return Systemd(address, seconds or None)
