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
}
"""Pages that need no key (of engines that have keys), and what a server is detected as from them alone."""
