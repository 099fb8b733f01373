"""OpenAI chat completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects import openai_choices
from modelhost_exporter.dialects.contract import ANSWER, NOTHING, THOUGHT, Operation, Progress, Reply
from modelhost_exporter.dialects.replies import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.dialects.usage_builder import UsageBuilder

NAME = "openai_chat"
PATHS: Mapping[str, Operation] = {"/chat/completions": "chat"}

call = openai_choices.call


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, openai_choices.ChoicesReader(_token))


def _token(builder: UsageBuilder, choice: Mapping[str, object]) -> Progress:
    """Return the progress of a choice in a frame; a role, or empty or absent content, is no token."""
    delta = builder.mapping(choice.get("delta"))
    if builder.text(delta.get("content")) or builder.text(delta.get("refusal")):
        return ANSWER
    if "tool_calls" in delta and _calls(builder, delta["tool_calls"]):
        return ANSWER
    if "function_call" in delta and _called(builder, delta["function_call"]):
        return ANSWER
    if builder.text(delta.get("reasoning_content")) or builder.text(delta.get("reasoning")):
        return THOUGHT
    if "audio" in delta and _sounds(builder, delta["audio"]):
        return ANSWER
    return NOTHING


def _calls(builder: UsageBuilder, calls: object) -> bool:
    return calls is not None and any(_called(builder, call.get("function")) for call in builder.objects(calls))


def _called(builder: UsageBuilder, function: object) -> bool:
    function = builder.mapping(function)
    return builder.text(function.get("name")) or builder.text(function.get("arguments"))


def _sounds(builder: UsageBuilder, audio: object) -> bool:
    audio = builder.mapping(audio)
    return builder.text(audio.get("data")) or builder.text(audio.get("transcript"))
