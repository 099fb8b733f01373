"""OpenAI embeddings, and those of other servers: Cohere's format, vLLM's pooling, SGLang's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects import prompt_only
from modelhost_exporter.dialects.replies import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.dialects.contract import Operation, Reply

NAME = "openai_embeddings"
PATHS: Mapping[str, Operation] = {
    "/embeddings": "embeddings",
    "/embedding": "embeddings",  # llama.cpp
    "/embed": "embeddings",  # text-embeddings-inference, Cohere
    "/pooling": "embeddings",  # vLLM
    "/encode": "embeddings",  # SGLang
}

call = prompt_only.call


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, prompt_only.PromptReader(), prompt_only.PARSE_LIMIT)
