"""What the parsers of this package take and give: plain data, no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

Operation = Literal["chat", "text_completion", "embeddings", "rerank", "responses", "messages", "generate", "other"]
Source = Literal["usage", "timings", "ollama", "stats", "none"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "other"]
ParseError = Literal["json", "framing", "shape", "too_long"]


@dataclass(frozen=True)
class Call:
    """What a request body says."""

    model: str | None
    stream: bool
    """What the client will get: the dialect's default is applied (Ollama streams unless told not to)."""


class Progress(NamedTuple):
    """What one fed piece of bytes contained."""

    chunks: int
    """Frames with at least one token (answer, reasoning, tool call, refusal, audio); a chunk is not a token."""
    answer: bool
    """Some of them carried what the user waits for: content, tool call, refusal; not reasoning."""


NOTHING = Progress(0, answer=False)
THOUGHT = Progress(1, answer=False)
ANSWER = Progress(1, answer=True)


@dataclass
class Usage:
    """What is known of a reply at its end; None or empty where the server did not say, never 0 for unknown."""

    model: str | None = None
    input_tokens: int | None = None
    """All input tokens, cached ones included."""
    input_cache_hit: int | None = None
    """Of these, read from a cache."""
    input_cache_write: int | None = None
    """Of these, written to a cache."""
    output_tokens: int | None = None
    """All output tokens, reasoning included."""
    output_reasoning: int | None = None
    """Of these, reasoning."""
    finish_reasons: tuple[FinishReason, ...] = ()
    """One per choice that has finished, in the order of their index."""
    choices: int = 1
    """How many answers the reply held; with more than one, time per output token makes no sense."""
    complete: bool = False
    """The reply ended the way its protocol ends."""
    failed: bool = False
    """The reply held an error, also inside a 200."""
    is_inference: bool = True
    """False for replies that only loaded or unloaded a model."""
    source: Source = "none"
    """Where the token counts come from."""
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    queue_seconds: float | None = None
    load_seconds: float | None = None
    parse_errors: tuple[ParseError, ...] = ()
    """What could not be understood, each reason once, sorted."""


class Reply(Protocol):
    """Watches one reply; never raises, holds a bounded number of bytes."""

    @property
    def model(self) -> str | None:
        """The model's name, as soon as a frame named it."""
        ...

    def feed(self, chunk: bytes) -> Progress:
        """Take the next bytes, split anywhere; ignored after finish()."""
        ...

    def finish(self, *, cut: bool = False) -> Usage:
        """Say what is known; legal at any time, the same each time.

        ``cut`` when the reply is known to have broken off: half a document is then no parse error.
        """
        ...


class Dialect(Protocol):
    """What a module that knows one dialect offers; its file name is NAME and the ``wire`` label."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """The dialect's name."""
        ...

    @property
    def PATHS(self) -> Mapping[str, Operation]:  # noqa: N802 - a module's constant
        """Which paths (or ends of paths) speak it, and what is done there."""
        ...

    def call(self, body: bytes) -> Call | None:
        """Read a request body (linear in its size, some milliseconds per MB); None when it cannot be understood."""
        ...

    def reply(self, content_type: str) -> Reply:
        """Watch a reply of that Content-Type; one that this dialect does not have gives a Reply that says nothing."""
        ...
