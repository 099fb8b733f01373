"""OpenAI images: model and token counts, where a response contains them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import ANSWER, NOTHING, Operation, Progress, Reply
from modelhost_exporter.dialects.openai_audio import call
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error, read_usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NAME", "PATHS", "call", "reply"]

NAME = "openai_images"
PATHS: Mapping[str, Operation] = {
    "/images/generations": "other",
    "/images/edits": "other",
    "/images/variations": "other",
}

_ENDS = ("image_generation.completed", "image_edit.completed")
_PARTIAL = ("image_generation.partial_image", "image_edit.partial_image")


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, ImagesReader())


class ImagesReader:
    """Parser of typed events, and of bodies that may contain whole images."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process one event."""
        builder, kind = self.builder, frame.get("type")
        builder.complete = builder.complete or kind in _ENDS
        self.whole(frame)
        return ANSWER if kind in (*_PARTIAL, *_ENDS) and builder.text(frame.get("b64_json")) else NOTHING

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document."""
        body = self.builder.mapping(body)
        self.builder.name(body.get("model"))
        read_error(self.builder, body)
        if body.get("usage") is not None:
            read_usage(self.builder, body["usage"])
