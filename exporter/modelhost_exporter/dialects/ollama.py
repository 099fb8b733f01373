"""Ollama's native chat and generate: JSON lines, the last one with counts and durations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import ANSWER, NOTHING, THOUGHT, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "ollama"
PATHS: Mapping[str, Operation] = {"/api/chat": "chat", "/api/generate": "generate"}

_NANO = 1e9
_MIN_SECONDS = 1e-6
_NOT_AN_INFERENCE = ("load", "unload")


def call(body: bytes) -> Call | None:
    """Parse a request body: model and stream, which is on by default."""
    parsed = request(body)
    return None if parsed is None else Call(model_name(parsed.get("model")), parsed.get("stream") is not False)


def error_object(message: str, _code: int) -> object:
    """Return an error in this dialect's format."""
    return {"error": message}


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, OllamaReader())


class OllamaReader:
    """Parser of lines, and of bodies that are one line."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()
        self._called = False

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process one line."""
        builder = self.builder
        if builder.model is None:
            builder.name(frame.get("model"))
        progress = self._token(frame)
        if builder.flag(frame.get("done")):
            builder.complete = True
            self._end(frame)
        read_error(builder, frame)
        return progress

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document."""
        self.builder.add_output(self.frame(self.builder.mapping(body)))

    def _token(self, frame: Mapping[str, object]) -> Progress:
        builder = self.builder
        message = builder.mapping(frame.get("message"))
        thinks = builder.reasoning(message.get("thinking")) or builder.reasoning(frame.get("thinking"))
        calls = message.get("tool_calls") or frame.get("tool_calls")
        if calls and builder.objects(calls):
            self._called = True
            return ANSWER
        if builder.text(message.get("content")) or builder.text(frame.get("response")):
            return ANSWER
        if thinks:
            return THOUGHT
        return NOTHING

    def _end(self, frame: Mapping[str, object]) -> None:
        reason = frame.get("done_reason")
        if reason in _NOT_AN_INFERENCE:
            self.builder.is_inference = False
        else:  # Ollama reports no reason of its own for a tool call
            self.builder.finish(0, "tool_calls" if self._called and reason == "stop" else reason)
        read_final(self.builder, frame)


def read_final(builder: UsageBuilder, frame: Mapping[str, object]) -> None:
    """Process the counts and durations of a final line; the counts include cached tokens without reporting them."""
    builder.input_tokens = builder.count(frame.get("prompt_eval_count"))
    builder.output_tokens = builder.count(frame.get("eval_count"))
    builder.load_seconds = _duration(builder, frame.get("load_duration"))
    builder.prefill_seconds = _duration(builder, frame.get("prompt_eval_duration"))
    builder.decode_seconds = _duration(builder, frame.get("eval_duration"))
    if builder.input_tokens is not None or builder.output_tokens is not None:
        builder.source = "ollama"


def _duration(builder: UsageBuilder, value: object) -> float | None:
    """Return a duration; None for one of some nanoseconds: servers that imitate Ollama write 0 or 1."""
    seconds = builder.seconds(value, _NANO)
    return None if seconds is None or seconds < _MIN_SECONDS else seconds
