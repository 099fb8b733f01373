"""LocalAI: /v1/models, /system and /metrics.

Its Ollama pages are never read: they have no memory, and an expiry that is always a day away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.engines.label_rules import parts
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import (
    FREE,
    known,
    listed_models,
    names_no_owner,
    optional_object,
    page,
    wants_key,
)
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import objects, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "LocalAI"
PAGES = "`/v1/models`, `/system`, `/version`, `/metrics`, `/.well-known/localai.json`"
PORTS = (8080,)
PROGRAMS = ("local-ai",)
PRIORITY = 130
ACCEPTS_INCLUDE_USAGE = True

_OF_ACCOUNTING = parts("otel_scope_name", "otel_scope_schema_url", "otel_scope_version", "served_model", "user")
_RULES = {
    "tokens_total": _OF_ACCOUNTING | parts("kind"),
    "billed_requests_total": _OF_ACCOUNTING | parts("endpoint"),
}
_DISCOVERY = "/.well-known/localai.json"


def detect(fetch: Fetch) -> bool:
    """Return whether its public description is there, or (older ones have none) its backends and loaded models."""
    has_key, has_none = wants_key(fetch), names_no_owner(fetch)
    if (has_key or has_none) and "endpoints" in optional_object(fetch, _DISCOVERY):
        return True
    system = optional_object(fetch, "/system") if has_none else {}
    return "backends" in system and "loaded_models" in system


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return LocalAI's state: every model that it lists; which are loaded is known to administrators only."""
    loaded = optional_object(fetch, "/system").get("loaded_models", "missing")
    names = {text(entry.get("id")) for entry in objects(loaded)}
    is_known = loaded is None or isinstance(loaded, list)
    models = tuple(
        Model(entry["id"], loaded=entry["id"] in names if is_known else None) for entry in listed_models(fetch)
    )
    metrics = EnginePage(page(fetch, "/metrics") if care.metrics != "off" else b"", "localai_", rules=_RULES)
    version = text(optional_object(fetch, "/version").get("version"))
    return ServerSnapshot("localai", version, models, _engine(metrics), loads_on_request="by_name")


def _engine(metrics: EnginePage) -> Engine:
    """Return the totals of its accounting; its latencies, of all paths with bounds from 5 s, are left out."""
    return Engine(
        input_tokens=known(unknown=metrics.total("tokens_total", kind="prompt")),
        output_tokens=metrics.total("tokens_total", kind="completion"),
        requests_finished=known(unknown=metrics.total("billed_requests_total")),
    )
