"""NVIDIA Triton, with and without the TensorRT-LLM backend: /v2 and /metrics (on another port: ``metrics_url``).

A request to an ensemble counts for the ensemble and for each model in it, and which models are ensembles is not
known: requests of a server with several models are not added up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import FREE, UnexpectedContent, known, optional_object, page
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "Triton"
PAGES = "`/v2`, `/metrics` (on another port: `metrics_url`)"
PORTS = (8000,)
PROGRAMS = ("tritonserver",)
PRIORITY = 240
ACCEPTS_INCLUDE_USAGE = False

_REQUESTS = "trt_llm_request_metrics"
_BLOCKS = "trt_llm_kv_cache_block_metrics"


def detect(fetch: Fetch) -> bool:
    """Return whether its name is Triton's."""
    return optional_object(fetch, "/v2").get("name") == "triton"


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return Triton's state; its cumulative times, which give means only, are left out."""
    about = optional_object(fetch, "/v2")
    metrics = EnginePage(page(fetch, "/metrics") if care.metrics != "off" else b"", "nv_")
    if not about and not metrics:
        raise UnexpectedContent("neither /v2 nor /metrics is Triton's")
    names = metrics.by("model", "inference_request_success")
    models = tuple(Model(name) for name in names if text(name))
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
        requests_finished=known(
            unknown=metrics.total("inference_request_success"), error=metrics.total("inference_request_failure")
        )
        if alone
        else {},
    )


def _usage(metrics: EnginePage) -> float | None:
    reported = metrics.ratio(_BLOCKS, kv_cache_block_type="fraction")
    used, most = metrics.total(_BLOCKS, kv_cache_block_type="used"), metrics.total(_BLOCKS, kv_cache_block_type="max")
    return reported if reported is not None or used is None or not most or used > most else used / most


def _capacity(metrics: EnginePage) -> float | None:
    """Return blocks times tokens in a block, of one model: with several, their blocks differ in size."""
    blocks, size = (metrics.by("model", _BLOCKS), metrics.total(_BLOCKS, kv_cache_block_type="tokens_per"))
    most = metrics.total(_BLOCKS, kv_cache_block_type="max")
    return most * size if len(blocks) == 1 and most and size else None
