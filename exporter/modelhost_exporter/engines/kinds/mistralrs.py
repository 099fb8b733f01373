"""mistral.rs: /v1/models and /metrics. Its metrics are of all models together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.label_rules import each, parts
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import FREE, attempt, known_latencies, listed_models, owned_by, page
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import count, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "mistral.rs"
PAGES = "`/v1/models`, `/metrics`"
PORTS = (1234,)
PROGRAMS = ("mistralrs",)
PRIORITY = 60
ACCEPTS_INCLUDE_USAGE = True

_DEFAULT = "default"
_STATES = ("loaded", "unloaded", "reloading")
_RULES = {
    **each(
        (
            *("sequences_running", "sequences_waiting", "requests_pending_admission", "sequences_capacity"),
            *("kv_cache_blocks_used", "kv_cache_blocks_total", "paged_preemptions_total", "speculative_drafts_total"),
            *("speculative_draft_tokens_proposed_total", "speculative_draft_tokens_accepted_total"),
        ),
        parts(),  # no labels
    ),
    "sequences_completed_total": parts("reason"),
    **each(("time_to_first_token_seconds", "inter_token_latency_seconds"), parts("method", "path", "model", "status")),
}
_FINISH_REASONS = {"stop": "stop", "length": "length", "canceled": "abort", "error": "error"}


def detect(fetch: Fetch) -> bool:
    """Return whether the first of its models is "default", and the others have one of its states."""
    nothing: list[dict[str, Any]] = []
    if not owned_by(fetch, "local"):
        return False
    first, *others = attempt(lambda: listed_models(fetch), nothing)
    return first["id"] == _DEFAULT and bool(others) and all(entry.get("status") in _STATES for entry in others)


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return the state of mistral.rs; "default" is another name of one of the models, of which is not said."""
    entries = [entry for entry in listed_models(fetch) if "status" in entry]
    aliases = (_DEFAULT,) if len(entries) == 1 else ()
    models = tuple(
        Model(entry["id"], aliases=aliases, loaded=text(entry.get("status")) == "loaded") for entry in entries
    )
    metrics = EnginePage(page(fetch, "/metrics") if care.metrics != "off" else b"", "mistralrs_", rules=_RULES)
    return ServerSnapshot("mistralrs", "", models, _engine(metrics), loads_on_request="by_name")


def _engine(metrics: EnginePage) -> Engine:
    """Return the engine's numbers; tokens are left out, because input and output are counted together."""
    used, blocks = metrics.total("kv_cache_blocks_used"), metrics.total("kv_cache_blocks_total")
    return Engine(
        requests_running=metrics.total("sequences_running"),
        requests_waiting=_waiting(metrics),
        request_capacity=count(metrics.total("sequences_capacity")),
        kv_cache_usage_ratio=used / blocks if used is not None and blocks and used <= blocks else None,
        requests_finished=_finished(metrics),
        preemptions=metrics.total("paged_preemptions_total"),
        speculative_drafts=metrics.total("speculative_drafts_total"),
        speculative_draft_tokens=metrics.total("speculative_draft_tokens_proposed_total"),
        speculative_accepted_tokens=metrics.total("speculative_draft_tokens_accepted_total"),
        latencies=known_latencies(
            time_to_first_token=metrics.histogram("time_to_first_token_seconds"),
            inter_token_latency=metrics.histogram("inter_token_latency_seconds"),
        ),
    )


def _waiting(metrics: EnginePage) -> float | None:
    """Return the sequences that wait in the scheduler, and the requests that wait before it."""
    scheduler, before = metrics.total("sequences_waiting"), metrics.total("requests_pending_admission")
    return scheduler if scheduler is None or before is None else scheduler + before


def _finished(metrics: EnginePage) -> dict[str, float]:
    finished: dict[str, float] = {}
    for reason, sequences in metrics.by("reason", "sequences_completed_total").items():
        key = _FINISH_REASONS.get(reason, "other")
        finished[key] = finished.get(key, 0.0) + sequences
    return finished
