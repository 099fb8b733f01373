"""OpenAI responses: typed events, ended by an event of its own rather than [DONE]."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import ANSWER, NOTHING, THOUGHT, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import Draft
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
# Ollama numbers its responses and always says that no token was cached and none was reasoning
_MADE_UP_DETAILS = re.compile(r"resp_\d+")


def call(body: bytes) -> Call | None:
    """Read a request: model and stream."""
    asked = request(body)
    return None if asked is None else Call(model_name(asked.get("model")), asked.get("stream") is True)


def reply(content_type: str) -> Reply:
    """Watch a reply."""
    return watch(content_type, ResponsesReader())


class ResponsesReader:
    """Reads typed events and whole responses."""

    def __init__(self) -> None:
        self.draft = Draft()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Take one event."""
        kind = frame.get("type")
        if isinstance(kind, str) and kind in _DELTAS:
            return _DELTAS[kind] if self.draft.text(frame.get("delta")) else NOTHING
        if "response" in frame:
            self._response(self.draft.mapping(frame["response"]))
        if isinstance(kind, str) and kind in _ENDS:
            self.draft.complete = True
            self.draft.failed = self.draft.failed or kind == "response.failed"
        read_reports(self.draft, frame)
        read_error(self.draft, frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Take a reply that is one document."""
        self._response(self.draft.mapping(body))

    def _response(self, response: Mapping[str, object]) -> None:
        draft = self.draft
        draft.name(response.get("model"))
        read_reports(draft, response)
        read_error(draft, response)
        self._status(response)
        name = response.get("id")
        if isinstance(name, str) and _MADE_UP_DETAILS.fullmatch(name):
            draft.input_cache_hit = draft.input_cache_hit or None
            draft.output_reasoning = draft.output_reasoning or None

    def _status(self, response: Mapping[str, object]) -> None:
        draft, status = self.draft, response.get("status")
        if status == "completed":
            draft.finish(0, "tool_calls" if self._calls(response.get("output")) else "stop")
        elif status == "incomplete":
            draft.finish(0, draft.mapping(response.get("incomplete_details")).get("reason", "incomplete"))
        elif status == "cancelled":
            draft.finish(0, "cancelled")
        elif status == "failed":
            draft.failed = True

    def _calls(self, output: object) -> bool:
        return output is not None and any(item.get("type") in _CALLS for item in self.draft.objects(output))
