"""The response of /api/requests: fields, types and units.

The tables of docs/live-api.md are generated from these classes and the strings below their fields. A value is null
where it does not apply or is not known.
"""

from __future__ import annotations

from typing import TypedDict


class RequestsMessage(TypedDict):
    """The response of `/api/requests`."""

    requests: list[RequestMessage]
    """Requests in progress, those that take longest first; then the last finished ones, the newest first."""


class RequestMessage(TypedDict):
    """One request through the proxy, without its content."""

    time: str
    """When it was received: ISO 8601, UTC, with milliseconds."""
    server: str
    """Name of the server in the configuration."""
    model: str
    """Name of the model, as in the metrics: `other` or `unknown` where it has no series of its own."""
    operation: str
    """What was requested, such as chat; `other` for what is not for inference."""
    state: str
    """`finished`; while it is in progress `waiting` or `streaming` for a stream, else `blocking`."""
    outcome: str | None
    """How it ended, such as ok; null while it is in progress."""
    code: str | None
    """Status code that the client received, `none` without a response; null while it is in progress."""
    timeToFirstToken: float | None
    """Time to the first token in ms; of successful streams."""
    duration: float
    """Duration in ms, so far while it is in progress."""
    inputTokens: int | None
    """Input tokens, as the server counts them."""
    outputTokens: int | None
    """Output tokens, as the server counts them."""
    tokensPerSecond: float | None
    """Output tokens per second of decode."""
    finishReason: str | None
    """Why the output ended; several where the response has several choices that ended differently."""
    client: str | None
    """The client, as the header of `requests.client` names it, at most 64 characters; null without that key."""
