"""Replies that cost input tokens only: embeddings and reranking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import NOTHING, Call, Progress
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error, read_usage
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

PARSE_LIMIT = 64 * 1024
"""Larger bodies are long arrays of numbers: parsing them would hold up the event loop, their ends say it all."""


def call(body: bytes) -> Call | None:
    """Read a request: the model."""
    asked = request(body)
    return None if asked is None else Call(model_name(asked.get("model")), stream=False)


class PromptReader:
    """Reads bodies with a usage; an array (text-embeddings-inference, llama.cpp's own) has none."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Take a frame of a stream, which this kind of reply does not have."""
        self.whole(frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Take a reply that is one document."""
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
