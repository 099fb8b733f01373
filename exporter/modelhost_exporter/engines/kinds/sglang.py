"""SGLang: /metrics (where it was started with --enable-metrics), /v1/models and /server_info."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.label_rules import COPY, each, only, parts
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import (
    FREE,
    known,
    known_latencies,
    listed_models,
    optional_object,
    owned_by,
    page,
    tokens_by_cache,
    wants_key,
)
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import count, objects, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "SGLang"
PAGES = "`/v1/models`, `/metrics` (with `--enable-metrics`), `/server_info`"
PORTS = (30000,)
PROGRAMS = ("sglang",)
MODEL_OPTIONS = ("--model-path", "--model", "--download-dir")
PRIORITY = 30
ACCEPTS_INCLUDE_USAGE = True

_PREFIXES = ("sglang:", "sglang_")

# Ranks that work on the same requests all report them with --enable-metrics-for-all-schedulers; dp_rank is none of them
_OF_SCHEDULER = parts("model_name", "engine_type", "dp_rank") | dict.fromkeys(
    ("tp_rank", "pp_rank", "moe_ep_rank"), COPY
)
# priority="" is the total of the queue, and in all other metrics of a scheduler the only value
_OF_QUEUE = _OF_SCHEDULER | {"priority": only("")}
_OF_REQUESTS = _OF_SCHEDULER | parts("priority")
_OF_STREAMING = _OF_REQUESTS | parts("is_streaming", "stream")
_STREAMED_ONLY = _OF_REQUESTS | {"is_streaming": only("true"), "stream": only("true")}
_RULES = {
    **each(("num_running_reqs", "num_queue_reqs"), _OF_QUEUE),
    **each(("token_usage", "max_total_num_tokens", "num_retracted_requests_total", "queue_time_seconds"), _OF_QUEUE),
    **each(("prompt_tokens_total", "generation_tokens_total", "num_requests_total"), _OF_STREAMING),
    **each(("e2e_request_latency_seconds", "request_time_per_output_token_seconds"), _OF_STREAMING),
    **each(("inter_token_latency_seconds", "time_per_output_token_seconds", "spec_verify_calls_total"), _OF_REQUESTS),
    "finished_requests_by_outcome_total": _OF_REQUESTS | parts("outcome"),
    # a request's cached tokens are reported by source, or under "total" where the sources are not known
    "cached_tokens_total": _OF_REQUESTS | parts("cache_source"),
    # that of a request that is not streamed is its last, or one in the middle
    "time_to_first_token_seconds": _STREAMED_ONLY,
    # of the slowest rank; phases overlap
    "startup_time_seconds": _OF_SCHEDULER | {"phase": only("load_weight"), "priority": COPY, "dp_rank": COPY},
    "engine_load_weights_time": _OF_SCHEDULER | {"priority": COPY, "dp_rank": COPY},
}
_FINISH_REASONS = {"success": "unknown", "abort": "abort", "engine_fault": "error", "other": "other"}
"""Of outcomes; the others (rejected, invalid_request) are refusals."""


def detect(fetch: Fetch) -> bool:
    """Return whether the owner of its models is SGLang; one that requires a key for them has public metrics."""
    return owned_by(fetch, "sglang") or (wants_key(fetch) and bool(EnginePage(page(fetch, "/metrics"), *_PREFIXES)))


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return SGLang's state."""
    entries = listed_models(fetch)
    info = optional_object(fetch, "/server_info") or optional_object(fetch, "/get_server_info")
    metrics = EnginePage(page(fetch, "/metrics") if care.metrics != "off" else b"", *_PREFIXES, rules=_RULES)
    load_seconds = count(metrics.total("startup_time_seconds", "engine_load_weights_time"))
    models = tuple(
        Model(entry["id"], loaded=True, context_length=count(entry.get("max_model_len")), load_seconds=load_seconds)
        for entry in entries
    )
    version = text(info.get("version"))
    return ServerSnapshot("sglang", version, models, _engine(metrics, info), prompt_count="per_choice_and_prefix")


def _engine(metrics: EnginePage, info: dict[str, Any]) -> Engine:
    """Return the engine's numbers.

    Of speculative decoding there are only gauges and the number of verified drafts. ``num_aborted_requests_total`` is
    left out, because the total includes those that were running, but not those that were waiting.
    """
    return Engine(
        requests_running=metrics.total("num_running_reqs"),
        requests_waiting=metrics.total("num_queue_reqs"),
        request_capacity=_request_capacity(info),
        kv_cache_usage_ratio=metrics.ratio("token_usage"),
        kv_cache_capacity_tokens=count(metrics.total("max_total_num_tokens")),
        input_tokens=tokens_by_cache(metrics.total("prompt_tokens_total"), metrics.total("cached_tokens_total")),
        output_tokens=metrics.total("generation_tokens_total"),
        requests_finished=_finished(metrics),
        preemptions=metrics.total("num_retracted_requests_total"),
        speculative_drafts=metrics.total("spec_verify_calls_total"),
        latencies=known_latencies(
            time_to_first_token=metrics.histogram("time_to_first_token_seconds"),
            inter_token_latency=metrics.histogram("inter_token_latency_seconds", "time_per_output_token_seconds"),
            time_per_output_token=metrics.histogram("request_time_per_output_token_seconds"),
            request_duration=metrics.histogram("e2e_request_latency_seconds"),
            request_queue=metrics.histogram("queue_time_seconds"),
        ),
    )


def _finished(metrics: EnginePage) -> dict[str, float]:
    """Return finished requests by outcome; older versions have a total only, with aborted requests that ran."""
    outcomes = metrics.by("outcome", "finished_requests_by_outcome_total")
    if not outcomes:
        return known(unknown=metrics.total("num_requests_total"))
    return {_FINISH_REASONS[outcome]: requests for outcome, requests in outcomes.items() if outcome in _FINISH_REASONS}


def _request_capacity(info: dict[str, Any]) -> float | None:
    """Return the limit in force of all data-parallel engines; for older versions the one that was configured."""
    states = list(objects(info.get("internal_states")))
    limits = [count(state.get("effective_max_running_requests_per_dp")) for state in states]
    known_limits = [limit for limit in limits if limit is not None]
    if known_limits and len(known_limits) == len(states):
        return sum(known_limits)
    return count(info.get("max_running_requests"))
