"""Panels about energy and its cost: of models, and of hosts."""

from __future__ import annotations

from grafana import queries as q
from grafana import recorded as r
from grafana import style as s
from grafana.engine_queries import CHOSEN
from grafana.panels import NOT_REPORTED, graph
from grafana.queries import Query

_OF_MODEL = ("server", "model")
_LEGEND = "{{server}} {{model}}"
_NO_PRICE = "No price configured (cost), or no energy counter"
_NO_ENERGY = "No GPU with an energy counter, and no RAPL"


def of_models() -> tuple[s.Builder, ...]:
    """Draw energy and cost by model."""
    panels = (power(), idle_power(), per_token(), tokens_per_joule(), cost_per_hour(), cost_per_million_tokens())
    return (*panels, idle_cost(), bound())


def of_hosts() -> tuple[s.Builder, ...]:
    """Draw power and cost by host."""
    return host_power(), host_cost()


def power() -> s.Builder:
    """Draw power by model."""
    joules = q.total(q.rate("modelhost_model_energy_joules_total", CHOSEN), *_OF_MODEL, "attribution")
    return graph(
        "Power by model",
        "Power of the GPUs that hold a model; shared is estimated from memory. Good: follows the tokens.",
        Query(joules, f"{_LEGEND} {{{{attribution}}}}"),
        unit=s.WATTS,
        empty=NOT_REPORTED,
    )


def idle_power() -> s.Builder:
    """Draw power without requests."""
    joules = q.total(q.rate("modelhost_model_idle_energy_joules_total", CHOSEN), *_OF_MODEL)
    return graph(
        "Idle power by model",
        "The part of a model's power while its server had no request. Good: low; else unload the model when idle.",
        Query(joules, _LEGEND),
        unit=s.WATTS,
        empty=NOT_REPORTED,
    )


def per_token() -> s.Builder:
    """Draw energy per token and model."""
    joules, tokens = _joules_and_tokens()
    return graph(
        "Energy per output token",
        "Energy of the GPUs of a model per generated token. Good: low; small batches need the most.",
        Query(q.ratio(joules, f"({tokens} > 0)"), _LEGEND),
        unit=s.JOULES,
        empty=NOT_REPORTED,
    )


def tokens_per_joule() -> s.Builder:
    """Draw tokens per joule and model."""
    joules, tokens = _joules_and_tokens()
    return graph(
        "Output tokens per joule",
        "Generated tokens per joule of the GPUs of a model. Good: high; larger batches share the work.",
        Query(q.ratio(tokens, f"({joules} > 0)"), _LEGEND),
        unit=s.COUNT,
        empty=NOT_REPORTED,
    )


def _joules_and_tokens() -> tuple[str, str]:
    joules, tokens = (
        q.total(q.rate(f"modelhost_{what}_total", CHOSEN), *_OF_MODEL)
        for what in ("model_energy_joules", "output_tokens")
    )
    return joules, tokens


def cost_per_hour() -> s.Builder:
    """Draw the cost of models by the hour."""
    return _cost(
        "Cost per hour by model",
        "Price of the energy of the GPUs of a model; shared is estimated from memory. Good: follows the tokens.",
        "model:energy_cost_per_hour:mean_5m",
    )


def cost_per_million_tokens() -> s.Builder:
    """Draw the cost of a million tokens."""
    return _cost(
        "Cost per million output tokens",
        "Energy of an hour by the tokens that passed the proxy, idle time included. Good: low; it falls with load.",
        "model:energy_cost_per_million_output_tokens:ratio_1h",
    )


def idle_cost() -> s.Builder:
    """Draw the cost of idle models."""
    return _cost(
        "Idle cost per hour by model",
        "The part of a model's cost while its server had no request. Good: low.",
        "model:idle_energy_cost_per_hour:mean_5m",
    )


def bound() -> s.Builder:
    """Draw output tokens beside the share of the GPUs' bandwidth and tensor cores at work."""
    tokens = q.total(q.rate("modelhost_output_tokens_total", CHOSEN), "instance")
    bandwidth, tensor = (
        q.highest(q.select(f"modelhost_gpu_{what}_active_ratio"), "instance") for what in ("dram", "tensor")
    )
    return graph(
        "Tokens/s beside bandwidth",
        "Output tokens, and the busiest GPU's share of its memory bandwidth and tensor cores (Hopper and later). Good: "
        "bandwidth near 1 while decoding, which is memory-bound: larger batches use it better.",
        Query(tokens, "tokens {{instance}}"),
        Query(bandwidth, "bandwidth {{instance}}"),
        Query(tensor, "tensor cores {{instance}}"),
        unit=s.TOKENS,
        empty=NOT_REPORTED,
    ).override_by_regexp("(bandwidth|tensor).*", s.unit_of(s.RATIO))


def _cost(title: str, text: str, series: str) -> s.Builder:
    labels = (*_OF_MODEL, "attribution", "currency")
    cost = q.total(q.select(series, CHOSEN), *labels)
    legend = f"{{{{currency}}}} {_LEGEND} {{{{attribution}}}}"
    return graph(title, text, Query(cost, legend), unit=s.COUNT, empty=_NO_PRICE)


def host_power() -> s.Builder:
    """Draw the measured power of hosts."""
    return graph(
        "Power of GPUs and processors",
        "Power of a host's GPUs and processors, without board, disks, fans and power supply. Good: follows the load.",
        r.by_host("instance:power_watts:sum_mean_5m"),
        unit=s.WATTS,
        empty=_NO_ENERGY,
    )


def host_cost() -> s.Builder:
    """Draw the cost of hosts by the hour."""
    return graph(
        "Cost per hour",
        "Price of the energy of a host's GPUs and processors. Good: follows the load.",
        r.by_host("instance:energy_cost_per_hour:mean_5m", "{{currency}} {{instance}}"),
        unit=s.COUNT,
        empty=_NO_PRICE,
    )
