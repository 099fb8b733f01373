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
# a block → the field that has something of it from the start, and what that is
_BLOCKS: Mapping[object, tuple[str, Progress]] = {
    "text": ("text", ANSWER),
    "tool_use": ("name", ANSWER),
    "server_tool_use": ("name", ANSWER),
    "mcp_tool_use": ("name", ANSWER),
    "thinking": ("thinking", THOUGHT),
    "redacted_thinking": ("data", THOUGHT),
}
_INPUT_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_NO_TOKEN = ("", NOTHING)
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def call(body: bytes) -> Call | None:
    """Parse a request body: model and stream."""
    parsed = request(body)
    return None if parsed is None else Call(model_name(parsed.get("model")), parsed.get("stream") is True)


def error_object(message: str, code: int) -> object:
    """Return an error in this dialect's format."""
    return {"type": "error", "error": {"type": _ERROR_TYPES.get(code, "api_error"), "message": message}}


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, MessagesReader())


class MessagesReader:
    """Parser of typed events and whole messages."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()
        self._input_counts: list[int | None] = [None] * len(_INPUT_COUNTS)
        self._thought_hidden = False

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process one event."""
        kind = frame.get("type")
        if kind == "content_block_delta":
            return self._delta(self.builder.mapping(frame.get("delta")))
        if kind == "content_block_start":
            return self._block(self.builder.mapping(frame.get("content_block")))
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
        for block in self.builder.objects(message.get("content") or []):
            self.builder.add_output(self._block(block))
        self.builder.finish(0, message.get("stop_reason"))
        if message.get("timings") is not None:
            read_timings(self.builder, message["timings"])
        read_error(self.builder, message)

    def _block(self, block: Mapping[str, object]) -> Progress:
        """Return the progress of a block's start, or of a whole block: a tool may be called without arguments."""
        self._thought_hidden = block.get("type") == "thinking"
        progress = self._token(block, _BLOCKS)
        return progress if progress.chunks else self._signature(block)

    def _delta(self, delta: Mapping[str, object]) -> Progress:
        if delta.get("type") == "signature_delta":
            return self._signature(delta)
        return self._token(delta, _DELTAS)

    def _token(self, part: Mapping[str, object], fields: Mapping[object, tuple[str, Progress]]) -> Progress:
        kind = part.get("type")
        field, progress = fields.get(kind, _NO_TOKEN) if isinstance(kind, str) else _NO_TOKEN
        if not self.builder.text(part.get(field)):
            return NOTHING
        if progress is THOUGHT:
            self.builder.has_reasoning = True
            self._thought_hidden = False
        return progress

    def _signature(self, part: Mapping[str, object]) -> Progress:
        """Return the progress of a signature: a thought whose text is left out shows in nothing else."""
        if self._thought_hidden and self.builder.reasoning(part.get("signature")):
            self._thought_hidden = False
            return THOUGHT
        return NOTHING

    def _start(self, message: Mapping[str, object]) -> None:
        """Process the start of a message; its output_tokens are a placeholder."""
        self.builder.name(message.get("model"))
        self._input(message.get("usage"))

    def _end(self, frame: Mapping[str, object]) -> None:
        self.builder.finish(0, self.builder.mapping(frame.get("delta")).get("stop_reason"))
        self._input(frame.get("usage"))
        self._output(frame.get("usage"))

    def _input(self, value: object) -> None:
        """Process input counts: later ones replace earlier ones, but nothing but zeros is a placeholder."""
        builder, usage = self.builder, self.builder.mapping(value)
        counts = [builder.count(usage.get(name)) for name in _INPUT_COUNTS]
        if not any(counts):
            return
        known = [old if new is None else new for old, new in zip(self._input_counts, counts, strict=True)]
        self._input_counts = known
        if known[0] is None:
            return
        builder.input_tokens = sum(count or 0 for count in known)
        _, builder.input_cache_hit, builder.input_cache_write = known
        builder.source = "usage"

    def _output(self, value: object) -> None:
        builder, usage = self.builder, self.builder.mapping(value)
        tokens = builder.count(usage.get("output_tokens"))
        if tokens is not None:
            builder.output_tokens = tokens
            builder.source = "usage"
        details = builder.mapping(usage.get("output_tokens_details"))
        if details.get("thinking_tokens") is not None:
            builder.output_reasoning = builder.count(details["thinking_tokens"])
