"""The GPU dashboard: activity, memory, power, throttling and errors."""

from __future__ import annotations

from grafana import alerts, mig, stats
from grafana import gpu_activity as activity
from grafana import gpu_health as health
from grafana import gpu_power as power
from grafana import queries as q
from grafana import style as s
from grafana.board import Board, Variable, row
from grafana.gpu_queries import CHOSEN, KEYS, gauge
from grafana.panels import MINUTE, NO_GPU, Column, listing, number
from grafana.queries import Query, now

GPU = Variable("gpu", "GPU", q.values_of("gpu", "modelhost_gpu_info"))


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-gpu",
        "Model host / GPU",
        "Activity, memory, power, throttling and errors of the GPUs.",
        (
            row(
                "Now",
                alerts.lane(),
                stats.gpus(),
                stats.gpus_missing(),
                not_responding(),
                suspended(),
                driver(),
                energy_per_token(),
                cards(),
            ),
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


def not_responding() -> s.Builder:
    """Show the number of GPUs that do not respond."""
    down = q.over("count", f"{q.select('modelhost_gpu_up')} == 0")
    return number(
        "Not responding",
        "GPUs whose driver does not respond. Good: 0.",
        now(q.or_zero(down)),
        unit=s.COUNT,
        steps=s.ANY_IS_BAD,
    )


def suspended() -> s.Builder:
    """Show the number of GPUs that are suspended or not polled."""
    return number(
        "Suspended, paused",
        "GPUs that the system has suspended, and GPUs that the exporter does not poll so that they can be "
        "suspended. Good: any number; 0 on servers.",
        now(q.or_zero(q.total(q.select("modelhost_gpu_devices_suspended"))), "suspended"),
        now(q.or_zero(q.total(q.select("modelhost_gpu_devices_polling_paused"))), "paused"),
        unit=s.COUNT,
    ).span(4)


def driver() -> s.Builder:
    """Show whether the exporter needs a restart."""
    return number(
        "Restart needed",
        "Whether the driver was replaced while the exporter runs. Good: no; otherwise restart the exporter.",
        now(q.or_zero(q.highest(q.select("modelhost_gpu_restart_required")))),
        unit=s.COUNT,
        texts={0: ("no", s.GREEN), 1: ("yes", s.RED)},
    )


def energy_per_token() -> s.Builder:
    """Show the energy per token."""
    watts = q.total(q.rate("modelhost_gpu_energy_joules_total"))
    tokens = q.total(q.rate("modelhost_output_tokens_total"))
    return (
        number(
            "Energy per output token",
            "Energy of all GPUs of the selected hosts per token that their models generated. Good: low; it falls "
            "with load, since idle GPUs also draw power.",
            now(q.ratio(watts, f"({tokens} > 0)")),
            unit=s.JOULES,
            empty="No tokens, or no energy counter",
        )
        .span(8)
        .interval(MINUTE)
    )


def cards() -> s.Builder:
    """List the cards."""
    labels = ("instance", "gpu", "vendor", "name", "driver_version", "compute_capability")
    info = q.total(q.select("modelhost_gpu_info", CHOSEN), *labels)

    def joined(metric: str) -> Query:
        return now(f"{gauge(metric).expr} * on ({q.labels(*KEYS)}) group_right () {info}")

    return listing(
        "Cards",
        "GPUs and their drivers. Good: all up, with the same driver.",
        Column("Up", s.YES_NO, joined("up"), s.ALL_IS_WELL),
        Column("Memory", s.BYTES, joined("memory_total_bytes"), s.NONE),
        Column("Shares the host's memory", s.YES_NO, joined("unified_memory"), s.NONE),
        labels=labels,
        empty=NO_GPU,
    ).height(7)
