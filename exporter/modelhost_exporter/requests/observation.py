"""What is known of one request once it is over: plain data, decided once, recorded once."""

from __future__ import annotations

from typing import Literal, NamedTuple

Outcome = Literal[
    "ok",
    "client_error",
    "server_error",
    "client_disconnect",
    "timeout",
    "upstream_unreachable",
    "stream_error",
    "proxy_error",
]

ERRORS: frozenset[Outcome] = frozenset(
    {"server_error", "timeout", "upstream_unreachable", "stream_error", "proxy_error"}
)
"""Outcomes that count as errors; client_error and client_disconnect count neither for nor against.

proxy_error is the proxy's own fault: it is an error of the service that clients see, and none of the server.
"""

NO_REPLY = "none"
"""The code of a request that was never answered."""


class Tokens(NamedTuple):
    """Token counts that the server reported; parts are disjoint once recorded, None is unknown."""

    input: int | None = None
    input_cache_hit: int | None = None
    input_cache_write: int | None = None
    output: int | None = None
    output_reasoning: int | None = None
    source: str = "none"


class ServerSeconds(NamedTuple):
    """Durations that the server itself reported; None where it did not."""

    prefill: float | None = None
    decode: float | None = None
    queue: float | None = None
    load: float | None = None


class RequestObservation(NamedTuple):
    """One request as the proxy saw it; seconds, None for what does not apply or is not known."""

    model: str
    operation: str
    stream: bool
    outcome: Outcome
    code: str
    duration: float
    time_to_first_token: float | None = None
    time_to_first_answer_token: float | None = None
    time_per_output_token: float | None = None
    max_gap: float | None = None
    finish_reasons: tuple[str, ...] = ()
    tokens: Tokens = Tokens()
    server_seconds: ServerSeconds = ServerSeconds()

    @property
    def is_inference(self) -> bool:
        """Return whether the request was for inference."""
        return self.operation != "other"
