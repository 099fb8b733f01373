"""One finished request as plain data: labels, outcome, durations and token counts."""

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
"""Outcomes that count as errors. Error rates leave client_error and client_disconnect out.

proxy_error is a fault of the proxy: clients receive an error that the server did not cause.
"""

NO_REPLY = "none"
"""The code of a request that received no response."""

OTHER_OPERATION = "other"
"""The operation of a request that is not for inference, such as a list of models or a health check."""


class RequestLabels(NamedTuple):
    """The labels that all metrics of requests share, in the order of their declaration."""

    server: str
    model: str
    operation: str

    @property
    def is_inference(self) -> bool:
        """Whether the request is for inference."""
        return self.operation != OTHER_OPERATION


class Tokens(NamedTuple):
    """Token counts that the server reported; None where it did not.

    ``input`` and ``output`` are totals, the other counts are parts of them.
    """

    input: int | None = None
    input_cache_hit: int | None = None
    input_cache_write: int | None = None
    output: int | None = None
    output_reasoning: int | None = None
    source: str = "none"
    """Where the counts come from; 'none' where there are none."""


class ServerSeconds(NamedTuple):
    """Durations in seconds that the server reported; None where it did not."""

    prefill: float | None = None
    decode: float | None = None
    queue: float | None = None
    load: float | None = None


NO_SECONDS = ServerSeconds()
"""Those of a response without any."""


class RequestObservation(NamedTuple):
    """One finished request. Durations are in seconds; None where they do not apply or are not known."""

    labels: RequestLabels
    stream: bool
    outcome: Outcome
    code: str
    duration: float
    """From the request's headers to the last byte of its response."""
    time_to_first_token: float | None = None
    time_to_first_answer_token: float | None = None
    time_per_output_token: float | None = None
    max_gap: float | None = None
    finish_reasons: tuple[str, ...] = ()
    tokens: Tokens = Tokens()
    server_seconds: ServerSeconds = NO_SECONDS
    chunks: int = 0
    """Chunks with tokens; 0 for a response that is no stream."""
    decode_seconds: float | None = None
    """From the first chunk with tokens to the last; None without two of them."""
    is_parsed: bool = True
    """Whether the response could be parsed; without that no objective applies."""
    choices: int = 1
    """Answers to each prompt that the request wants (``n``)."""
    client: str | None = None
    """The client, as the configured header names it; None without one."""
