"""vLLM (V1 and V0 engines, Ray builds, production stacks): /metrics, /v1/models and /version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.label_rules import each, parts
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import (
    FREE,
    attempt,
    known_latencies,
    listed_models,
    optional_object,
    owned_by,
    page,
    tokens_by_cache,
    wants_key,
)
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import count, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "vLLM"
PAGES = "`/v1/models`, `/version`, `/metrics`"
PORTS = (8000,)
PROGRAMS = ("vllm",)
MODEL_OPTIONS = ("--model", "--download-dir")
PRIORITY = 20
ACCEPTS_INCLUDE_USAGE = True

_PREFIXES = ("vllm:", "ray_vllm:", "vllm_", "ray_vllm_")
_WAITING_REASONS = {"capacity": "capacity", "deferred": "deferred"}
_FINISH_REASONS = {"stop": "stop", "length": "length", "abort": "abort", "error": "error"}

_OF_ENGINE = parts("engine", "model_name")  # engine: the index of a data-parallel engine
_RULES = {
    **each(
        (
            *("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "gpu_cache_usage_perc"),
            *("prompt_tokens_total", "prompt_tokens", "prompt_tokens_cached_total", "prompt_tokens_recomputed_total"),
            *("external_prefix_cache_queries_total", "external_prefix_cache_hits_total"),
            *("generation_tokens_total", "generation_tokens", "num_preemptions_total", "num_preemptions"),
            *("spec_decode_num_drafts_total", "spec_decode_num_drafts"),
            *("spec_decode_num_draft_tokens_total", "spec_decode_num_draft_tokens"),
            *("spec_decode_num_accepted_tokens_total", "spec_decode_num_accepted_tokens"),
            *("time_to_first_token_seconds", "inter_token_latency_seconds", "time_per_output_token_seconds"),
            *("request_time_per_output_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds"),
            *("request_prefill_time_seconds", "request_decode_time_seconds"),
        ),
        _OF_ENGINE,
    ),
    "num_requests_waiting_by_reason": _OF_ENGINE | parts("reason"),
    "prompt_tokens_by_source_total": _OF_ENGINE | parts("source"),
    "request_success_total": _OF_ENGINE | parts("finished_reason"),
    "request_success": _OF_ENGINE | parts("finished_reason"),
    "engine_sleep_state": _OF_ENGINE | parts("sleep_state"),
    "cache_config_info": _OF_ENGINE,  # its other labels are values: _capacity
}


def detect(fetch: Fetch) -> bool:
    """Return whether the owner of its models is vLLM; one that requires a key for them has public metrics."""
    return owned_by(fetch, "vllm") or (wants_key(fetch) and bool(EnginePage(page(fetch, "/metrics"), *_PREFIXES)))


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return vLLM's state."""
    entries = listed_models(fetch)
    metrics = EnginePage(page(fetch, "/metrics") if care.metrics != "off" else b"", *_PREFIXES, rules=_RULES)
    models = _models(entries, awake=metrics.total("engine_sleep_state", sleep_state="awake") != 0)
    version = text(optional_object(fetch, "/version").get("version"))
    return ServerSnapshot("vllm", version, models, _engine(metrics), prompt_count="per_choice")


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
        requests_waiting_by_reason=_renamed(metrics.by("reason", "num_requests_waiting_by_reason"), _WAITING_REASONS),
        kv_cache_usage_ratio=metrics.ratio("kv_cache_usage_perc", "gpu_cache_usage_perc"),
        kv_cache_capacity_tokens=_capacity(metrics),
        input_tokens=_input(metrics),
        input_tokens_recomputed=metrics.total("prompt_tokens_recomputed_total"),
        external_cache_lookup_tokens=metrics.total("external_prefix_cache_queries_total"),
        external_cache_hit_tokens=metrics.total("external_prefix_cache_hits_total"),
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
    return tokens_by_cache(
        metrics.total("prompt_tokens_total", "prompt_tokens"), metrics.total("prompt_tokens_cached_total")
    )


def _finished(metrics: EnginePage) -> dict[str, float]:
    """Return finished sequences by reason; ``abort`` is left out while it is 0, as it stays after aborts too."""
    finished = _renamed(metrics.by("finished_reason", "request_success_total", "request_success"), _FINISH_REASONS)
    return {reason: requests for reason, requests in finished.items() if requests or reason != "abort"}


def _renamed(counts: dict[str, float], names: Mapping[str, str]) -> dict[str, float]:
    """Return counts by our names; all that have none are other."""
    renamed: dict[str, float] = {}
    for name, requests in counts.items():
        key = names.get(name, "other")
        renamed[key] = renamed.get(key, 0.0) + requests
    return renamed


def _capacity(metrics: EnginePage) -> float | None:
    """Return the tokens that fit in the KV cache of all engines.

    Each engine reports the tokens of its own cache; older versions only blocks, those of all engines together. Blocks
    give too much for a model with several kinds of attention, where a token takes blocks of each.
    """
    of_engine: dict[str, float] = {}
    of_blocks = 0.0
    for labels in metrics.labels("cache_config_info"):
        engine = labels.get("engine", "")
        of_engine[engine] = max(of_engine.get(engine, 0.0), _number(labels, "kv_cache_size_tokens"))
        of_blocks = max(of_blocks, _number(labels, "num_gpu_blocks") * _number(labels, "block_size"))
    return sum(of_engine.values()) or of_blocks or None


def _number(labels: dict[str, str], name: str) -> float:
    """Return the number in a label; 0 for none, and for ``None``."""
    return attempt(lambda: count(float(labels[name])), None) or 0.0


def engine(metrics: EnginePage) -> Engine:
    """Return the numbers of a page that another server passes on."""
    return _engine(metrics)
