"""LM Studio's native chat: typed events, the last one with ``stats``. Its OpenAI-style paths use OpenAI's dialects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import ANSWER, NOTHING, THOUGHT, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "lmstudio"
PATHS: Mapping[str, Operation] = {"/api/v1/chat": "chat"}


def call(body: bytes) -> Call | None:
    """Parse a request body: model and stream."""
    parsed = request(body)
    return None if parsed is None else Call(model_name(parsed.get("model")), parsed.get("stream") is True)


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, ChatReader())


class ChatReader:
    """Parser of typed events and whole results."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process one event."""
        builder, kind = self.builder, frame.get("type")
        builder.name(frame.get("model_instance_id"))
        if kind == "message.delta":
            return ANSWER if builder.text(frame.get("content")) else NOTHING
        if kind == "reasoning.delta":
            return THOUGHT if builder.reasoning(frame.get("content")) else NOTHING
        if kind == "tool_call.arguments":
            return ANSWER
        if kind == "model_load.end":
            builder.load_seconds = builder.seconds(frame.get("load_time_seconds"))
        if kind == "chat.end":
            builder.complete = True
            self.whole(frame.get("result"))
        read_error(builder, frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Process a result: the last event of a stream, or a whole response."""
        builder, body = self.builder, self.builder.mapping(body)
        builder.name(body.get("model_instance_id"))
        read_error(builder, body)
        for item in builder.objects(body.get("output") or []):
            thinks = item.get("type") == "reasoning" and builder.reasoning(item.get("content"))
            builder.add_output(THOUGHT if thinks else ANSWER)
        stats = builder.mapping(body.get("stats"))
        builder.input_tokens = builder.count(stats.get("input_tokens"))
        builder.output_tokens = builder.count(stats.get("total_output_tokens"))
        builder.output_reasoning = builder.count(stats.get("reasoning_output_tokens"))
        builder.prefill_seconds = builder.seconds(stats.get("time_to_first_token_seconds"))
        if stats.get("model_load_time_seconds") is not None:
            builder.load_seconds = builder.seconds(stats["model_load_time_seconds"])
        if builder.input_tokens is not None or builder.output_tokens is not None:
            builder.source = "stats"
