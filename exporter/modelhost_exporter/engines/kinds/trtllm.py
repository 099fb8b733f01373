"""TensorRT-LLM's trtllm-serve: /v1/models, /version and /prometheus/metrics.

Its /metrics and /perf_metrics are never read: they return each entry once, and another reader would miss it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.engines.label_rules import COPY, each, parts
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import (
    FREE,
    known_latencies,
    listed_models,
    optional_object,
    owned_by,
    page,
    tokens_by_cache,
)
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import count, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "TensorRT-LLM"
PAGES = (
    "`/v1/models`, `/version`, `/prometheus/metrics` (with `return_perf_metrics: true`); "
    "never `/metrics` or `/perf_metrics`, which return each entry once"
)
PORTS = (8000,)
PROGRAMS = ("trtllm-serve",)
PRIORITY = 50
ACCEPTS_INCLUDE_USAGE = True

_FINISH_REASONS = {"stop": "stop", "length": "length", "cancelled": "abort"}
_PREFIXES = ("trtllm_", "trtllm:")  # the second in older versions of Dynamo
_OF_SERVER = parts("engine_type", "model_name")
_OF_PROCESS = _OF_SERVER | {"pid": COPY}  # of the processes one reports gauges; one of an earlier run may be left over
_RULES = {
    **each(
        (
            *("num_requests_running", "num_requests_waiting", "max_num_active_requests", "kv_cache_utilization"),
            *("kv_cache_max_blocks", "kv_cache_tokens_per_block"),
        ),
        _OF_PROCESS,
    ),
    **each(
        (
            *("prompt_tokens_total", "prompt_cached_tokens_total", "generation_tokens_total"),
            *("spec_decode_num_draft_tokens_total", "spec_decode_num_accepted_tokens_total"),
            *("time_to_first_token_seconds", "time_per_output_token_seconds", "e2e_request_latency_seconds"),
            *("request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds"),
        ),
        _OF_SERVER,
    ),
    "request_success_total": _OF_SERVER | parts("finished_reason"),
    "request_error_total": _OF_SERVER | parts("http_code"),
}


def detect(fetch: Fetch) -> bool:
    """Return whether the owner of its models is TensorRT-LLM."""
    return owned_by(fetch, "tensorrt_llm")


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return the state of trtllm-serve."""
    models = tuple(Model(entry["id"], loaded=True) for entry in listed_models(fetch))
    written = page(fetch, "/prometheus/metrics") if care.metrics != "off" else b""
    version = text(optional_object(fetch, "/version").get("version"))
    return ServerSnapshot("trtllm", version, models, _engine(EnginePage(written, *_PREFIXES, rules=_RULES)))


def _engine(metrics: EnginePage) -> Engine:
    return Engine(
        requests_running=metrics.total("num_requests_running"),
        requests_waiting=metrics.total("num_requests_waiting"),
        request_capacity=count(metrics.total("max_num_active_requests")),
        kv_cache_usage_ratio=metrics.ratio("kv_cache_utilization"),
        kv_cache_capacity_tokens=_capacity(metrics),
        # both count at the end of a request
        input_tokens=tokens_by_cache(metrics.total("prompt_tokens_total"), metrics.total("prompt_cached_tokens_total")),
        output_tokens=metrics.total("generation_tokens_total"),
        prefill_seconds=metrics.total("request_prefill_time_seconds_sum"),
        decode_seconds=metrics.total("request_decode_time_seconds_sum"),
        requests_finished=_finished(metrics),
        speculative_draft_tokens=metrics.total("spec_decode_num_draft_tokens_total"),
        speculative_accepted_tokens=metrics.total("spec_decode_num_accepted_tokens_total"),
        latencies=known_latencies(
            time_to_first_token=metrics.histogram("time_to_first_token_seconds"),
            time_per_output_token=metrics.histogram("time_per_output_token_seconds"),
            request_duration=metrics.histogram("e2e_request_latency_seconds"),
            request_queue=metrics.histogram("request_queue_time_seconds"),
            request_prefill=metrics.histogram("request_prefill_time_seconds"),
            request_decode=metrics.histogram("request_decode_time_seconds"),
        ),
    )


def _capacity(metrics: EnginePage) -> float | None:
    blocks, size = metrics.total("kv_cache_max_blocks"), metrics.total("kv_cache_tokens_per_block")
    return blocks * size if blocks and size else None


def _finished(metrics: EnginePage) -> dict[str, float]:
    """Return finished requests by reason; errors are the responses of 500 and above, others are refusals."""
    finished: dict[str, float] = {}
    for reason, requests in metrics.by("finished_reason", "request_success_total").items():
        key = _FINISH_REASONS.get(reason, "other")
        finished[key] = finished.get(key, 0.0) + requests
    failed = [value for code, value in metrics.by("http_code", "request_error_total").items() if code.startswith("5")]
    return finished | ({"error": sum(failed)} if failed else {})
