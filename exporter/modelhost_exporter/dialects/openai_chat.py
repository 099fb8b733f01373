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
PATHS: Mapping[str, Operation] = {
    "/chat/completions": "chat",
    "/chat/completions/batch": "chat",  # vLLM: several conversations, each of which is a choice
}

call = openai_choices.call


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, openai_choices.ChoicesReader(_token))


def _token(builder: UsageBuilder, choice: Mapping[str, object]) -> Progress:
    """Return the progress of a choice; a role, or empty or absent content, is no token."""
    delta = builder.mapping(choice.get("delta", choice.get("message")))
    content = delta.get("content")
    said = _parts(builder, content) if isinstance(content, list) else ANSWER if builder.text(content) else NOTHING
    thought = builder.reasoning(delta.get("reasoning_content")) or builder.reasoning(delta.get("reasoning"))
    if said.answer or builder.text(delta.get("refusal")) or _acts(builder, delta):
        return ANSWER
    return THOUGHT if thought else said


def _acts(builder: UsageBuilder, delta: Mapping[str, object]) -> bool:
    """Return whether a delta has a part of an answer other than text: a tool call, audio or an image."""
    return (
        ("tool_calls" in delta and _calls(builder, delta["tool_calls"]))
        or ("function_call" in delta and _called(builder, delta["function_call"]))
        or ("audio" in delta and _sounds(builder, delta["audio"]))
        or bool(delta.get("images") and builder.objects(delta["images"]))  # OpenRouter, LiteLLM
    )


def _parts(builder: UsageBuilder, parts: object) -> Progress:
    """Return the progress of content that is a list of typed parts, as Mistral sends it."""
    progress = NOTHING
    for part in builder.objects(parts):
        if part.get("type") == "thinking":
            if _thinks(builder, part.get("thinking")):
                progress = max(progress, THOUGHT)
        elif builder.text(part.get("text")):
            progress = ANSWER
    return progress


def _thinks(builder: UsageBuilder, thinking: object) -> bool:
    parts = builder.objects(thinking) if isinstance(thinking, list) else [{"text": thinking}]
    return any(builder.reasoning(part.get("text")) for part in parts)


def _calls(builder: UsageBuilder, calls: object) -> bool:
    return calls is not None and any(
        _called(builder, call.get("function")) or _called(builder, call.get("custom"))
        for call in builder.objects(calls)
    )


def _called(builder: UsageBuilder, called: object) -> bool:
    """Return whether a call of a function or of a custom tool has a name, arguments or input."""
    called = builder.mapping(called)
    return any(builder.text(called.get(key)) for key in ("name", "arguments", "input"))


def _sounds(builder: UsageBuilder, audio: object) -> bool:
    audio = builder.mapping(audio)
    return builder.text(audio.get("data")) or builder.text(audio.get("transcript"))
