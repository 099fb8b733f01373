"""Panels of the Model servers dashboard about models: which are loaded, and their memory."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.engine_queries import CHOSEN, together
from grafana.panels import NOT_REPORTED, Column, graph, listing, states
from grafana.queries import Query, now

KEYS = ("instance", "server", "model")
LEGEND = "{{instance}} {{server}} {{model}}"
NO_MODEL = "No model found"


def loads() -> s.Builder:
    """Draw when models were loaded."""
    return states(
        "Loaded",
        "When each model was loaded, by at least one replica. Good: no frequent changes: users wait for each load.",
        Query(together("modelhost_model_loaded", *KEYS), LEGEND),
        texts={0: ("not loaded", s.GREY), 1: ("loaded", s.GREEN)},
        empty=NO_MODEL,
    )


def memory() -> s.Builder:
    """Draw memory by model."""
    held = q.total(q.select("modelhost_model_memory_bytes", CHOSEN), "server", "model", "type")
    return graph(
        "Memory by model",
        "Memory of loaded models by type. Good: vram; ram holds the part that did not fit.",
        Query(held, "{{server}} {{model}} {{type}}"),
        unit=s.BYTES,
        empty=NOT_REPORTED,
        stacked=True,
    ).span(12)


def moves() -> s.Builder:
    """Draw loads and unloads."""
    return graph(
        "Loads and unloads",
        "Models that were loaded and unloaded. Good: rare.",
        *(
            Query(q.total(q.increase(f"modelhost_model_{way}_total", CHOSEN), *KEYS), f"{way} {LEGEND}")
            for way in ("loads", "unloads")
        ),
        unit=s.COUNT,
        empty=NO_MODEL,
    )


def listed() -> s.Builder:
    """List the models."""
    labels = (*KEYS, "parameters", "quantization", "format")
    info = together("modelhost_model_info", *labels)

    def joined(metric: str) -> Query:
        value = together(f"modelhost_model_{metric}", *KEYS)
        return now(q.labelled(value, info, *KEYS))

    expires = now(f"({joined('expires_timestamp_seconds').expr} - time()) > 0")
    return listing(
        "Models",
        "Models of each server. Good: the intended quantisation, and a context that fits your prompts.",
        Column("Loaded", s.YES_NO, joined("loaded")),
        Column("Memory", s.BYTES, now(q.total(q.select("modelhost_model_memory_bytes", CHOSEN), *KEYS)), least=85),
        Column("Context", s.COUNT, joined("context_length_tokens")),
        Column("Load time", s.SECONDS, joined("load_duration_seconds"), least=92),
        Column("Unloaded in", "dtdurations", expires, least=112),
        labels=labels,
        empty=NO_MODEL,
        first="Loaded",
    ).height(9)
