"""OpenAI chat completions, as most servers speak them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects import openai_choices
from modelhost_exporter.dialects.contract import ANSWER, NOTHING, THOUGHT, Operation, Progress, Reply
from modelhost_exporter.dialects.replies import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.dialects.usage_builder import Draft

NAME = "openai_chat"
PATHS: Mapping[str, Operation] = {"/chat/completions": "chat"}

call = openai_choices.call


def reply(content_type: str) -> Reply:
    """Watch a reply."""
    return watch(content_type, openai_choices.ChoicesReader(_token))


def _token(draft: Draft, choice: Mapping[str, object]) -> Progress:
    """Say what a choice of a frame carries; a role, an empty or an absent content is no token."""
    delta = draft.mapping(choice.get("delta"))
    if draft.text(delta.get("content")) or draft.text(delta.get("refusal")):
        return ANSWER
    if "tool_calls" in delta and _calls(draft, delta["tool_calls"]):
        return ANSWER
    if "function_call" in delta and _called(draft, delta["function_call"]):
        return ANSWER
    if draft.text(delta.get("reasoning_content")) or draft.text(delta.get("reasoning")):
        return THOUGHT
    if "audio" in delta and _sounds(draft, delta["audio"]):
        return ANSWER
    return NOTHING


def _calls(draft: Draft, calls: object) -> bool:
    return calls is not None and any(_called(draft, call.get("function")) for call in draft.objects(calls))


def _called(draft: Draft, function: object) -> bool:
    function = draft.mapping(function)
    return draft.text(function.get("name")) or draft.text(function.get("arguments"))


def _sounds(draft: Draft, audio: object) -> bool:
    audio = draft.mapping(audio)
    return draft.text(audio.get("data")) or draft.text(audio.get("transcript"))
