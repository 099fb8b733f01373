"""Errors of requests without a response from the upstream, and the response that the client gets instead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http import HttpProcessingError

from modelhost_exporter.dialects import error_object
from modelhost_exporter.process.descriptors import is_shortage
from modelhost_exporter.proxy.upstream import ConnectTimeout

if TYPE_CHECKING:
    from modelhost_exporter.requests.observation import Outcome

CLIENT_ERROR, SERVER_ERROR = 400, 500

NOT_HTTP = "invalid HTTP response from the model server"


class Failure(Exception):
    """A request without a response to forward: its outcome, and the status and message for the client."""

    def __init__(self, outcome: Outcome, code: int, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.code = code


class OutOfDescriptors(Failure):
    """The proxy has no file descriptor left for a connection to the upstream."""

    def __init__(self) -> None:
        super().__init__(
            "proxy_error", 503, "the proxy is out of file descriptors; raise its limit (ulimit -n, LimitNOFILE=)"
        )


def failure_of(error: Exception) -> Failure | None:
    """Return the failure for an exception of a call to the upstream; None for an unrelated exception."""
    if isinstance(error, (ConnectTimeout, aiohttp.ConnectionTimeoutError)):
        return Failure("timeout", 504, "the model server did not accept a connection in time")
    if isinstance(error, TimeoutError):
        return Failure("timeout", 504, "the model server did not respond in time")
    if is_shortage(error):
        return OutOfDescriptors()
    if isinstance(error, (aiohttp.ClientConnectionError, OSError)):
        return Failure("upstream_unreachable", 502, "the model server cannot be reached")
    if isinstance(error, (aiohttp.ClientError, HttpProcessingError)):
        return Failure("server_error", 502, NOT_HTTP)
    return None


def error_body(dialect: str | None, failure: Failure) -> tuple[bytes, str]:
    """Return body and content type of an error in the dialect's format; plain text without a dialect."""
    message = str(failure)
    if dialect is None:
        return f"{message}\n".encode(), "text/plain; charset=utf-8"
    return json.dumps(error_object(dialect, message, failure.outcome, failure.code)).encode(), "application/json"
