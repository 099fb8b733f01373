"""Anthropic messages: the counts come in two halves, and cached tokens stand beside input_tokens, not inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import ANSWER, NOTHING, THOUGHT, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import Draft
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
    """Read a request: model and stream."""
    asked = request(body)
    return None if asked is None else Call(model_name(asked.get("model")), asked.get("stream") is True)


def reply(content_type: str) -> Reply:
    """Watch a reply."""
    return watch(content_type, MessagesReader())


class MessagesReader:
    """Reads typed events and whole messages."""

    def __init__(self) -> None:
        self.draft = Draft()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Take one event."""
        kind = frame.get("type")
        if kind == "content_block_delta":
            return self._delta(self.draft.mapping(frame.get("delta")))
        if kind == "message_start":
            self._start(self.draft.mapping(frame.get("message")))
        elif kind == "message_delta":
            self._end(frame)
        elif kind == "message_stop":
            self.draft.complete = True
        if frame.get("timings") is not None:
            read_timings(self.draft, frame["timings"])
        read_error(self.draft, frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Take a reply that is one document."""
        message = self.draft.mapping(body)
        self._start(message)
        self._output(message.get("usage"))
        self.draft.finish(0, message.get("stop_reason"))
        if message.get("timings") is not None:
            read_timings(self.draft, message["timings"])
        read_error(self.draft, message)

    def _delta(self, delta: Mapping[str, object]) -> Progress:
        kind = delta.get("type")
        field, progress = _DELTAS.get(kind, ("", NOTHING)) if isinstance(kind, str) else ("", NOTHING)
        return progress if field and self.draft.text(delta.get(field)) else NOTHING

    def _start(self, message: Mapping[str, object]) -> None:
        """Take a message's head; its output_tokens are a placeholder."""
        self.draft.name(message.get("model"))
        self._input(message.get("usage"))

    def _end(self, frame: Mapping[str, object]) -> None:
        self.draft.finish(0, self.draft.mapping(frame.get("delta")).get("stop_reason"))
        self._input(frame.get("usage"))
        self._output(frame.get("usage"))

    def _input(self, value: object) -> None:
        """Take input counts; the later and better ones win, but zeros do not replace what the start said."""
        draft, usage = self.draft, self.draft.mapping(value)
        fresh = draft.count(usage.get("input_tokens"))
        hit = draft.count(usage.get("cache_read_input_tokens"))
        write = draft.count(usage.get("cache_creation_input_tokens"))
        whole = (fresh or 0) + (hit or 0) + (write or 0)
        if fresh is None or (draft.input_tokens and not whole):
            return
        draft.input_tokens, draft.input_cache_hit, draft.input_cache_write = whole, hit, write
        draft.source = "usage"

    def _output(self, value: object) -> None:
        tokens = self.draft.count(self.draft.mapping(value).get("output_tokens"))
        if tokens is not None:
            self.draft.output_tokens = tokens
            self.draft.source = "usage"
