"""Anthropic messages: counts come in two events, and input_tokens does not include cached tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import ANSWER, NOTHING, THOUGHT, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error, read_timings
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "anthropic_messages"
PATHS: Mapping[str, Operation] = {"/v1/messages": "messages"}

# a block's delta → the field with its token, and what that is
_DELTAS: Mapping[object, tuple[str, Progress]] = {
    "text_delta": ("text", ANSWER),
    "input_json_delta": ("partial_json", ANSWER),
    "thinking_delta": ("thinking", THOUGHT),
}


def call(body: bytes) -> Call | None:
    """Parse a request body: model and stream."""
    parsed = request(body)
    return None if parsed is None else Call(model_name(parsed.get("model")), parsed.get("stream") is True)


def error_object(message: str) -> object:
    """Return an error in this dialect's format."""
    return {"type": "error", "error": {"type": "api_error", "message": message}}


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, MessagesReader())


class MessagesReader:
    """Parser of typed events and whole messages."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process one event."""
        kind = frame.get("type")
        if kind == "content_block_delta":
            return self._delta(self.builder.mapping(frame.get("delta")))
        if kind == "message_start":
            self._start(self.builder.mapping(frame.get("message")))
        elif kind == "message_delta":
            self._end(frame)
        elif kind == "message_stop":
            self.builder.complete = True
        if frame.get("timings") is not None:
            read_timings(self.builder, frame["timings"])
        read_error(self.builder, frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document."""
        message = self.builder.mapping(body)
        self._start(message)
        self._output(message.get("usage"))
        self.builder.finish(0, message.get("stop_reason"))
        if message.get("timings") is not None:
            read_timings(self.builder, message["timings"])
        read_error(self.builder, message)

    def _delta(self, delta: Mapping[str, object]) -> Progress:
        kind = delta.get("type")
        field, progress = _DELTAS.get(kind, ("", NOTHING)) if isinstance(kind, str) else ("", NOTHING)
        return progress if field and self.builder.text(delta.get(field)) else NOTHING

    def _start(self, message: Mapping[str, object]) -> None:
        """Process the start of a message; its output_tokens are a placeholder."""
        self.builder.name(message.get("model"))
        self._input(message.get("usage"))

    def _end(self, frame: Mapping[str, object]) -> None:
        self.builder.finish(0, self.builder.mapping(frame.get("delta")).get("stop_reason"))
        self._input(frame.get("usage"))
        self._output(frame.get("usage"))

    def _input(self, value: object) -> None:
        """Process input counts; later ones replace earlier ones, but zeros do not replace those of the start."""
        builder, usage = self.builder, self.builder.mapping(value)
        fresh = builder.count(usage.get("input_tokens"))
        hit = builder.count(usage.get("cache_read_input_tokens"))
        write = builder.count(usage.get("cache_creation_input_tokens"))
        whole = (fresh or 0) + (hit or 0) + (write or 0)
        if fresh is None or (builder.input_tokens and not whole):
            return
        builder.input_tokens, builder.input_cache_hit, builder.input_cache_write = whole, hit, write
        builder.source = "usage"

    def _output(self, value: object) -> None:
        tokens = self.builder.count(self.builder.mapping(value).get("output_tokens"))
        if tokens is not None:
            self.builder.output_tokens = tokens
            self.builder.source = "usage"
