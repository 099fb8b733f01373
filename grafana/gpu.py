"""GPUs: what they do, what they need, what holds them back, and what is wrong with them."""

from __future__ import annotations

from grafana import gpu_activity as activity
from grafana import gpu_health as health
from grafana import gpu_power as power
from grafana import mig
from grafana import queries as q
from grafana import style as s
from grafana.board import Board, Variable, row
from grafana.gpu_queries import CHOSEN, NO_GPU, line
from grafana.panels import MINUTE, listing, number
from grafana.queries import Query, now

GPU = Variable("gpu", "GPU", q.values_of("gpu", "modelhost_gpu_info"))


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-gpu",
        "Model host / GPU",
        "What the GPUs do, what they need, what holds them back, and what is wrong with them.",
        (
            row("Now", devices(), missing(), answering(), asleep(), driver(), energy_per_token(), cards()),
            row(
                "Activity",
                activity.utilization().span(12),
                activity.sm_active().span(12),
                activity.tensor(),
                activity.bandwidth(),
                activity.occupancy(),
                activity.video(),
                activity.memory_active(),
            ),
            row("Memory", activity.memory(), activity.memory_by_server(), activity.memory_states()),
            row(
                "Power, clocks and temperature",
                power.power(),
                power.power_share(),
                power.energy(),
                power.temperature().span(6),
                power.limits().span(6),
                power.clocks().span(6),
                power.fans().span(6),
            ),
            row("Throttling", *health.throttling()),
            row("PCIe and NVLink", power.pcie().span(12), power.nvlink().span(12), *health.links()),
            row("Errors", *health.errors()),
            row("MIG instances", *mig.panels(), collapsed=True),
        ),
        (GPU,),
    )


def devices() -> s.Builder:
    """Count GPUs."""
    return number(
        "GPUs",
        "GPUs that are there on the chosen hosts. Good: as many as you built in.",
        now(q.or_zero(q.total(q.select("modelhost_gpu_devices")))),
        unit=s.COUNT,
        texts={0: (NO_GPU, s.GREY)},
    )


def missing() -> s.Builder:
    """Count GPUs that fell off the bus."""
    expected, there = (q.total(q.select(f"modelhost_gpu_devices{end}")) for end in ("_expected", ""))
    return number(
        "Missing",
        "GPUs that should be there and are not. Good: 0.",
        now(q.or_zero(f"{expected} - {there}")),
        unit=s.COUNT,
        steps=s.ANY_IS_BAD,
    )


def answering() -> s.Builder:
    """Count GPUs that hang."""
    hanging = q.over("count", f"{q.select('modelhost_gpu_up')} == 0")
    return number(
        "Hanging",
        "GPUs whose driver does not answer. Good: 0.",
        now(q.or_zero(hanging)),
        unit=s.COUNT,
        steps=s.ANY_IS_BAD,
    )


def asleep() -> s.Builder:
    """Count GPUs that sleep or are let rest."""
    return number(
        "Asleep, resting",
        "GPUs that the system has put to sleep, and GPUs that the exporter leaves alone so that they can fall asleep. "
        "Good: any number; 0 on servers.",
        now(q.or_zero(q.total(q.select("modelhost_gpu_devices_suspended"))), "asleep"),
        now(q.or_zero(q.total(q.select("modelhost_gpu_devices_polling_paused"))), "resting"),
        unit=s.COUNT,
    )


def driver() -> s.Builder:
    """Say whether the exporter needs a restart."""
    return number(
        "Restart needed",
        "Whether the driver was replaced while the exporter ran. Good: no; else restart the exporter.",
        now(q.or_zero(q.highest(q.select("modelhost_gpu_restart_required")))),
        unit=s.COUNT,
        texts={0: ("no", s.GREEN), 1: ("yes", s.RED)},
    )


def energy_per_token() -> s.Builder:
    """Show what a token costs."""
    watts = q.total(q.rate("modelhost_gpu_energy_joules_total"))
    tokens = q.total(q.rate("modelhost_output_tokens_total"))
    return (
        number(
            "Energy per output token",
            "Energy of all GPUs of the chosen hosts over all tokens that their models wrote. Good: low; it falls "
            "with load, "
            "since an idle GPU draws power too.",
            now(q.ratio(watts, f"({tokens} > 0)")),
            unit=s.JOULES,
            empty="No tokens, or no energy counter",
        )
        .span(9)
        .interval(MINUTE)
    )


def cards() -> s.Builder:
    """List the cards."""
    labels = ("instance", "gpu", "vendor", "name", "driver_version", "compute_capability")
    info = q.total(q.select("modelhost_gpu_info", CHOSEN), *labels)

    def told(metric: str) -> Query:
        return now(f"{line(metric).expr} * on (instance, gpu) group_right () {info}")

    return listing(
        "Cards",
        "The cards and their drivers. Good: all up, one driver.",
        ("Up", s.YES_NO, told("up"), s.ALL_IS_WELL),
        ("Memory", s.BYTES, told("memory_total_bytes"), s.NONE),
        ("Shares the host's memory", s.YES_NO, told("unified_memory"), s.NONE),
        labels=labels,
        empty=NO_GPU,
    ).height(7)
