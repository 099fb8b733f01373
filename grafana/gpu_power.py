"""The part of the GPU dashboard about what GPUs need: power, cooling, and their links."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.gpu_queries import CHOSEN, KEYS, LEGEND, NOT_MEASURED, flow, line
from grafana.panels import graph
from grafana.queries import Query


def power() -> s.Builder:
    """Draw power beside its limit."""
    return graph(
        "Power against limit",
        "Power drawn by each board, and the limit in force. Good: below the limit; at the limit the clocks are "
        "held down.",
        line("power_watts"),
        line("power_limit_watts", f"limit {LEGEND}"),
        unit=s.WATTS,
        empty=NOT_MEASURED,
    )


def power_share() -> s.Builder:
    """Draw power as a share of the limit."""
    share = q.ratio(line("power_watts").expr, line("power_limit_watts").expr)
    return graph(
        "Share of the power limit", "Good: below 95 %.", Query(share, LEGEND), unit=s.RATIO, empty=NOT_MEASURED
    )


def energy() -> s.Builder:
    """Draw energy."""
    return graph(
        "Mean power by energy",
        "Joules a second as the card counts them: right at any scrape interval. Good: it follows the tokens.",
        flow("energy_joules"),
        unit=s.WATTS,
        empty=NOT_MEASURED,
    )


def temperature() -> s.Builder:
    """Draw temperatures beside their limits."""
    return graph(
        "Temperature against its limits",
        "Each sensor, and the lowest temperature at which each kind of limit acts. Good: 10 °C below the slowdown.",
        line("temperature_celsius", f"{LEGEND} {{{{sensor}}}}", by=(*KEYS, "sensor")),
        Query(q.over("min", q.select("modelhost_gpu_temperature_limit_celsius", CHOSEN), "type"), "limit: {{type}}"),
        unit=s.CELSIUS,
        empty=NOT_MEASURED,
    )


def limits() -> s.Builder:
    """Draw what is left until slowdown."""
    return graph(
        "Degrees until slowdown",
        "How much warmer each GPU may get (Ada, Hopper and later). Good: above 10 °C.",
        line("temperature_margin_celsius"),
        unit=s.CELSIUS,
        empty=NOT_MEASURED,
    )


def clocks() -> s.Builder:
    """Draw clocks."""
    keys = (*KEYS, "domain")
    share = q.ratio(line("clock_hertz", by=keys).expr, line("clock_max_hertz", by=keys).expr)
    return graph(
        "Clocks",
        "Clock of each domain as a share of its highest. Good: near 1 while requests run; an idle GPU clocks down.",
        Query(share, f"{LEGEND} {{{{domain}}}}"),
        unit=s.RATIO,
        empty=NOT_MEASURED,
    )


def fans() -> s.Builder:
    """Draw fans."""
    return graph(
        "Fans",
        "Speed each fan is told to run at. Good: below 1; absent on cards without fans.",
        line("fan_speed_ratio", f"{LEGEND} fan {{{{fan}}}}", by=(*KEYS, "fan")),
        unit=s.RATIO,
        empty="No GPU with fans of its own",
    )


def pcie() -> s.Builder:
    """Draw PCIe traffic."""
    return _ways("PCIe traffic", "Good: a peak while a model loads, little after.", "pcie", KEYS)


def nvlink() -> s.Builder:
    """Draw NVLink traffic."""
    return _ways(
        "NVLink traffic", "All links of a GPU. Good: alike on GPUs that serve one model together.", "nvlink", KEYS
    )


def _ways(title: str, text: str, bus: str, keys: tuple[str, ...]) -> s.Builder:
    sent = flow(f"{bus}_transmit_bytes", by=keys)
    return graph(
        title,
        f"Bytes per second received; sent ones are below zero. {text}",
        flow(f"{bus}_receive_bytes", f"in {LEGEND}", by=keys),
        Query(f"-{sent.expr}", f"out {LEGEND}"),
        unit=s.BYTES_PER_SECOND,
        empty=NOT_MEASURED,
        least=None,
    )
