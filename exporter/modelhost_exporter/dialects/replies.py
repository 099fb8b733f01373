"""Parse responses: bytes are split into frames, a dialect's Reader processes their JSON, the result is a Usage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from modelhost_exporter.dialects.contract import NOTHING, Progress, Usage
from modelhost_exporter.dialects.frame_template import FrameTemplates
from modelhost_exporter.dialects.ndjson import Lines
from modelhost_exporter.dialects.sse import EventStream
from modelhost_exporter.dialects.whole_body import WHOLE_LIMIT, WholeBody
from modelhost_exporter.untrusted_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.dialects.contract import ParseError, Reply
    from modelhost_exporter.dialects.usage_builder import UsageBuilder

_NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
# members that are extracted from a body that is too long to parse
_EXCERPT = (
    "model",
    "usage",
    "x_groq",
    "timings",
    "metrics",
    "stats",
    "error",
    "meta",
    "prompt_eval_count",
    "load_duration",
)


class Reader(Protocol):
    """A dialect's processor of parsed JSON, which collects its result in a builder."""

    @property
    def builder(self) -> UsageBuilder:
        """The result so far."""
        ...

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process one frame of a stream."""
        ...

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document."""
        ...


class Framing(Protocol):
    """A splitter of bytes into frames."""

    @property
    def errors(self) -> set[ParseError]:
        """Errors in the framing so far."""
        ...

    @property
    def error_event(self) -> bool:
        """Whether the framing itself reported an error."""
        ...

    @property
    def is_between_events(self) -> bool:
        """Whether the bytes that follow begin a server-sent event."""
        ...

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that end in these bytes."""
        ...

    def flush(self) -> list[bytes]:
        """Return the last frame, at the end of a stream that does not terminate it."""
        ...


def watch(content_type: str, reader: Reader, whole_limit: int = WHOLE_LIMIT) -> Reply:
    """Return the parser for a Content-Type."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return StreamReply(EventStream(), reader)
    if kind in _NDJSON:
        return StreamReply(Lines(), reader)
    if kind == "application/json" or kind.endswith("+json"):
        return WholeReply(reader, whole_limit)
    return SilentReply()


class StreamReply:
    """A parser of a streamed response."""

    def __init__(self, framing: Framing, reader: Reader, repeats: FrameTemplates | None = None) -> None:
        self._framing = framing
        self._reader = reader
        self._repeats = repeats or FrameTemplates()
        self._usage: Usage | None = None

    @property
    def model(self) -> str | None:
        """The model's name, once a frame has contained it."""
        return self._reader.builder.model

    def feed(self, chunk: bytes) -> Progress:
        """Parse the next bytes, split anywhere."""
        if self._usage is not None:
            return NOTHING
        if self._framing.is_between_events:
            known = self._repeats.event_progress(chunk)
            if known is not None:
                return known
        total = NOTHING
        for data in self._framing.feed(chunk):
            progress = self._frame(data)
            if total is NOTHING:
                total = progress
            elif progress is not NOTHING:
                total = Progress(total.chunks + progress.chunks, total.answer or progress.answer)
        return total

    def finish(self, *, cut: bool = False) -> Usage:
        """Return the result."""
        if self._usage is None:
            builder = self._reader.builder
            builder.failed = builder.failed or self._framing.error_event
            self._flush()
            if not cut and "too_long" in builder.errors:  # a frame that was dropped may have been the last one
                builder.complete = True
            self._usage = builder.usage()
        return self._usage

    def _flush(self) -> None:
        """Process a last frame without its terminator; errors of an incomplete frame are not counted."""
        builder = self._reader.builder
        errors = builder.errors | self._framing.errors
        for data in self._framing.flush():
            self._frame(data)
        builder.errors = errors

    def _frame(self, data: bytes) -> Progress:
        known = self._repeats.progress(data)
        if known is not None:
            return known
        if data == b"[DONE]":
            self._reader.builder.complete = True
            return NOTHING
        if data == b"null":  # llama.cpp begins the stream of several prompts with it
            return NOTHING
        try:
            frame = parse_json(data)
        except ValueError:
            self._reader.builder.errors.add("json")
            return NOTHING
        if not isinstance(frame, dict):
            self._reader.builder.errors.add("shape")
            return NOTHING
        progress = self._reader.frame(frame)
        self._reader.builder.add_output(progress)
        self._repeats.learn(data, progress)
        return progress


class WholeReply:
    """A parser of a response that is one JSON document, parsed at its end."""

    def __init__(self, reader: Reader, limit: int) -> None:
        self._reader = reader
        self._body = WholeBody(limit)
        self._usage: Usage | None = None

    @property
    def model(self) -> str | None:
        """The model's name; known after finish()."""
        return self._reader.builder.model

    def feed(self, chunk: bytes) -> Progress:
        """Keep the next bytes."""
        if self._usage is None:
            self._body.add(chunk)
        return NOTHING

    def finish(self, *, cut: bool = False) -> Usage:
        """Parse the body and return the result."""
        if self._usage is None:
            if not self._body.cut:
                self._read(cut=cut)
            self._usage = self._reader.builder.usage()
        return self._usage

    def _read(self, *, cut: bool) -> None:
        builder = self._reader.builder
        try:
            body = self._body.excerpt(_EXCERPT) if self._body.too_long else self._body.document()
        except ValueError:
            if not cut:
                builder.errors.add("json")
            return
        builder.complete = True
        builder.has_output = builder.has_output or self._body.too_long
        self._reader.whole(body)
        if self._body.too_long and builder.source == "none":
            builder.errors.add("too_long")


class SilentReply:
    """A response without anything to parse, such as HTML, audio or text. It is complete once HTTP ended it."""

    model = None

    def feed(self, chunk: bytes) -> Progress:  # noqa: ARG002 - nothing in them is parsed
        """Ignore the bytes."""
        return NOTHING

    def finish(self, *, cut: bool = False) -> Usage:  # noqa: ARG002 - likewise
        """Return an empty result."""
        return Usage(complete=True)
