"""Lemonade: /v1/models, /v1/health (which calls no model) and /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.label_rules import each, parts
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import (
    FREE,
    known,
    listed_models,
    names_no_owner,
    optional_object,
    owned_by,
    page,
    read_object,
)
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import child, count, objects, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "Lemonade"
PAGES = "`/v1/models`, `/v1/health`, `/metrics`"
PORTS = (13305, 8000, 11434)
PROGRAMS = ("lemonade", "lemond")
PRIORITY = 100
ACCEPTS_INCLUDE_USAGE = True

_RULES = {
    **each(("prompt_tokens_total", "output_tokens_total", "requests_total"), parts()),  # of the whole server
    **each(
        ("llamacpp_requests_processing", "llamacpp_requests_deferred"),
        parts("checkpoint", "device", "model_name", "recipe", "type"),  # those of the loaded model
    ),
}
_UNLOADED = ("loading", "evicting", "unloaded", "downsized")


def detect(fetch: Fetch) -> bool:
    """Return whether the owner of its models is Lemonade, or it has none and reports what is loaded."""
    if owned_by(fetch, "lemonade"):
        return True
    return names_no_owner(fetch) and "all_models_loaded" in optional_object(fetch, "/v1/health")


def snapshot(fetch: Fetch, care: PollPolicy = FREE) -> ServerSnapshot:
    """Return Lemonade's state: every downloaded model, loaded or not."""
    health = read_object(fetch, "/v1/health")
    loaded = {
        text(entry.get("model_name"))
        for entry in objects(health.get("all_models_loaded"))
        if text(entry.get("status")) not in _UNLOADED
    }
    models = tuple(_model(entry, loaded=entry["id"] in loaded) for entry in listed_models(fetch))
    metrics = EnginePage(page(fetch, "/metrics") if care.metrics != "off" else b"", "lemonade_", rules=_RULES)
    engine = _engine(metrics, len(loaded))
    return ServerSnapshot("lemonade", text(health.get("version")), models, engine, loads_on_request="by_name")


def _model(entry: dict[str, Any], *, loaded: bool) -> Model:
    configured = count(child(entry, "recipe_options", "ctx_size"))
    return Model(
        entry["id"],
        loaded=loaded,
        format="gguf" if entry.get("recipe") == "llamacpp" else "",
        context_length=count(entry.get("context_length")) or configured or count(entry.get("max_context_window")),
    )


def _engine(metrics: EnginePage, loaded: int) -> Engine:
    """Return the server's totals, and the queues of llama.cpp if all loaded models run in it.

    The times per model are those of its last request only, and left out. So are cached tokens: prompts include them
    where a response had usage, and do not where a stream had none.
    """
    in_llama_cpp = len(metrics.labels("llamacpp_requests_processing"))
    queues = metrics if in_llama_cpp == loaded else EnginePage(b"")
    return Engine(
        requests_running=queues.total("llamacpp_requests_processing"),
        requests_waiting=queues.total("llamacpp_requests_deferred"),
        input_tokens=known(unknown=metrics.total("prompt_tokens_total")),
        output_tokens=metrics.total("output_tokens_total"),
        requests_finished=known(unknown=metrics.total("requests_total")),
    )
