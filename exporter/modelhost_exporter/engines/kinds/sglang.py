"""SGLang: /metrics (where it was started with --enable-metrics) and /v1/models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import FREE, known, known_latencies, listed_models, owned_by, page, wants_key
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import count

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "SGLang"
PAGES = "`/v1/models`, `/metrics` (with `--enable-metrics`)"
PORTS = (30000,)
PROGRAMS = ("sglang",)
PRIORITY = 30
ACCEPTS_INCLUDE_USAGE = True

_PREFIXES = ("sglang:", "sglang_")
_COPIES = ("tp_rank", "pp_rank", "moe_ep_rank")
"""Ranks that work on the same requests; all report them with --enable-metrics-for-all-schedulers. dp_rank is none."""


def detect(fetch: Fetch) -> bool:
    """Return whether the owner of its models is SGLang; one that requires a key for them has public metrics."""
    return owned_by(fetch, "sglang") or (wants_key(fetch) and bool(EnginePage(page(fetch, "/metrics"), *_PREFIXES)))


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return SGLang's state."""
    text = page(fetch, "/metrics") if care.metrics != "off" else b""
    metrics = EnginePage(text, *_PREFIXES, copies=_COPIES)
    load_seconds = metrics.longest("engine_load_weights_time")
    models = tuple(
        Model(entry["id"], loaded=True, context_length=count(entry.get("max_model_len")), load_seconds=load_seconds)
        for entry in listed_models(fetch)
    )
    return ServerSnapshot("sglang", "", models, _engine(metrics))


def _engine(metrics: EnginePage) -> Engine:
    """Return the engine's numbers.

    Speculative decoding is left out, because it has gauges only. Aborted requests are left out, because the total
    includes those that were running, but not those that were waiting.
    """
    return Engine(
        requests_running=metrics.total("num_running_reqs"),
        requests_waiting=metrics.total("num_queue_reqs"),
        request_capacity=count(metrics.total("max_running_requests")),
        kv_cache_usage_ratio=metrics.ratio("token_usage"),
        kv_cache_capacity_tokens=count(metrics.total("max_total_num_tokens")),
        input_tokens=_input(metrics),
        output_tokens=metrics.total("generation_tokens_total"),
        requests_finished=known(unknown=metrics.total("num_requests_total")),
        preemptions=metrics.total("num_retracted_requests_total"),
        latencies=known_latencies(
            time_to_first_token=metrics.histogram("time_to_first_token_seconds"),
            inter_token_latency=metrics.histogram("inter_token_latency_seconds", "time_per_output_token_seconds"),
            request_duration=metrics.histogram("e2e_request_latency_seconds"),
            request_queue=metrics.histogram("queue_time_seconds"),
        ),
    )


def _input(metrics: EnginePage) -> dict[str, float]:
    """Return input tokens by cache: the total less its cached part, or the total alone."""
    total, cached = metrics.total("prompt_tokens_total"), metrics.total("cached_tokens_total")
    if total is None:
        return {}
    if cached is None or cached > total:
        return {"unknown": total}
    return {"miss": total - cached, "hit": cached}
