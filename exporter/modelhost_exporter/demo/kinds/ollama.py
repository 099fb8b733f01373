"""A simulated Ollama server, which loads its models on request."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from modelhost_exporter.demo.page_formats import json_page, version_page
from modelhost_exporter.demo.specs import GIB, ModelSpec, ServerSpec, SimulatedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.demo.engines import Loaded, SimulatedEngine
    from modelhost_exporter.demo.incidents import Kind

SERVER = ServerSpec(
    "ollama",
    "ollama",
    "0.13.5",
    11434,
    4300,
    "ollama serve",
    (5,),
    8,
    65_536,
    ttft_objective=(5.0, 0.95),
    loads_on_request=True,
    response_times=frozenset({"prefill", "decode", "load"}),
)
_GEMMA = ModelSpec(
    "gemma3:27b",
    *("ollama", 0.10, 600, 220, 4_500, 0.024),
    in_bursts=True,
    bytes=17 * 10**9,
    load_seconds=8.5,
    context=32_768,
    family="gemma3",
    parameters="27.4B",
    quantization="Q4_K_M",
)
_LLAMA = ModelSpec(
    "llama3.2:3b",
    *("ollama", 0.30, 400, 120, 18_000, 0.006),
    in_bursts=True,
    bytes=2 * 10**9,
    load_seconds=1.9,
    family="llama",
    parameters="3.2B",
    quantization="Q4_K_M",
)
_NOMIC = ModelSpec(
    "nomic-embed-text:v1.5",
    *("ollama", 0.50, 300, 0, 30_000, 0.0),
    operation="embeddings",
    cache_hit=0.0,
    in_bursts=True,
    bytes=274 * 10**6,
    load_seconds=0.8,
    context=8_192,
    family="nomic-bert",
    parameters="137M",
    quantization="F16",
)
MODELS = (_GEMMA, _LLAMA, _NOMIC)
WORKSTATION = SimulatedServer(
    replace(SERVER, gpus=(0,), capacity=4, kv_tokens=32_768, ram_bytes=GIB, ttft_objective=(10.0, 0.95)),
    (
        replace(
            _GEMMA,
            name="gemma3:12b",
            rate=0.032,
            input_tokens=900,
            output_tokens=380,
            prefill_rate=2_600,
            token_seconds=0.0155,
            burst_seconds=1_260,
            burst_share=0.72,
            bytes=8_150 * 10**6,
            load_seconds=4.4,
            parameters="12.2B",
        ),
        replace(
            _LLAMA,
            rate=0.05,
            input_tokens=500,
            output_tokens=60,
            prefill_rate=9_000,
            token_seconds=0.0058,
            burst_seconds=1_500,
            burst_share=0.45,
            load_seconds=1.6,
        ),
        replace(_NOMIC, rate=0.8, prefill_rate=20_000, burst_seconds=1_900, burst_share=0.12, load_seconds=0.7),
    ),
)
INCIDENTS: tuple[tuple[Kind, float, float], ...] = (("models_evicted", 39, 9), ("server_down", 55, 4))
LONG_INCIDENTS: tuple[tuple[Kind, float, float], ...] = ()


def _running(engine: SimulatedEngine, at: float) -> bytes:
    return json_page({"models": [_model(loaded) for loaded in engine.loaded.values() if loaded.ready <= at]})


def _model(loaded: Loaded) -> dict[str, Any]:
    model = loaded.model
    return {
        "name": model.name,
        "model": model.name,
        "size": model.bytes + model.bytes // 20,
        "size_vram": model.bytes,
        "details": {
            "format": "gguf",
            "family": model.family,
            "parameter_size": model.parameters,
            "quantization_level": model.quantization,
        },
        "expires_at": datetime.fromtimestamp(loaded.expires, UTC).isoformat(),
        "context_length": model.context,
    }


PAGES: Mapping[str, Callable[[SimulatedEngine, float], bytes]] = {"/api/ps": _running, "/api/version": version_page}
