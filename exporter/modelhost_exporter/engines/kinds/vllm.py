"""vLLM (V1 and V0 engines, Ray builds, production stacks): /metrics, /v1/models and /version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import (
    FREE,
    attempt,
    known_latencies,
    listed_models,
    optional_object,
    owned_by,
    page,
    wants_key,
)
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import count, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "vLLM"
PAGES = "`/v1/models`, `/version`, `/metrics`"
PORTS = (8000,)
PROGRAMS = ("vllm",)
PRIORITY = 20
ACCEPTS_INCLUDE_USAGE = True

_PREFIXES = ("vllm:", "ray_vllm:", "vllm_", "ray_vllm_")
_FINISH_REASONS = {"stop": "stop", "length": "length", "abort": "abort", "error": "error"}


def detect(fetch: Fetch) -> bool:
    """Return whether the owner of its models is vLLM; one that requires a key for them has public metrics."""
    return owned_by(fetch, "vllm") or (wants_key(fetch) and bool(EnginePage(page(fetch, "/metrics"), *_PREFIXES)))


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return vLLM's state."""
    entries = listed_models(fetch)
    metrics = EnginePage(page(fetch, "/metrics") if care.metrics != "off" else b"", *_PREFIXES)
    models = _models(entries, awake=metrics.total("engine_sleep_state", sleep_state="awake") != 0)
    return ServerSnapshot("vllm", text(optional_object(fetch, "/version").get("version")), models, _engine(metrics))


def _models(entries: list[dict[str, Any]], *, awake: bool) -> tuple[Model, ...]:
    """Return the model and its adapters: names of one weight are one model, whose first name counts."""
    named: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        own = text(entry.get("parent")) or not text(entry.get("root"))
        named.setdefault(entry["id"] if own else f"root {entry['root']}", []).append(entry)
    return tuple(
        Model(
            first["id"],
            aliases=tuple(sorted({entry["id"] for entry in others} - {first["id"]})),
            loaded=awake,
            context_length=count(first.get("max_model_len")),
        )
        for first, *others in named.values()
    )


def _engine(metrics: EnginePage) -> Engine:
    return Engine(
        requests_running=metrics.total("num_requests_running"),
        requests_waiting=metrics.total("num_requests_waiting"),
        kv_cache_usage_ratio=metrics.ratio("kv_cache_usage_perc", "gpu_cache_usage_perc"),
        kv_cache_capacity_tokens=_capacity(metrics),
        input_tokens=_input(metrics),
        output_tokens=metrics.total("generation_tokens_total", "generation_tokens"),
        prefill_seconds=metrics.total("request_prefill_time_seconds_sum"),
        decode_seconds=metrics.total("request_decode_time_seconds_sum"),
        requests_finished=_finished(metrics),
        preemptions=metrics.total("num_preemptions_total", "num_preemptions"),
        speculative_drafts=metrics.total("spec_decode_num_drafts_total", "spec_decode_num_drafts"),
        speculative_draft_tokens=metrics.total("spec_decode_num_draft_tokens_total", "spec_decode_num_draft_tokens"),
        speculative_accepted_tokens=metrics.total(
            "spec_decode_num_accepted_tokens_total", "spec_decode_num_accepted_tokens"
        ),
        latencies=known_latencies(
            time_to_first_token=metrics.histogram("time_to_first_token_seconds"),
            inter_token_latency=metrics.histogram("inter_token_latency_seconds", "time_per_output_token_seconds"),
            time_per_output_token=metrics.histogram("request_time_per_output_token_seconds"),
            request_duration=metrics.histogram("e2e_request_latency_seconds"),
            request_queue=metrics.histogram("request_queue_time_seconds"),
            request_prefill=metrics.histogram("request_prefill_time_seconds"),
            request_decode=metrics.histogram("request_decode_time_seconds"),
        ),
    )


def _input(metrics: EnginePage) -> dict[str, float]:
    """Return input tokens by cache: from their sources (new), a total and its cached part, or a total alone."""
    sources = metrics.by("source", "prompt_tokens_by_source_total")
    if sources:
        miss = sources.get("local_compute", 0.0)
        return {"miss": miss, "hit": sum(sources.values()) - miss}
    total = metrics.total("prompt_tokens_total", "prompt_tokens")
    cached = metrics.total("prompt_tokens_cached_total")
    if total is None:
        return {}
    if cached is None or cached > total:
        return {"unknown": total}
    return {"miss": total - cached, "hit": cached}


def _finished(metrics: EnginePage) -> dict[str, float]:
    finished: dict[str, float] = {}
    for reason, requests in metrics.by("finished_reason", "request_success_total", "request_success").items():
        key = _FINISH_REASONS.get(reason, "other")
        finished[key] = finished.get(key, 0.0) + requests
    return finished


def _capacity(metrics: EnginePage) -> float | None:
    """Return the tokens that fit in the KV cache of all engines: blocks times tokens in a block."""
    sizes = [_size(labels) for labels in metrics.labels("cache_config_info")]
    return sum(size for size in sizes if size) or None


def _size(labels: dict[str, str]) -> float | None:
    return attempt(lambda: count(float(labels["num_gpu_blocks"]) * float(labels["block_size"])), None)


def engine(metrics: EnginePage) -> Engine:
    """Return the numbers of a page that another server passes on."""
    return _engine(metrics)
