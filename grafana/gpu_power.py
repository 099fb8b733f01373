"""Panels of the GPU dashboard about power, cooling and links."""

from __future__ import annotations

from grafana import gpu_queries
from grafana import queries as q
from grafana import style as s
from grafana.gpu_queries import CHOSEN, KEYS, LEGEND, NOT_MEASURED, gauge, rate
from grafana.panels import graph
from grafana.queries import Query


def more() -> tuple[s.Builder, ...]:
    """Draw power, temperatures, clocks and fans."""
    return (power(), energy(), temperature(), clocks(), fans())


def power() -> s.Builder:
    """Draw power."""
    return graph(
        "Power",
        "Power of each board. Good: below the limit; at the limit the clocks are reduced.",
        gauge("power_watts"),
        unit=s.WATTS,
        empty=NOT_MEASURED,
    )


def power_share() -> s.Builder:
    """Draw power as a share of the limit."""
    return graph(
        "Share of the power limit",
        "Power as a share of the limit. Good: below 95 %; at the limit the clocks are reduced.",
        Query(gpu_queries.power_share(), LEGEND),
        unit=s.RATIO,
        empty=NOT_MEASURED,
    )


def energy() -> s.Builder:
    """Draw energy."""
    return graph(
        "Mean power from energy",
        "Mean power from the card's energy counter, exact at any scrape interval. Good: follows the tokens.",
        rate("energy_joules"),
        unit=s.WATTS,
        empty=NOT_MEASURED,
    )


def temperature() -> s.Builder:
    """Draw temperatures beside their limits."""
    return graph(
        "Temperature against its limits",
        "Each sensor, and the lowest limit of each type. Good: 10 °C below the slowdown.",
        gauge("temperature_celsius", f"{LEGEND} {{{{sensor}}}}", by=(*KEYS, "sensor")),
        Query(q.over("min", q.select("modelhost_gpu_temperature_limit_celsius", CHOSEN), "type"), "limit: {{type}}"),
        unit=s.CELSIUS,
        empty=NOT_MEASURED,
    )


def margin() -> s.Builder:
    """Draw the temperature margin until slowdown."""
    return graph(
        "Degrees until slowdown",
        "Temperature margin of each GPU, of the sensor that is nearest to its limit. Good: above 10 °C.",
        Query(gpu_queries.margin(), LEGEND),
        unit=s.CELSIUS,
        empty=NOT_MEASURED,
        rank="lowest",
    )


def clocks() -> s.Builder:
    """Draw clocks."""
    keys = (*KEYS, "domain")
    share = q.ratio(gauge("clock_hertz", by=keys).expr, gauge("clock_max_hertz", by=keys).expr)
    return graph(
        "Clocks",
        "Clock of each domain as a share of its maximum. Good: near 1 while requests run; an idle GPU lowers its "
        "clocks.",
        Query(share, f"{LEGEND} {{{{domain}}}}"),
        unit=s.RATIO,
        empty=NOT_MEASURED,
    )


def fans() -> s.Builder:
    """Draw fans."""
    return graph(
        "Fans",
        "Target speed of each fan. Good: below 1; absent on cards without fans.",
        gauge("fan_speed_ratio", f"{LEGEND} fan {{{{fan}}}}", by=(*KEYS, "fan")),
        unit=s.RATIO,
        empty="No GPU with fans",
    )


def pcie() -> s.Builder:
    """Draw PCIe traffic."""
    return _ways("PCIe traffic", "Good: a peak while a model loads, little after.", "pcie", KEYS)


def nvlink() -> s.Builder:
    """Draw NVLink traffic."""
    return _ways(
        "NVLink traffic", "All links of a GPU. Good: similar on GPUs that serve one model together.", "nvlink", KEYS
    )


def _ways(title: str, text: str, bus: str, keys: tuple[str, ...]) -> s.Builder:
    sent = rate(f"{bus}_transmit_bytes", by=keys)
    return graph(
        title,
        f"Bytes per second received; sent bytes are drawn below zero. {text}",
        rate(f"{bus}_receive_bytes", f"in {LEGEND}", by=keys),
        Query(sent.expr, f"out {LEGEND}"),
        unit=s.BYTES_PER_SECOND,
        empty=NOT_MEASURED,
        min_=None,
    ).override_by_regexp("out.*", s.below_zero())
