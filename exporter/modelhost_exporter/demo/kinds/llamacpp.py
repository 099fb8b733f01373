"""A simulated llama.cpp server on a part of a GPU (MIG)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modelhost_exporter.demo.page_formats import json_page
from modelhost_exporter.demo.specs import GIB, MIG_GPU, CpuReplica, ModelSpec, ServerSpec, SimulatedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.demo.engines import SimulatedEngine
    from modelhost_exporter.demo.incidents import Kind

SERVER = ServerSpec(
    "llamacpp",
    "llamacpp",
    "b11434-4e9f1c2",
    8080,
    4500,
    "llama-server --parallel 4 --port 8080",
    (MIG_GPU,),
    4,
    65_536,
    gpu_bytes=16 * GIB,
    is_killed_by_memory_pressure=True,
    response_times=frozenset({"prefill", "decode"}),
    cpu_replica=CpuReplica(8081, 4600, "llama-server --parallel 4 --n-gpu-layers 0 --port 8081", 3.0),
)
MODELS = (
    ModelSpec(
        "gpt-oss-20b",
        *("llamacpp", 0.2, 900, 280, 5_000, 0.009),
        reasoning=0.3,
        bytes=13 * 10**9,
        context=65_536,
        parameters="20.9B",
        quantization="MXFP4",
    ),
)
WORKSTATION = SimulatedServer(
    replace(
        SERVER,
        command="llama-server --parallel 2 --port 8080",
        gpus=(0,),
        capacity=2,
        kv_tokens=32_768,
        gpu_bytes=int(6.9 * GIB),
        ram_bytes=GIB,
        is_killed_by_memory_pressure=False,
        cpu_replica=None,
    ),
    (
        ModelSpec(
            "qwen2.5-coder-7b-instruct",
            *("llamacpp", 0.22, 1_400, 130, 4_800, 0.0102),
            cache_hit=0.7,
            in_bursts=True,
            burst_seconds=1_020,
            burst_share=0.7,
            bytes=int(5.4 * 10**9),
            context=16_384,
            parameters="7.6B",
            quantization="Q5_K_M",
        ),
    ),
)
INCIDENTS: tuple[tuple[Kind, float, float], ...] = (("replica_down", 14, 6), ("upstream_unreachable", 45, 4))
LONG_INCIDENTS: tuple[tuple[Kind, float, float], ...] = ()


def _metrics(engine: SimulatedEngine, at: float) -> bytes:
    tally, (guessed, kept) = engine.tally, engine.draft_tokens
    values = {
        "prompt_tokens_total": tally.prompt_miss,
        "prompt_tokens_cached_total": tally.prompt_hit,
        "prompt_seconds_total": tally.latencies["prefill"].sum,
        "tokens_predicted_total": tally.generated,
        "tokens_predicted_seconds_total": tally.latencies["decode"].sum,
        "spec_decode_num_drafts_total": tally.drafts,
        "spec_decode_num_draft_tokens_total": guessed,
        "spec_decode_num_accepted_tokens_total": kept,
        "requests_processing": engine.running(at),
        "requests_deferred": engine.waiting(at),
    }
    return "".join(f"llamacpp:{name} {value}\n" for name, value in values.items()).encode()


def _models(engine: SimulatedEngine, _at: float) -> bytes:
    entries = [
        {
            "id": model.name,
            "owned_by": "llamacpp",
            "meta": {"n_params": float(model.parameters[:-1]) * 1e9, "n_ctx": model.context},
        }
        for model in engine.models
    ]
    return json_page({"object": "list", "data": entries})


def _props(engine: SimulatedEngine, _at: float) -> bytes:
    (model, *_) = engine.models
    context = engine.spec.kv_tokens // engine.spec.capacity
    about = {
        "build_info": engine.spec.version,
        "total_slots": engine.spec.capacity,
        "model_ftype": model.quantization,
        "default_generation_settings": {"n_ctx": context},
    }
    return json_page(about)


def _slots(engine: SimulatedEngine, at: float) -> bytes:
    context = engine.spec.kv_tokens // engine.spec.capacity
    working = [request for request in engine.requests if request.started <= at][: engine.spec.capacity]
    slots: list[dict[str, Any]] = [
        {"is_processing": True, "n_ctx": context, "n_prompt_tokens": min(context, r.input_tokens + r.produced)}
        for r in working
    ]
    idle: list[dict[str, Any]] = [{"is_processing": False, "n_ctx": context}] * (engine.spec.capacity - len(slots))
    return json_page([*slots, *idle])


PAGES: Mapping[str, Callable[[SimulatedEngine, float], bytes]] = {
    "/v1/models": _models,
    "/props": _props,
    "/metrics": _metrics,
    "/slots": _slots,
}
