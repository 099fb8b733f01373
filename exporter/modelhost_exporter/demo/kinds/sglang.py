"""A simulated SGLang server with a reasoning model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.demo.page_formats import histogram_lines, json_page, model_list, sample_lines
from modelhost_exporter.demo.specs import GIB, ModelSpec, ServerSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.demo.engines import SimulatedEngine
    from modelhost_exporter.demo.incidents import Kind

SERVER = ServerSpec(
    "sglang",
    "sglang",
    "0.5.6",
    30000,
    4200,
    "python3 -m sglang.launch_server --port 30000",
    (4,),
    48,
    150_000,
    gpu_bytes=68 * GIB,
    ram_bytes=12 * GIB,
)
MODELS = (
    ModelSpec(
        "Qwen/Qwen3-32B-FP8",
        *("sglang", 0.8, 2200, 520, 16_000, 0.013),
        cache_hit=0.55,
        reasoning=0.55,
        bytes=33 * 10**9,
        load_seconds=38,
        context=40_960,
        has_adapters=True,
    ),
)
INCIDENTS: tuple[tuple[Kind, float, float], ...] = (("server_errors", 28, 14),)
LONG_INCIDENTS: tuple[tuple[Kind, float, float], ...] = (("server_stuck", 43, 36.5),)

_LATENCIES = {
    "ttft": "time_to_first_token_seconds",
    "inter_token": "inter_token_latency_seconds",
    "duration": "e2e_request_latency_seconds",
    "queue": "queue_time_seconds",
}


def _metrics(engine: SimulatedEngine, at: float) -> bytes:
    labels = f'model_name="{engine.models[0].name}",tp_rank="0"'
    tally = engine.tally
    values = {
        "num_running_reqs": engine.running(at),
        "num_queue_reqs": engine.waiting(at),
        "token_usage": engine.kv_tokens(at) / engine.spec.kv_tokens,
        "max_total_num_tokens": engine.spec.kv_tokens,
        "prompt_tokens_total": tally.prompt_hit + tally.prompt_miss,
        "cached_tokens_total": tally.prompt_hit,
        "generation_tokens_total": tally.generated,
        "num_requests_total": tally.finished.total(),
        "num_aborted_requests_total": tally.finished["abort"],
        "num_retracted_requests_total": tally.preemptions,
    }
    lines = sample_lines("sglang:", labels, values.items())
    lines.append(f'sglang:startup_time_seconds{{{labels},phase="load_weight"}} {engine.models[0].load_seconds}\n')
    for latency, name in _LATENCIES.items():
        lines += histogram_lines(f"sglang:{name}", labels, tally.latencies[latency])
    return "".join(lines).encode()


def _info(engine: SimulatedEngine, _at: float) -> bytes:
    state = {"effective_max_running_requests_per_dp": engine.spec.capacity}
    return json_page({"version": engine.spec.version, "internal_states": [state]})


PAGES: Mapping[str, Callable[[SimulatedEngine, float], bytes]] = {
    "/v1/models": model_list("sglang"),
    "/server_info": _info,
    "/metrics": _metrics,
}
