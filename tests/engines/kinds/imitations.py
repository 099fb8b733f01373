"""Servers with pages of other engines, and servers that require a key, as the projects' sources have them."""

from __future__ import annotations

from typing import Any

_NONE_LISTED = {"object": "list", "data": []}
_OLLAMA_VERSION = {"version": "0.16.1"}


def _listed(**fields: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": "m", "object": "model", **fields}]}


def _running(digest: str, **fields: Any) -> dict[str, Any]:
    return {"models": [{"name": "m:latest", "model": "m:latest", "digest": digest, **fields}]}


IMITATIONS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "llama.cpp with Ollama's list of models": (
        "llamacpp",
        {"/v1/models": _listed(owned_by="llamacpp"), "/api/tags": _running(""), "/props": {"total_slots": 1}},
    ),
    "LocalAI with nothing loaded, before it described itself": (
        "localai",
        {
            "/v1/models": _NONE_LISTED,
            "/api/ps": {"models": None},
            "/api/version": {"version": "0.9.0"},
            "/system": {"backends": [], "loaded_models": []},
        },
    ),
    "Lemonade on Ollama's port": (
        "lemonade",
        {
            "/v1/models": _listed(owned_by="lemonade"),
            "/api/ps": _running("a80c4f17acd5", size=0, size_vram=0, expires_at="2099-01-01T00:00:00Z"),
            "/api/version": _OLLAMA_VERSION,
        },
    ),
    "Docker Model Runner with nothing loaded": (
        "docker",
        {"/v1/models": _listed(owned_by="docker"), "/api/ps": {"models": []}, "/api/version": {"version": "0.1.0"}},
    ),
    "KoboldCpp with pages of Ollama and llama.cpp": (
        "koboldcpp",
        {
            "/v1/models": _listed(owned_by="koboldcpp"),
            "/api/ps": _running("b5dc5e784f2a", size=394998579),
            "/props": {"default_generation_settings": {"n_ctx": 8192}, "total_slots": 1},
        },
    ),
    "a server with local models that is not mistral.rs": (
        "openai",
        {
            "/v1/models": {
                "object": "list",
                "data": [{"id": "default", "owned_by": "local"}, {"id": "a", "owned_by": "local"}],
            }
        },
    ),
    "text-embeddings-inference beside TGI": (
        "tei",
        {
            "/info": {
                "model_id": "m",
                "model_type": {"reranker": {}},
                "max_concurrent_requests": 1,
                "max_batch_tokens": 1,
            }
        },
    ),
    "an unknown server with Ollama's pages": (
        "openai",
        {
            "/v1/models": _listed(owned_by="me"),
            "/api/ps": _running("sha256:00", size=0),
            "/api/version": _OLLAMA_VERSION,
        },
    ),
    "Ollama's list, written as null": (None, {"/api/ps": {"models": None}, "/api/version": _OLLAMA_VERSION}),
    "Ollama without a model": (
        "ollama",
        {"/v1/models": {"object": "list", "data": None}, "/api/ps": {"models": []}, "/api/version": _OLLAMA_VERSION},
    ),
    "Ollama with a model of somebody": (
        "ollama",
        {
            "/v1/models": _listed(owned_by="unsloth"),
            "/api/ps": _running("a80c4f17acd5"),
            "/api/version": _OLLAMA_VERSION,
        },
    ),
    "LiteLLM since 1.84": (
        "litellm",
        {
            "/v1/models": _listed(owned_by="openai"),
            "/health/readiness": {"status": "healthy", "db": "Not connected"},
            "/health/liveliness": "I'm alive!",
            "/public/model_hub/info": {"docs_title": "LiteLLM API", "litellm_version": "1.95.1", "useful_links": {}},
        },
    ),
    "another server that is ready": (
        "openai",
        {
            "/v1/models": _listed(owned_by="openai"),
            "/health/readiness": {"status": "healthy"},
            "/health/liveliness": "OK",
        },
    ),
    "a gateway in front of several engines": (
        "openai",
        {
            "/v1/models": {
                "object": "list",
                "data": [{"id": "a", "owned_by": "vllm"}, {"id": "b", "owned_by": "sglang"}],
            }
        },
    ),
    "a gateway in front of nothing": ("openai", {"/v1/models": _NONE_LISTED}),
}
"""What a server is detected as, and its pages."""

LOCKED: dict[str, tuple[frozenset[str], str | None]] = {
    "vllm": (frozenset({"/metrics", "/version"}), "vllm"),
    "sglang": (frozenset({"/metrics"}), "sglang"),
    "llama-server-pages": (frozenset({"/health", "/v1/models"}), "llamacpp"),
    "litellm": (frozenset({"/health/liveliness", "/health/readiness"}), "litellm"),
    "tgi": (frozenset({"/info", "/metrics"}), "tgi"),
    "ollama": (frozenset(), None),
    "lmstudio": (frozenset(), None),
    "localai": (frozenset({"/.well-known/localai.json"}), "localai"),
    "tei": (frozenset({"/health", "/metrics"}), "tei"),
    "koboldcpp": (frozenset({"/v1/models", "/api/ps", "/api/version", "/props", "/api/extra/version"}), "koboldcpp"),
    "llama-swap": (frozenset({"/health"}), None),
    "lmdeploy": (frozenset({"/health"}), None),
    "lemonade": (frozenset(), None),
}
"""Pages that need no key (of engines that have keys), and what a server is detected as from them alone."""
