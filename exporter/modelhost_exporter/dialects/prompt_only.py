"""Responses without output tokens: embeddings and reranking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import NOTHING, Call, Progress
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error, read_usage
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

PARSE_LIMIT = 64 * 1024
"""Larger bodies are long arrays of numbers, which would block the event loop; the counts are near their ends."""


def call(body: bytes) -> Call | None:
    """Parse a request body: the model."""
    parsed = request(body)
    return None if parsed is None else Call(model_name(parsed.get("model")), stream=False)


class PromptReader:
    """Parser of bodies with a usage object; arrays (text-embeddings-inference, native llama.cpp) have none."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Ignore a frame: these responses are never streamed."""
        self.whole(frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document."""
        if isinstance(body, list):
            return
        builder, body = self.builder, self.builder.mapping(body)
        builder.name(body.get("model"))
        read_error(builder, body)
        self._usage(body)

    def _usage(self, body: Mapping[str, object]) -> None:
        builder = self.builder
        usage = builder.mapping(body.get("usage")) or builder.mapping(builder.mapping(body.get("meta")).get("tokens"))
        if usage:
            read_usage(builder, usage)
        if builder.input_tokens is None:
            builder.input_tokens = builder.count(usage.get("total_tokens"))
        builder.output_tokens = None  # some servers fill the field with 0
        builder.source = "none" if builder.input_tokens is None else "usage"
