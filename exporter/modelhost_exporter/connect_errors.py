"""Why a server cannot be reached, in words for people."""

from __future__ import annotations

import os
import socket
import ssl
from typing import NamedTuple


class Cause(NamedTuple):
    """Why a server cannot be reached, and what may help; '' where that depends."""

    reason: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.advice}" if self.advice else self.reason


SPEAKS_TLS = Cause("it speaks TLS, not plain HTTP", "write https:// instead of http://")
CLOSED = Cause("it closed the connection without a response")
MAY_SPEAK_TLS = Cause(f"{CLOSED.reason} (TLS?)", "if it speaks TLS, write https:// instead of http://")
"""Some servers of TLS close the connection, where others send an alert."""
_SPEAKS_NO_TLS = Cause("it does not speak TLS (plain HTTP?)", "write http:// instead of https://")
_NO_TLS_REASONS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
"""What OpenSSL's versions call bytes that are no TLS."""

_CAUSES: tuple[tuple[type[OSError], Cause], ...] = (
    (TimeoutError, Cause("it does not respond in time")),
    (ConnectionRefusedError, Cause("nothing listens there", "start it, or correct the URL")),
    (ConnectionError, Cause("it closes the connection")),
    (socket.gaierror, Cause("its name has no address", "correct the URL")),
)


def is_tls(data: bytes) -> bool:
    """Return whether bytes begin like a TLS record: an alert or a handshake (RFC 8446, section 5.1)."""
    return data[:2] in (b"\x15\x03", b"\x16\x03")


def cause_of(error: Exception) -> Cause:
    """Return the cause of a failed connection; its text contains no URL."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Cause(f"its certificate is not trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return _SPEAKS_NO_TLS if error.reason in _NO_TLS_REASONS else Cause(f"TLS fails: {_tls_reason(error)}")
    known = next((cause for kind, cause in _CAUSES if isinstance(error, kind)), None)
    if known is not None:
        return known
    if isinstance(error, OSError) and error.errno:
        return Cause(os.strerror(error.errno))
    text = str(error)
    if text.startswith("Multiple exceptions"):  # aiohappyeyeballs: the order of addresses differs each time
        return Cause("none of its addresses accepts a connection")
    return Cause(text or type(error).__name__)


def _tls_reason(error: ssl.SSLError) -> str:
    return (error.reason or "handshake failure").lower().replace("_", " ")
