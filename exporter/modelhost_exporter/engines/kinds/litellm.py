"""LiteLLM's proxy: /v1/models, /metrics/ and public pages; never /health, which sends a request to every model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.engines.label_rules import each, parts
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import (
    FREE,
    attempt,
    known,
    known_latencies,
    listed_models,
    optional_object,
    page,
    read_json,
)
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "LiteLLM"
PAGES = (
    "`/v1/models`, `/metrics/`, `/health/liveliness`, `/public/model_hub/info`, before 1.84 `/health/readiness`; "
    "never `/health`, which sends a request to every model"
)
PORTS = (4000,)
PROGRAMS = ("litellm",)
PRIORITY = 230
ACCEPTS_INCLUDE_USAGE = False

_RULES = each(
    (
        "in_flight_requests",
        *("input_tokens_metric_total", "input_cached_tokens_metric_total", "input_cache_creation_tokens_metric_total"),
        *("output_tokens_metric_total", "proxy_total_requests_metric_total", "proxy_failed_requests_metric_total"),
        *("llm_api_time_to_first_token_metric", "request_total_latency_metric", "request_queue_time_seconds"),
    ),
    parts(
        *("model", "model_id", "requested_model", "api_provider", "route", "status_code"),
        *("exception_class", "exception_status"),
        *("api_key_alias", "hashed_api_key", "end_user", "user", "user_email", "user_agent", "client_ip"),
        *("team", "team_alias", "org_id", "org_alias"),
    ),
)


def detect(fetch: Fetch) -> bool:
    """Return whether its sign of life is there, which needs no key and calls no model."""
    return bool(attempt(lambda: read_json(fetch, "/health/liveliness") == "I'm alive!", otherwise=False))


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return LiteLLM's state; it does not know whether the models behind it are loaded."""
    models = tuple(Model(entry["id"]) for entry in listed_models(fetch))
    metrics = EnginePage(page(fetch, "/metrics/") if care.metrics != "off" else b"", "litellm_", rules=_RULES)
    return ServerSnapshot("litellm", _version(fetch), models, _engine(metrics))


def _version(fetch: Fetch) -> str:
    """Return the version from the public page of 1.84 and later, or from the older one, which then had it."""
    public = text(optional_object(fetch, "/public/model_hub/info").get("litellm_version"))
    return public or text(optional_object(fetch, "/health/readiness").get("litellm_version"))


def _engine(metrics: EnginePage) -> Engine:
    total = metrics.total("proxy_total_requests_metric_total")
    failed = metrics.total("proxy_failed_requests_metric_total")
    if total is not None and failed is None:
        failed = 0.0
    return Engine(
        requests_running=_running(metrics),
        input_tokens=_input(metrics),
        output_tokens=metrics.total("output_tokens_metric_total"),
        requests_finished=known(
            error=failed,
            unknown=total - failed if total is not None and failed is not None and total >= failed else None,
        ),
        latencies=known_latencies(
            time_to_first_token=metrics.histogram("llm_api_time_to_first_token_metric"),
            request_duration=metrics.histogram("request_total_latency_metric"),
            request_queue=metrics.histogram("request_queue_time_seconds"),
        ),
    )


def _running(metrics: EnginePage) -> float | None:
    """Return the requests in flight without the one for this page, which LiteLLM counts while it writes the page."""
    in_flight = metrics.total("in_flight_requests")
    return None if in_flight is None else max(0.0, in_flight - 1)


def _input(metrics: EnginePage) -> dict[str, float]:
    """Return input tokens by cache.

    LiteLLM counts cached tokens only where a provider reports any: what a model of a provider that never did had read
    is unknown.
    """
    by = ("api_provider", "model")
    hit = metrics.grouped(by, "input_cached_tokens_metric_total")
    write = metrics.grouped(by, "input_cache_creation_tokens_metric_total")
    found: dict[str, float] = {}
    for key, tokens in metrics.grouped(by, "input_tokens_metric_total").items():
        rest = tokens - hit.get(key, 0.0) - write.get(key, 0.0)
        reports = key in hit or key in write
        read = {"hit": hit.get(key), "write": write.get(key), "miss": rest} if reports and rest >= 0 else {}
        for cache, amount in (read or {"unknown": tokens}).items():
            if amount is not None:
                found[cache] = found.get(cache, 0.0) + amount
    return found
