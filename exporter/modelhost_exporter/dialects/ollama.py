"""Ollama's own chat and generate: JSON lines, the last one with counts and durations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import ANSWER, NOTHING, THOUGHT, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import Draft
from modelhost_exporter.dialects.usage_objects import read_error
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "ollama"
PATHS: Mapping[str, Operation] = {"/api/chat": "chat", "/api/generate": "generate"}

_NANO = 1e9
_NOT_AN_INFERENCE = ("load", "unload")


def call(body: bytes) -> Call | None:
    """Read a request: model, and stream, which is on unless the client switched it off."""
    asked = request(body)
    return None if asked is None else Call(model_name(asked.get("model")), asked.get("stream") is not False)


def reply(content_type: str) -> Reply:
    """Watch a reply."""
    return watch(content_type, OllamaReader())


class OllamaReader:
    """Reads lines, and bodies that are one line."""

    def __init__(self) -> None:
        self.draft = Draft()
        self._called = False

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Take one line."""
        draft = self.draft
        if draft.model is None:
            draft.name(frame.get("model"))
        progress = self._token(frame)
        if draft.flag(frame.get("done")):
            draft.complete = True
            self._end(frame)
        read_error(draft, frame)
        return progress

    def whole(self, body: object) -> None:
        """Take a reply that is one document."""
        self.frame(self.draft.mapping(body))

    def _token(self, frame: Mapping[str, object]) -> Progress:
        draft = self.draft
        message = draft.mapping(frame.get("message"))
        if message.get("tool_calls") and draft.objects(message["tool_calls"]):
            self._called = True
            return ANSWER
        if draft.text(message.get("content")) or draft.text(frame.get("response")):
            return ANSWER
        if draft.text(message.get("thinking")) or draft.text(frame.get("thinking")):
            return THOUGHT
        return NOTHING

    def _end(self, frame: Mapping[str, object]) -> None:
        reason = frame.get("done_reason")
        if reason in _NOT_AN_INFERENCE:
            self.draft.is_inference = False
        else:  # Ollama stops for a tool call without saying so
            self.draft.finish(0, "tool_calls" if self._called and reason == "stop" else reason)
        read_final(self.draft, frame)


def read_final(draft: Draft, frame: Mapping[str, object]) -> None:
    """Take the counts and durations of a final line; the counts do not tell cached tokens from computed ones."""
    draft.input_tokens = draft.count(frame.get("prompt_eval_count"))
    draft.output_tokens = draft.count(frame.get("eval_count"))
    draft.load_seconds = draft.seconds(frame.get("load_duration"), _NANO)
    draft.prefill_seconds = draft.seconds(frame.get("prompt_eval_duration"), _NANO)
    draft.decode_seconds = draft.seconds(frame.get("eval_duration"), _NANO)
    if draft.input_tokens is not None or draft.output_tokens is not None:
        draft.source = "ollama"
