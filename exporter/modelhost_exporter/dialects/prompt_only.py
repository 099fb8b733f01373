"""Responses without output tokens: embeddings and reranking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import NOTHING, Call, Progress
from modelhost_exporter.dialects.usage_builder import UsageBuilder, total
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
    """Parser of bodies with a usage object; arrays have none, or one of SGLang's for each of their items."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Ignore a frame: these responses are never streamed."""
        self.whole(frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document."""
        builder = self.builder
        if isinstance(body, list):
            if body and isinstance(body[0], dict) and "meta_info" in body[0]:
                metas = (builder.mapping(item.get("meta_info")) for item in builder.objects(body))
                self._set(total(builder.count(meta.get("prompt_tokens")) for meta in metas))
            return
        body = builder.mapping(body)
        builder.name(body.get("model"))
        read_error(builder, body)
        self._usage(body)

    def _usage(self, body: Mapping[str, object]) -> None:
        builder, meta = self.builder, self.builder.mapping(body.get("meta"))
        for usage in map(builder.mapping, (body.get("usage"), meta.get("tokens"), body.get("meta_info"))):
            if usage and not builder.input_tokens:
                read_usage(builder, usage)
                builder.input_tokens = builder.input_tokens or builder.count(usage.get("total_tokens"))
        self._set(builder.input_tokens or self._billed(builder.mapping(meta.get("billed_units"))))

    def _billed(self, units: Mapping[str, object]) -> int:
        """Return the tokens that were billed, which is all that Cohere's embeddings have; a search is no token."""
        counts = [self.builder.count(units.get(name)) for name in ("input_tokens", "image_tokens")]
        return sum(count or 0 for count in counts)

    def _set(self, tokens: int | None) -> None:
        """Set the input; 0 is written by servers that do not count it, and some write an output of 0."""
        self.builder.input_tokens = tokens or None
        self.builder.output_tokens = None
        self.builder.source = "usage" if tokens else "none"
