"""Reranking (Jina, Cohere, vLLM, llama.cpp, text-embeddings-inference), vLLM's scoring and classification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects import prompt_only
from modelhost_exporter.dialects.replies import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.dialects.contract import Operation, Reply

NAME = "openai_rerank"
PATHS: Mapping[str, Operation] = {
    "/rerank": "rerank",
    "/reranking": "rerank",
    "/score": "rerank",
    "/classify": "other",  # vLLM, SGLang's reward models
}

call = prompt_only.call


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, prompt_only.PromptReader(), prompt_only.PARSE_LIMIT)
