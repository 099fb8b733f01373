"""Errors of requests without a response from the upstream, and the response that the client gets instead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from modelhost_exporter.connect_errors import cause_of
from modelhost_exporter.dialects import error_object
from modelhost_exporter.process.descriptors import is_shortage

if TYPE_CHECKING:
    from modelhost_exporter.requests.observation import Outcome

CLIENT_ERROR, SERVER_ERROR = 400, 500


class Failure(Exception):
    """A request without a response to forward: its outcome, and the status and message for the client."""

    def __init__(self, outcome: Outcome, code: int, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.code = code


class Refused(Failure):
    """A request that is not forwarded, with the status and the reason that the client gets.

    Its connection is closed: where a request ends that is refused, client and proxy may read differently.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__("client_error", code, reason)


class OutOfDescriptors(Failure):
    """The proxy has no file descriptor left for a connection to the upstream."""

    def __init__(self) -> None:
        super().__init__(
            "proxy_error", 503, "the proxy is out of file descriptors; raise its limit (ulimit -n, LimitNOFILE=)"
        )


class ConnectTimeout(TimeoutError):
    """No connection was made in time."""


def not_http(where: str, reason: str = "") -> Failure:
    """Return the failure for a response that is not HTTP, or that cannot be forwarded; ``where`` is the upstream."""
    message = f"invalid HTTP response from the model server at {where}"
    return Failure("server_error", 502, f"{message}: {reason}" if reason else message)


def unreachable(where: str, reason: str) -> Failure:
    """Return the failure for an upstream that refuses or closes connections."""
    return Failure("upstream_unreachable", 502, f"the model server at {where} cannot be reached: {reason}")


def no_response(where: str) -> Failure:
    """Return the failure for an upstream that was silent for too long."""
    return Failure("timeout", 504, f"the model server at {where} did not respond in time")


def connect_failure(error: Exception, where: str) -> Failure | None:
    """Return the failure for an exception of a connection attempt; None for an unrelated exception."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, TimeoutError):
        return Failure("timeout", 504, f"the model server at {where} did not accept a connection in time")
    if is_shortage(error):
        return OutOfDescriptors()
    return unreachable(where, cause_of(error).reason) if isinstance(error, OSError) else None


def error_body(dialect: str | None, failure: Failure) -> tuple[bytes, bytes]:
    """Return body and content type of an error in the dialect's format; plain text without a dialect."""
    message = str(failure)
    if dialect is None:
        return f"{message}\n".encode(), b"text/plain; charset=utf-8"
    return json.dumps(error_object(dialect, message, failure.outcome, failure.code)).encode(), b"application/json"
