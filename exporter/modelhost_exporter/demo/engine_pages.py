"""The pages of a simulated model server, in the format of its engine kind."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from modelhost_exporter.demo.engines import Distribution, Loaded, SimulatedEngine

Page = bytes
_BLOCK = 16


def pages(engine: SimulatedEngine, at: float) -> Mapping[str, Callable[[], Page]]:
    """Return the function that writes each of a server's pages, by path."""
    return {path: lambda write=write: write(engine, at) for path, write in _PAGES[engine.spec.kind].items()}  # type: ignore[misc]


def _json(value: object) -> Page:
    return json.dumps(value).encode()


def _openai_models(owner: str) -> Callable[[SimulatedEngine, float], Page]:
    def write(engine: SimulatedEngine, _at: float) -> Page:
        entries = [
            {"id": model.name, "object": "model", "owned_by": owner, "max_model_len": model.context}
            for model in engine.models
        ]
        return _json({"object": "list", "data": entries})

    return write


def _lines(prefix: str, labels: str, values: Iterable[tuple[str, float]]) -> list[str]:
    return [f"{prefix}{name}{{{labels}}} {value}\n" for name, value in values]


def _histogram(name: str, labels: str, measured: Distribution) -> list[str]:
    return [
        *(f'{name}_bucket{{{labels},le="{bound}"}} {count}\n' for bound, count in measured.buckets()),
        f"{name}_count{{{labels}}} {measured.count}\n",
        f"{name}_sum{{{labels}}} {measured.sum}\n",
    ]


_OF_VLLM = {
    "ttft": "time_to_first_token_seconds",
    "inter_token": "inter_token_latency_seconds",
    "per_output_token": "request_time_per_output_token_seconds",
    "duration": "e2e_request_latency_seconds",
    "queue": "request_queue_time_seconds",
    "prefill": "request_prefill_time_seconds",
    "decode": "request_decode_time_seconds",
}


def _vllm_metrics(engine: SimulatedEngine, at: float) -> Page:
    labels = f'engine="0",model_name="{engine.models[0].name}"'
    tally, (guessed, kept) = engine.tally, engine.draft_tokens
    values = {
        "num_requests_running": engine.running(at),
        "num_requests_waiting": engine.waiting(at),
        "kv_cache_usage_perc": engine.kv_tokens(at) / engine.spec.kv_tokens,
        "prompt_tokens_total": tally.prompt_hit + tally.prompt_miss,
        "prompt_tokens_cached_total": tally.prompt_hit,
        "generation_tokens_total": tally.generated,
        "num_preemptions_total": tally.preemptions,
        "spec_decode_num_drafts_total": tally.drafts,
        "spec_decode_num_draft_tokens_total": guessed,
        "spec_decode_num_accepted_tokens_total": kept,
    }
    blocks = f'block_size="{_BLOCK}",num_gpu_blocks="{engine.spec.kv_tokens // _BLOCK}"'
    lines = [*_lines("vllm:", labels, values.items()), f"vllm:cache_config_info{{{blocks}}} 1\n"]
    for reason, count in tally.finished.items():
        lines.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {count}\n')
    for latency, name in _OF_VLLM.items():
        lines += _histogram(f"vllm:{name}", labels, tally.latencies[latency])
    return "".join(lines).encode()


_OF_SGLANG = {
    "ttft": "time_to_first_token_seconds",
    "inter_token": "inter_token_latency_seconds",
    "duration": "e2e_request_latency_seconds",
    "queue": "queue_time_seconds",
}


def _sglang_metrics(engine: SimulatedEngine, at: float) -> Page:
    labels = f'model_name="{engine.models[0].name}",tp_rank="0"'
    tally = engine.tally
    values = {
        "num_running_reqs": engine.running(at),
        "num_queue_reqs": engine.waiting(at),
        "max_running_requests": engine.spec.capacity,
        "token_usage": engine.kv_tokens(at) / engine.spec.kv_tokens,
        "max_total_num_tokens": engine.spec.kv_tokens,
        "prompt_tokens_total": tally.prompt_hit + tally.prompt_miss,
        "cached_tokens_total": tally.prompt_hit,
        "generation_tokens_total": tally.generated,
        "num_requests_total": tally.finished.total(),
        "num_aborted_requests_total": tally.finished["abort"],
        "num_retracted_requests_total": tally.preemptions,
        "engine_load_weights_time": engine.models[0].load_seconds,
    }
    lines = _lines("sglang:", labels, values.items())
    for latency, name in _OF_SGLANG.items():
        lines += _histogram(f"sglang:{name}", labels, tally.latencies[latency])
    return "".join(lines).encode()


def _tgi_metrics(engine: SimulatedEngine, at: float) -> Page:
    tally = engine.tally
    values = {
        "batch_current_size": engine.running(at),
        "queue_size": engine.waiting(at),
        "request_input_length_sum": tally.prompt_hit + tally.prompt_miss,
        "request_generated_tokens_sum": tally.generated,
        "request_success": tally.finished["stop"] + tally.finished["length"],
        "request_failure": tally.finished["error"],
    }
    lines = _lines("tgi_", "", values.items())
    lines += _histogram("tgi_request_duration", "", tally.latencies["duration"])
    return "".join(lines).encode()


def _tgi_info(engine: SimulatedEngine, _at: float) -> Page:
    (model, *_) = engine.models
    about = {
        "model_id": model.name,
        "model_dtype": f"torch.{model.quantization}",
        "max_total_tokens": model.context,
        "max_concurrent_requests": engine.spec.capacity,
        "max_batch_total_tokens": engine.spec.kv_tokens,
        "version": engine.spec.version,
    }
    return _json(about)


def _llamacpp_metrics(engine: SimulatedEngine, at: float) -> Page:
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


def _llamacpp_models(engine: SimulatedEngine, _at: float) -> Page:
    entries = [
        {
            "id": model.name,
            "owned_by": "llamacpp",
            "meta": {"n_params": float(model.parameters[:-1]) * 1e9, "n_ctx": model.context},
        }
        for model in engine.models
    ]
    return _json({"object": "list", "data": entries})


def _llamacpp_props(engine: SimulatedEngine, _at: float) -> Page:
    (model, *_) = engine.models
    context = engine.spec.kv_tokens // engine.spec.capacity
    about = {
        "build_info": engine.spec.version,
        "total_slots": engine.spec.capacity,
        "model_ftype": model.quantization,
        "default_generation_settings": {"n_ctx": context},
    }
    return _json(about)


def _llamacpp_slots(engine: SimulatedEngine, at: float) -> Page:
    context = engine.spec.kv_tokens // engine.spec.capacity
    working = [request for request in engine.requests if request.started <= at][: engine.spec.capacity]
    slots: list[dict[str, Any]] = [
        {"is_processing": True, "n_ctx": context, "n_prompt_tokens": min(context, r.input_tokens + r.produced)}
        for r in working
    ]
    idle: list[dict[str, Any]] = [{"is_processing": False, "n_ctx": context}] * (engine.spec.capacity - len(slots))
    return _json([*slots, *idle])


def _ollama_ps(engine: SimulatedEngine, at: float) -> Page:
    return _json({"models": [_ollama_model(loaded) for loaded in engine.loaded.values() if loaded.ready <= at]})


def _ollama_model(loaded: Loaded) -> dict[str, Any]:
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


def _version(engine: SimulatedEngine, _at: float) -> Page:
    return _json({"version": engine.spec.version})


_PAGES: Mapping[str, Mapping[str, Callable[[SimulatedEngine, float], Page]]] = {
    "vllm": {"/v1/models": _openai_models("vllm"), "/version": _version, "/metrics": _vllm_metrics},
    "sglang": {"/v1/models": _openai_models("sglang"), "/metrics": _sglang_metrics},
    "tgi": {"/info": _tgi_info, "/metrics": _tgi_metrics},
    "llamacpp": {
        "/v1/models": _llamacpp_models,
        "/props": _llamacpp_props,
        "/metrics": _llamacpp_metrics,
        "/slots": _llamacpp_slots,
    },
    "ollama": {"/api/ps": _ollama_ps, "/api/version": _version},
}
