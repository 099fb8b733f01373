"""Reranking as Jina, Cohere, vLLM, llama.cpp and text-embeddings-inference offer it, and vLLM's scoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.wire import inputs_only
from exporter.wire.replies import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.wire.contract import Operation, Reply

NAME = "openai_rerank"
PATHS: Mapping[str, Operation] = {"/rerank": "rerank", "/reranking": "rerank", "/score": "rerank"}

call = inputs_only.call


def reply(content_type: str) -> Reply:
    """Watch a reply."""
    return watch(content_type, inputs_only.InputsReader(), inputs_only.PARSE_LIMIT)
