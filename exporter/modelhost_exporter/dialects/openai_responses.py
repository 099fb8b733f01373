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
    from collections.abc import Mapping, Sequence

NAME = "openai_responses"
PATHS: Mapping[str, Operation] = {"/responses": "responses"}

# an event → the field with something of the output, and what that is
_TOKENS: Mapping[object, tuple[str, Progress]] = {
    "response.output_text.delta": ("delta", ANSWER),
    "response.refusal.delta": ("delta", ANSWER),
    "response.function_call_arguments.delta": ("delta", ANSWER),
    "response.custom_tool_call_input.delta": ("delta", ANSWER),
    "response.mcp_call_arguments.delta": ("delta", ANSWER),
    "response.code_interpreter_call_code.delta": ("delta", ANSWER),
    "response.shell_call_command.added": ("command", ANSWER),
    "response.shell_call_command.delta": ("delta", ANSWER),
    "response.image_generation_call.partial_image": ("partial_image_b64", ANSWER),
    "response.audio.delta": ("delta", ANSWER),
    "response.audio.transcript.delta": ("delta", ANSWER),
    "response.reasoning_text.delta": ("delta", THOUGHT),
    "response.reasoning_summary_text.delta": ("delta", THOUGHT),
}
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_CALLS = frozenset(
    {
        "apply_patch_call",
        "computer_call",
        "custom_tool_call",
        "function_call",
        "local_shell_call",
        "shell_call",
    }
)
"""Calls that the client carries out, unless the response has their output too."""
_NAMED_CALLS = ("function_call", "custom_tool_call", "mcp_call")
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
        if isinstance(kind, str) and kind in _TOKENS:
            return self._token(frame, *_TOKENS[kind])
        if kind == "response.output_item.added":
            return self._item(self.builder.mapping(frame.get("item")))
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

    def _token(self, frame: Mapping[str, object], field: str, progress: Progress) -> Progress:
        contained = self.builder.reasoning if progress is THOUGHT else self.builder.text
        return progress if contained(frame.get(field)) else NOTHING

    def _item(self, item: Mapping[str, object]) -> Progress:
        """Return the progress of an item's start: a call has its name from there on, and maybe no arguments."""
        return ANSWER if item.get("type") in _NAMED_CALLS and self.builder.text(item.get("name")) else NOTHING

    def _response(self, response: Mapping[str, object]) -> None:
        builder = self.builder
        builder.name(response.get("model"))
        read_reports(builder, response)
        read_error(builder, response)
        output = builder.objects(response.get("output") or [])
        self._output(output)
        self._status(response, output)
        name = response.get("id")
        if isinstance(name, str) and _MADE_UP_DETAILS.fullmatch(name):
            builder.input_cache_hit = builder.input_cache_hit or None
            builder.output_reasoning = builder.output_reasoning or None

    def _output(self, items: Sequence[Mapping[str, object]]) -> None:
        for item in items:
            if item.get("type") == "reasoning":
                self.builder.has_reasoning |= bool(item.get("summary") or item.get("content"))
            self.builder.has_output = True

    def _status(self, response: Mapping[str, object], output: Sequence[Mapping[str, object]]) -> None:
        builder, status = self.builder, response.get("status")
        if status == "completed":
            builder.finish(0, "tool_calls" if _calls(output) else "stop")
        elif status == "incomplete":
            builder.finish(0, builder.mapping(response.get("incomplete_details")).get("reason", "incomplete"))
        elif status == "cancelled":
            builder.finish(0, "cancelled")
        elif status == "failed":
            builder.failed = True


def _calls(output: Sequence[Mapping[str, object]]) -> bool:
    """Return whether the response ended for a call that the client shall carry out."""
    kinds = {kind for item in output if isinstance(kind := item.get("type"), str)}
    return any(f"{kind}_output" not in kinds for kind in kinds & _CALLS)
