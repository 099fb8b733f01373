"""OpenAI responses: typed events, the last of which ends the stream instead of [DONE]."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import ANSWER, NOTHING, THOUGHT, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error, read_reports
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "openai_responses"
PATHS: Mapping[str, Operation] = {"/responses": "responses"}

_DELTAS: Mapping[object, Progress] = {
    "response.output_text.delta": ANSWER,
    "response.refusal.delta": ANSWER,
    "response.function_call_arguments.delta": ANSWER,
    "response.custom_tool_call_input.delta": ANSWER,
    "response.mcp_call_arguments.delta": ANSWER,
    "response.code_interpreter_call_code.delta": ANSWER,
    "response.audio.delta": ANSWER,
    "response.audio.transcript.delta": ANSWER,
    "response.reasoning_text.delta": THOUGHT,
    "response.reasoning_summary_text.delta": THOUGHT,
}
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_CALLS = ("function_call", "custom_tool_call")
# Ollama numbers its responses and always reports 0 cached and 0 reasoning tokens
_MADE_UP_DETAILS = re.compile(r"resp_\d+")


def call(body: bytes) -> Call | None:
    """Parse a request body: model and stream."""
    parsed = request(body)
    return None if parsed is None else Call(model_name(parsed.get("model")), parsed.get("stream") is True)


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, ResponsesReader())


class ResponsesReader:
    """Parser of typed events and whole responses."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process one event."""
        kind = frame.get("type")
        if isinstance(kind, str) and kind in _DELTAS:
            return _DELTAS[kind] if self.builder.text(frame.get("delta")) else NOTHING
        if "response" in frame:
            self._response(self.builder.mapping(frame["response"]))
        if isinstance(kind, str) and kind in _ENDS:
            self.builder.complete = True
            self.builder.failed = self.builder.failed or kind == "response.failed"
        read_reports(self.builder, frame)
        read_error(self.builder, frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document."""
        self._response(self.builder.mapping(body))

    def _response(self, response: Mapping[str, object]) -> None:
        builder = self.builder
        builder.name(response.get("model"))
        read_reports(builder, response)
        read_error(builder, response)
        self._status(response)
        name = response.get("id")
        if isinstance(name, str) and _MADE_UP_DETAILS.fullmatch(name):
            builder.input_cache_hit = builder.input_cache_hit or None
            builder.output_reasoning = builder.output_reasoning or None

    def _status(self, response: Mapping[str, object]) -> None:
        builder, status = self.builder, response.get("status")
        if status == "completed":
            builder.finish(0, "tool_calls" if self._calls(response.get("output")) else "stop")
        elif status == "incomplete":
            builder.finish(0, builder.mapping(response.get("incomplete_details")).get("reason", "incomplete"))
        elif status == "cancelled":
            builder.finish(0, "cancelled")
        elif status == "failed":
            builder.failed = True

    def _calls(self, output: object) -> bool:
        return output is not None and any(item.get("type") in _CALLS for item in self.builder.objects(output))
