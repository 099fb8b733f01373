"""Replies that cost input tokens only: embeddings and reranking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import NOTHING, Call, Progress
from modelhost_exporter.dialects.usage_builder import Draft
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


class InputsReader:
    """Reads bodies with a usage; an array (text-embeddings-inference, llama.cpp's own) has none."""

    def __init__(self) -> None:
        self.draft = Draft()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Take a frame of a stream, which this kind of reply does not have."""
        self.whole(frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Take a reply that is one document."""
        if isinstance(body, list):
            return
        draft, body = self.draft, self.draft.mapping(body)
        draft.name(body.get("model"))
        read_error(draft, body)
        self._usage(body)

    def _usage(self, body: Mapping[str, object]) -> None:
        draft = self.draft
        usage = draft.mapping(body.get("usage")) or draft.mapping(draft.mapping(body.get("meta")).get("tokens"))
        if usage:
            read_usage(draft, usage)
        if draft.input_tokens is None:
            draft.input_tokens = draft.count(usage.get("total_tokens"))
        draft.output_tokens = None  # some servers fill the field with 0
        draft.source = "none" if draft.input_tokens is None else "usage"
