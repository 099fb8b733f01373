"""LM Studio: its list of models, /api/v1/models or, before 0.4, /api/v0/models. It has no metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.pages import FREE, UnexpectedContent, attempt, optional_object, read_object
from modelhost_exporter.engines.snapshot import Engine, Model, ServerSnapshot
from modelhost_exporter.untrusted_json import child, count, objects, text

if TYPE_CHECKING:
    from modelhost_exporter.engines.pages import Fetch, PollPolicy

TITLE = "LM Studio"
PAGES = "`/api/v1/models`, before 0.4 `/api/v0/models`; it has no metrics"
PORTS = (1234,)
PROGRAMS = ("lm-studio", "LM Studio", "lmstudio")
MODEL_FOLDERS = ("~/.lmstudio/models", "~/.cache/lm-studio/models")
PRIORITY = 250
ACCEPTS_INCLUDE_USAGE = True


def detect(fetch: Fetch) -> bool:
    """Return whether either of its own lists has entries with a loaded state (it answers 200 to any path)."""
    first = next(objects(optional_object(fetch, "/api/v1/models").get("models")), {})
    older = next(objects(optional_object(fetch, "/api/v0/models").get("data")), {})
    return "loaded_instances" in first or "compatibility_type" in older


def snapshot(fetch: Fetch, _care: PollPolicy = FREE) -> ServerSnapshot:
    """Return LM Studio's state: every downloaded model, loaded or not."""
    entries = attempt(lambda: read_object(fetch, "/api/v1/models").get("models"), None)
    if isinstance(entries, list):
        models = tuple(_model(entry) for entry in objects(entries) if text(entry.get("key")))
        engine = Engine(request_capacity=_request_capacity(entries))
        return ServerSnapshot("lmstudio", "", models, engine, loads_on_request="by_name")
    older = read_object(fetch, "/api/v0/models").get("data")
    if not isinstance(older, list):
        raise UnexpectedContent("/api/v0/models is no list of models")
    return ServerSnapshot(
        "lmstudio", "", tuple(_older_model(e) for e in objects(older) if text(e.get("id"))), loads_on_request="by_name"
    )


def _request_capacity(entries: list[object]) -> float | None:
    """Return the requests that all loaded models run side by side; None where one of them does not report it.

    Embedding models have no such limit.
    """
    models = (entry for entry in objects(entries) if entry.get("type") != "embedding")
    instances = [instance for model in models for instance in objects(model.get("loaded_instances"))]
    limits = [count(child(instance, "config", "parallel")) for instance in instances]
    return sum(limit for limit in limits if limit is not None) if limits and None not in limits else None


def _model(entry: dict[str, Any]) -> Model:
    instances = list(objects(entry.get("loaded_instances")))
    contexts = [count(child(instance, "config", "context_length")) for instance in instances]
    return Model(
        text(entry.get("key")),
        aliases=tuple(filter(None, (text(instance.get("id")) for instance in instances))),
        loaded=bool(instances) if isinstance(entry.get("loaded_instances"), list) else None,
        quantization=text(child(entry, "quantization", "name")),
        family=text(entry.get("architecture")),
        parameters=text(entry.get("params_string")),
        format=text(entry.get("format")),
        context_length=next(filter(None, contexts), None) or count(entry.get("max_context_length")),
    )


def _older_model(entry: dict[str, Any]) -> Model:
    state = text(entry.get("state"))
    return Model(
        text(entry.get("id")),
        loaded=state == "loaded" if state else None,
        quantization=text(entry.get("quantization")),
        family=text(entry.get("arch")),
        format=text(entry.get("compatibility_type")),
        context_length=count(entry.get("loaded_context_length")) or count(entry.get("max_context_length")),
    )
