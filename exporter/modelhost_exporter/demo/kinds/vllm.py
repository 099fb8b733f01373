"""A simulated vLLM server with one large model on four GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.demo.page_formats import histogram_lines, model_list, sample_lines, version_page
from modelhost_exporter.demo.specs import GIB, ModelSpec, ServerSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.demo.engines import SimulatedEngine
    from modelhost_exporter.demo.incidents import Kind

SERVER = ServerSpec(
    "vllm",
    "vllm",
    "0.30.0",
    8000,
    4100,
    "vllm serve --tensor-parallel-size=4 --port 8000",
    (0, 1, 2, 3),
    64,
    140_000,
    gpu_bytes=70 * GIB,
    ram_bytes=22 * GIB,
    ttft_objective=(1.5, 0.99),
    response_times=frozenset({"queue"}),
)
MODELS = (
    ModelSpec(
        "meta-llama/Llama-3.3-70B-Instruct",
        *("vllm", 1.5, 1400, 320, 14_000, 0.018),
        cache_hit=0.45,
        bytes=141 * 10**9,
        load_seconds=95,
        has_adapters=True,
    ),
)
INCIDENTS: tuple[tuple[Kind, float, float], ...] = (("queue_growing", 9, 25),)
LONG_INCIDENTS: tuple[tuple[Kind, float, float], ...] = ()

_BLOCK_TOKENS = 16
_PROMPT_TOKENS = 1400
_LATENCIES = {
    "ttft": "time_to_first_token_seconds",
    "inter_token": "inter_token_latency_seconds",
    "per_output_token": "request_time_per_output_token_seconds",
    "duration": "e2e_request_latency_seconds",
    "queue": "request_queue_time_seconds",
    "prefill": "request_prefill_time_seconds",
    "decode": "request_decode_time_seconds",
}


def _metrics(engine: SimulatedEngine, at: float) -> bytes:
    labels = f'engine="0",model_name="{engine.models[0].name}"'
    tally, (guessed, kept) = engine.tally, engine.draft_tokens
    values = {
        "num_requests_running": engine.running(at),
        "num_requests_waiting": engine.waiting(at),
        "kv_cache_usage_perc": engine.kv_tokens(at) / engine.spec.kv_tokens,
        "prompt_tokens_total": tally.prompt_hit + tally.prompt_miss,
        "prompt_tokens_cached_total": tally.prompt_hit,
        "prompt_tokens_recomputed_total": tally.prompt_hit // _PROMPT_TOKENS,
        "external_prefix_cache_queries_total": tally.prompt_miss,
        "external_prefix_cache_hits_total": 0,
        "generation_tokens_total": tally.generated,
        "num_preemptions_total": tally.preemptions,
        "spec_decode_num_drafts_total": tally.drafts,
        "spec_decode_num_draft_tokens_total": guessed,
        "spec_decode_num_accepted_tokens_total": kept,
    }
    blocks = f'block_size="{_BLOCK_TOKENS}",num_gpu_blocks="{engine.spec.kv_tokens // _BLOCK_TOKENS}"'
    lines = [*sample_lines("vllm:", labels, values.items()), f"vllm:cache_config_info{{{blocks}}} 1\n"]
    for waiting, requests in (("capacity", engine.waiting(at)), ("deferred", 0)):
        lines.append(f'vllm:num_requests_waiting_by_reason{{{labels},reason="{waiting}"}} {requests}\n')
    for reason, count in tally.finished.items():
        lines.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {count}\n')
    for latency, name in _LATENCIES.items():
        lines += histogram_lines(f"vllm:{name}", labels, tally.latencies[latency])
    return "".join(lines).encode()


PAGES: Mapping[str, Callable[[SimulatedEngine, float], bytes]] = {
    "/v1/models": model_list("vllm"),
    "/version": version_page,
    "/metrics": _metrics,
}
