"""Panels of the Model servers dashboard about models: loaded models, memory and energy."""

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


def energy() -> s.Builder:
    """Draw energy per token and model."""
    by = ("server", "model")
    joules = q.total(q.rate("modelhost_model_energy_joules_total", CHOSEN), *by)
    tokens = q.total(q.rate("modelhost_output_tokens_total", CHOSEN), *by)
    return graph(
        "Energy per output token",
        "Energy of the GPUs of a model per generated token. Good: low; small batches need the most.",
        Query(q.ratio(joules, f"({tokens} > 0)"), "{{server}} {{model}}"),
        unit=s.JOULES,
        empty=NOT_REPORTED,
    )


def energy_by_attribution() -> s.Builder:
    """Draw power by model."""
    joules = q.total(q.rate("modelhost_model_energy_joules_total", CHOSEN), "server", "model", "attribution")
    return graph(
        "Power by model",
        "Power by model; shared is estimated from memory. Good: follows the tokens.",
        Query(joules, "{{server}} {{model}} {{attribution}}"),
        unit=s.WATTS,
        empty=NOT_REPORTED,
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
