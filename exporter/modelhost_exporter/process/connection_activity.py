"""What a connection does, and since when: the state that its timeouts depend on."""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

HEADER_TIMEOUT = "header_timeout"
IDLE_TIMEOUT = "idle_timeout"
BODY_TIMEOUT = "body_timeout"
SEND_TIMEOUT = "send_timeout"


class Phase(Enum):
    """What a connection waits for."""

    IDLE = auto()
    """The next request."""
    HEADERS = auto()
    """The rest of a request's headers."""
    BODY = auto()
    """More of a request's body."""
    SERVED = auto()
    """The server's side: no timeout but the one for sending applies."""


class Timeouts(Protocol):
    """The timeouts in force, in seconds."""

    @property
    def header_timeout(self) -> float:
        """From the first byte of a request, or the connection's start, to the end of its headers."""
        ...

    @property
    def idle_timeout(self) -> float:
        """Longest time between two requests."""
        ...

    @property
    def body_timeout(self) -> float:
        """Longest time between two bytes of a request's body."""
        ...

    @property
    def send_timeout(self) -> float:
        """Longest time in which the client reads no byte of what waits to be sent."""
        ...


class ConnectionActivity:
    """Times of a connection's last progress, on the clock of the event loop."""

    __slots__ = ("_sent", "_unsent", "active", "headers_since", "stalled_since")

    def __init__(self) -> None:
        self.active = 0.0
        """When the last byte was received or sent."""
        self.headers_since: float | None = None
        """When the headers that are being received began; None between requests and after their headers."""
        self.stalled_since = 0.0
        """When the last byte was sent, if others wait."""
        self._unsent = 0
        self._sent = 0

    def begin(self, now: float) -> None:
        """Begin with a new connection, which is to send headers."""
        self.active = self.headers_since = now

    def update_sending(self, now: float, unsent: int, sent: int) -> bool:
        """Note how much is waiting to be sent, and a count that grows with each byte sent; return whether any waits."""
        has_progressed = sent > self._sent
        if unsent and (has_progressed or not self._unsent):
            self.stalled_since = now
        if has_progressed:
            self.active = now
        self._unsent, self._sent = unsent, sent
        return bool(unsent)

    def overdue(self, now: float, phase: Phase, timeouts: Timeouts, *, is_sending: bool) -> str | None:
        """Return the timeout that has expired; None if there is none."""
        if is_sending:
            return SEND_TIMEOUT if now - self.stalled_since > timeouts.send_timeout else None
        if phase is Phase.SERVED:
            self.active = now
            return None
        if phase is Phase.BODY:
            return BODY_TIMEOUT if now - self.active > timeouts.body_timeout else None
        if phase is Phase.HEADERS and self.headers_since is not None:
            return HEADER_TIMEOUT if now - self.headers_since > timeouts.header_timeout else None
        return IDLE_TIMEOUT if now - self.active > timeouts.idle_timeout else None
