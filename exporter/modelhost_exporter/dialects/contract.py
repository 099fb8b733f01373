"""Types and protocols of the dialects: plain data, no I/O, no clock."""

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
    """The parsed part of a request body."""

    model: str | None
    stream: bool
    """Whether the response is a stream, with the dialect's default applied (Ollama streams by default)."""
    choices: int = 1
    """Answers to each prompt that the request wants (``n``)."""


class Progress(NamedTuple):
    """What the bytes of one ``Reply.feed`` contained."""

    chunks: int
    """Frames with at least one token (answer, reasoning, tool call, refusal, audio); a chunk is not a token."""
    answer: bool
    """Whether some of them were part of the answer (content, tool call, refusal) rather than reasoning."""


NOTHING = Progress(0, answer=False)
THOUGHT = Progress(1, answer=False)
ANSWER = Progress(1, answer=True)


@dataclass
class Usage:
    """Tokens, durations and outcome of one response; None or empty where the server did not report them, never 0."""

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
    """Number of answers in the response; with more than one, there is no meaningful time per output token."""
    complete: bool = False
    """Whether the response ended as its protocol defines."""
    failed: bool = False
    """Whether the response contained an error, possibly with status 200."""
    is_inference: bool = True
    """False for responses to requests that only loaded or unloaded a model."""
    source: Source = "none"
    """The part of the response that the token counts come from."""
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    queue_seconds: float | None = None
    load_seconds: float | None = None
    parse_errors: tuple[ParseError, ...] = ()
    """Reasons of parse errors, each once, sorted."""


class Reply(Protocol):
    """A parser of one response; never raises, keeps a bounded number of bytes."""

    @property
    def model(self) -> str | None:
        """The model's name, once a frame has contained it."""
        ...

    def feed(self, chunk: bytes) -> Progress:
        """Parse the next bytes, split anywhere; ignored after finish()."""
        ...

    def finish(self, *, cut: bool = False) -> Usage:
        """Return the result; may be called at any time, and returns the same each time.

        ``cut`` is set when the response was cut off: an incomplete document is then no parse error.
        """
        ...


class Dialect(Protocol):
    """The interface of a dialect's module. NAME is its file name and the value of the label ``api``.

    A module may also have ``error_object(message, code)``, which returns an error in its format for a status;
    by default it is OpenAI's.
    """

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """The dialect's name."""
        ...

    @property
    def PATHS(self) -> Mapping[str, Operation]:  # noqa: N802 - a module's constant
        """The operation of each path, or end of a path, of this dialect."""
        ...

    def call(self, body: bytes) -> Call | None:
        """Parse a request body; None when it is not valid. Linear in its size, some milliseconds per MB."""
        ...

    def reply(self, content_type: str) -> Reply:
        """Return a parser for a response of this Content-Type; it reports nothing for types of other dialects."""
        ...
