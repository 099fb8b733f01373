"""LMDeploy's api_server: /v1/models, /is_sleeping, and /metrics where it was started with --enable-metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.engines.label_rules import each, parts
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
)
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "LMDeploy"
PAGES = "`/v1/models`, `/is_sleeping`, `/metrics` (with `--enable-metrics`)"
PORTS = (23333,)
PROGRAMS = ("lmdeploy",)
PRIORITY = 40
ACCEPTS_INCLUDE_USAGE = True

_RULES = each(
    (
        *("num_requests_running", "num_requests_waiting", "num_api_requests_waiting", "gpu_cache_usage_perc"),
        *("num_requests_succeeded", "num_requests_failed", "prompt_tokens_total", "generation_tokens_total"),
        *("request_prompt_tokens", "cached_tokens_total", "time_to_first_token_seconds", "iter_token_latency"),
        *("spec_decode_num_drafts_total", "spec_decode_num_draft_tokens_total"),
        *("spec_decode_num_accepted_tokens_total", "e2e_request_latency_seconds", "request_queue_time_seconds"),
        *("request_prefill_time_seconds", "request_decode_time_seconds"),
    ),
    parts("engine", "model_name"),  # engine: the rank of a data-parallel engine
)


def detect(fetch: Fetch) -> bool:
    """Return whether the owner of its models is LMDeploy."""
    return owned_by(fetch, "lmdeploy")


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return LMDeploy's state."""
    awake = optional_object(fetch, "/is_sleeping").get("is_sleeping") is not True
    models = tuple(Model(entry["id"], loaded=awake) for entry in listed_models(fetch))
    metrics = EnginePage(page(fetch, "/metrics") if care.metrics != "off" else b"", "lmdeploy:", rules=_RULES)
    return ServerSnapshot("lmdeploy", "", models, _engine(metrics))


def _engine(metrics: EnginePage) -> Engine:
    """Return the engine's numbers. Its total of failed requests has cancelled ones as well: they are not told apart."""
    return Engine(
        requests_running=metrics.total("num_requests_running"),
        requests_waiting=_waiting(metrics),
        kv_cache_usage_ratio=metrics.ratio("gpu_cache_usage_perc"),
        input_tokens=_input(metrics),
        output_tokens=metrics.total("generation_tokens_total"),
        prefill_seconds=metrics.total("request_prefill_time_seconds_sum"),
        decode_seconds=metrics.total("request_decode_time_seconds_sum"),
        requests_finished=known(
            unknown=metrics.total("num_requests_succeeded"), other=metrics.total("num_requests_failed")
        ),
        speculative_drafts=metrics.total("spec_decode_num_drafts_total"),
        speculative_draft_tokens=metrics.total("spec_decode_num_draft_tokens_total"),
        speculative_accepted_tokens=metrics.total("spec_decode_num_accepted_tokens_total"),
        latencies=known_latencies(
            time_to_first_token=metrics.histogram("time_to_first_token_seconds"),
            inter_token_latency=metrics.histogram("iter_token_latency"),
            request_duration=metrics.histogram("e2e_request_latency_seconds"),
            request_queue=metrics.histogram("request_queue_time_seconds"),
            request_prefill=metrics.histogram("request_prefill_time_seconds"),
            request_decode=metrics.histogram("request_decode_time_seconds"),
        ),
    )


def _waiting(metrics: EnginePage) -> float | None:
    """Return the requests that wait in the scheduler, and those that wait for a handle before it."""
    scheduler, api = metrics.total("num_requests_waiting"), metrics.total("num_api_requests_waiting")
    return scheduler if scheduler is None or api is None else scheduler + api


def _input(metrics: EnginePage) -> dict[str, float]:
    """Return input tokens by cache, of finished requests: cached tokens are counted at the end of a request.

    The difference to a total that counts at the beginning would fall at that time.
    """
    by_cache = tokens_by_cache(metrics.total("request_prompt_tokens_sum"), metrics.total("cached_tokens_total"))
    return by_cache if "hit" in by_cache else known(unknown=metrics.total("prompt_tokens_total"))
