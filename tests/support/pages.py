"""Captured pages of engines, from tests/captures: a path → body mapping for each.

A folder may hold several states of one server: ``vllm-0.32/after`` has ``after.prom`` as its metrics, and
``after-NAME.json`` instead of ``NAME.json`` where that exists.
"""

from __future__ import annotations

from pathlib import Path

CAPTURES = Path(__file__).parent.parent / "captures"
PREFIXES = (
    "vllm:",
    "ray_vllm:",
    "sglang:",
    "sglang_",
    "llamacpp:",
    "tgi_",
    "litellm_",
    "nv_",
    "lmdeploy:",
    "trtllm_",
    "mistralrs_",
    "te_",
    "localai_",
    "lemonade_",
)
"""Prefixes of the engines' own metrics."""

PATHS = {
    "api-ps.json": "/api/ps",
    "api-v0-models.json": "/api/v0/models",
    "api-v1-models.json": "/api/v1/models",
    "api-version.json": "/api/version",
    "engines-ps.json": "/engines/ps",
    "engines-status.json": "/engines/status",
    "extra-context.json": "/api/extra/true_max_context_length",
    "extra-perf.json": "/api/extra/perf",
    "extra-version.json": "/api/extra/version",
    "health.json": "/health",
    "info.json": "/info",
    "is-sleeping.json": "/is_sleeping",
    "liveliness.json": "/health/liveliness",
    "localai.json": "/.well-known/localai.json",
    "metrics.prom": "/metrics",
    "model-hub-info.json": "/public/model_hub/info",
    "models.json": "/v1/models",
    "prometheus-metrics.prom": "/prometheus/metrics",
    "props.json": "/props",
    "readiness.json": "/health/readiness",
    "running.json": "/running",
    "server-info.json": "/server_info",
    "slots.json": "/slots",
    "system.json": "/system",
    "v1-health.json": "/v1/health",
    "v2.json": "/v2",
    "version.json": "/version",
}
SERVERS = {
    "litellm": "litellm",
    "litellm-1.40": "litellm",
    "litellm-1.95": "litellm",
    "llama-server-pages": "llamacpp",
    "llama-server-2025": "llamacpp",
    "llama-server-router": "llamacpp",
    "lmstudio": "lmstudio",
    "lmstudio-0.3": "lmstudio",
    "ollama": "ollama",
    "ollama-0.3": "ollama",
    "openai": "openai",
    "sglang": "sglang",
    "sglang-0.4": "sglang",
    "tgi": "tgi",
    "tgi-1.4": "tgi",
    "triton": "triton",
    "triton-2.40": "triton",
    "vllm-0.8": "vllm",
    "vllm-0.32/after": "vllm",
    "vllm-0.32/api2": "vllm",
    "vllm-0.32/dp2": "vllm",
    "vllm-0.32/gemma": "vllm",
    "vllm-0.32/idle": "vllm",
    "vllm-ray": "vllm",
    "docker": "docker",
    "docker-empty": "docker",
    "koboldcpp": "koboldcpp",
    "lemonade": "lemonade",
    "lemonade-empty": "lemonade",
    "llama-swap": "llamaswap",
    "llama-swap-empty": "llamaswap",
    "lmdeploy": "lmdeploy",
    "localai": "localai",
    "localai-unloaded": "localai",
    "mistralrs": "mistralrs",
    "tei": "tei",
    "trtllm": "trtllm",
}
"""Which folder holds a server of which kind."""

_SHORT = {"vllm": "vllm-0.32/dp2"}
"""Names for tests that want any server of a kind."""


def pages(folder: str) -> dict[str, bytes]:
    """Return the pages of one server: path → body. LiteLLM's metrics are below a slash."""
    folder = _SHORT.get(folder, folder)
    name, _, state = folder.partition("/")
    own = {"metrics.prom": f"{state}.prom"}
    found: dict[str, bytes] = {}
    for page, path in PATHS.items():
        files = ([own.get(page, f"{state}-{page}")] if state else []) + [page]
        present = [CAPTURES / name / file for file in files if (CAPTURES / name / file).exists()]
        if present:
            found[path] = present[0].read_bytes()
    if SERVERS[folder] == "litellm" and "/metrics" in found:
        found["/metrics/"] = found.pop("/metrics")
    return found


class Recording:
    """A server's pages, which record the paths that are read."""

    def __init__(self, *folders: str, **changes: bytes) -> None:
        self.pages = {path: body for folder in folders for path, body in pages(folder).items()}
        self.pages |= {f"/{name}": body for name, body in changes.items()}
        self.asked: list[str] = []

    def __call__(self, path: str) -> bytes:
        """Return a page; KeyError for an unknown path."""
        self.asked.append(path)
        return self.pages[path]
