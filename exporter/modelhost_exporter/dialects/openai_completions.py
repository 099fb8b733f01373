"""OpenAI text completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects import openai_choices
from modelhost_exporter.dialects.contract import ANSWER, NOTHING, Operation, Progress, Reply
from modelhost_exporter.dialects.replies import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.dialects.usage_builder import UsageBuilder

NAME = "openai_completions"
# with a version: /completions alone is llama.cpp's native dialect
PATHS: Mapping[str, Operation] = {
    "/v1/completions": "text_completion",
    "/v3/completions": "text_completion",  # OpenVINO model server
    "/api/v0/completions": "text_completion",  # LM Studio
}

call = openai_choices.call


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, openai_choices.ChoicesReader(token))


def token(builder: UsageBuilder, choice: Mapping[str, object]) -> Progress:
    """Return the progress of a choice in a frame."""
    return ANSWER if builder.text(choice.get("text")) else NOTHING
