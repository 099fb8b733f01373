"""NVIDIA Triton, with and without the TensorRT-LLM backend: /v2 and /metrics (on another port: ``metrics_url``).

A request to an ensemble counts for the ensemble and for each model in it, and which models are ensembles is not
known: requests of a server with several models are not added up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.engines.label_rules import COPY, PART, each, parts
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import FREE, UnexpectedContent, known, known_latencies, optional_object, page
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import count, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy
    from modelhost_exporter.engines.snapshot import EngineHistogram

TITLE = "Triton"
PAGES = "`/v2`, `/metrics` (on another port: `metrics_url`)"
PORTS = (8000,)
PROGRAMS = ("tritonserver",)
PRIORITY = 240
ACCEPTS_INCLUDE_USAGE = False

_REQUESTS = "trt_llm_request_metrics"
_BLOCKS = "trt_llm_kv_cache_block_metrics"
_FAILURES = "inference_request_failure"
_LOAD_SECONDS = "model_load_duration_secs"
_FIRST_RESPONSE = "inference_first_response_histogram_ms"

_MILLISECONDS = 1000
_OF_MODEL = parts("model", "version", "gpu_uuid")
_RULES = {
    **each(("inference_request_success", "inference_pending_request_count", _FIRST_RESPONSE), _OF_MODEL),
    _FAILURES: _OF_MODEL | parts("reason"),
    _REQUESTS: _OF_MODEL | parts("request_type"),
    _BLOCKS: _OF_MODEL | parts("kv_cache_block_type"),
    _LOAD_SECONDS: {"model": PART, "version": COPY, "gpu_uuid": COPY},
}
_FINISH_REASONS = {"CANCELED": "abort", "REJECTED": None}
"""Of failures; all others are errors. REJECTED was never begun: the queue was full, or it waited for too long."""


def detect(fetch: Fetch) -> bool:
    """Return whether its name is Triton's."""
    return optional_object(fetch, "/v2").get("name") == "triton"


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return Triton's state; its cumulative times, which give means only, are left out."""
    about = optional_object(fetch, "/v2")
    metrics = EnginePage(page(fetch, "/metrics") if care.metrics != "off" else b"", "nv_", rules=_RULES)
    if not about and not metrics:
        raise UnexpectedContent("neither /v2 nor /metrics is Triton's")
    names = metrics.by("model", "inference_request_success")
    load_seconds = metrics.by("model", _LOAD_SECONDS)
    models = tuple(Model(name, load_seconds=count(load_seconds.get(name))) for name in names if text(name))
    return ServerSnapshot("triton", text(about.get("version")), models, _engine(metrics, alone=len(names) == 1))


def _engine(metrics: EnginePage, *, alone: bool) -> Engine:
    active, scheduled = (
        metrics.total(_REQUESTS, request_type="active"),
        metrics.total(_REQUESTS, request_type="scheduled"),
    )
    waiting = metrics.total(_REQUESTS, request_type="waiting")
    if waiting is None and active is not None and scheduled is not None and active >= scheduled:
        waiting = active - scheduled
    return Engine(
        requests_running=scheduled,
        requests_waiting=metrics.total("inference_pending_request_count") if waiting is None and alone else waiting,
        request_capacity=metrics.total(_REQUESTS, request_type="max"),
        kv_cache_usage_ratio=_usage(metrics),
        kv_cache_capacity_tokens=_capacity(metrics),
        requests_finished=_finished(metrics) if alone else {},
        latencies=known_latencies(time_to_first_token=_first_response(metrics)) if alone else {},
    )


def _finished(metrics: EnginePage) -> dict[str, float]:
    """Return finished requests by reason; older versions have failures without one."""
    failures = metrics.by("reason", _FAILURES)
    if not failures:
        return known(unknown=metrics.total("inference_request_success"), error=metrics.total(_FAILURES))
    finished = known(unknown=metrics.total("inference_request_success"))
    for reason, requests in failures.items():
        key = _FINISH_REASONS.get(reason, "error")
        if key is not None:
            finished[key] = finished.get(key, 0.0) + requests
    return finished


def _first_response(metrics: EnginePage) -> EngineHistogram | None:
    """Return the time to the first response, which is the whole one where the model does not stream."""
    found = metrics.histogram(_FIRST_RESPONSE)
    return found.in_seconds(_MILLISECONDS) if found is not None else None


def _usage(metrics: EnginePage) -> float | None:
    reported = metrics.ratio(_BLOCKS, kv_cache_block_type="fraction")
    used, most = metrics.total(_BLOCKS, kv_cache_block_type="used"), metrics.total(_BLOCKS, kv_cache_block_type="max")
    return reported if reported is not None or used is None or not most or used > most else used / most


def _capacity(metrics: EnginePage) -> float | None:
    """Return blocks times tokens in a block, of one model: with several, their blocks differ in size."""
    blocks, size = (metrics.by("model", _BLOCKS), metrics.total(_BLOCKS, kv_cache_block_type="tokens_per"))
    most = metrics.total(_BLOCKS, kv_cache_block_type="max")
    return most * size if len(blocks) == 1 and most and size else None
