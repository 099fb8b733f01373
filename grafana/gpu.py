"""The GPU dashboard: activity, memory, power, throttling and errors."""

from __future__ import annotations

from grafana import alerts, gpu_table, mig, stats
from grafana import gpu_activity as activity
from grafana import gpu_health as health
from grafana import gpu_power as power
from grafana import queries as q
from grafana import style as s
from grafana.board import Board, Variable, row
from grafana.panels import MINUTE, number
from grafana.queries import now

GPU = Variable("gpu", "GPU", q.values_of("gpu", "modelhost_gpu_info"))


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-gpu",
        "Model host / GPU",
        "Activity, memory, power, throttling and errors of the GPUs.",
        (
            row("Now", alerts.lane().span(15), stats.gpus_missing(), driver(), energy(), gpu_table.at_a_glance()),
            row("Activity", activity.utilization(), activity.sm_active(), activity.bandwidth()),
            row("Memory", activity.memory(), activity.memory_by_server()),
            row("Heat, power and throttling", power.margin(), power.power_share(), health.throttled()),
            row("Errors", health.ecc(), health.recovery(), health.xids()),
            row("More about activity and memory", *activity.more(), collapsed=True),
            row("More about power, clocks and throttling", *power.more(), *health.more(), collapsed=True),
            row("PCIe and NVLink", power.pcie(), power.nvlink(), *health.links(), collapsed=True),
            row("Cards and drivers", gpu_table.cards(), suspended(), health.memory_health(), collapsed=True),
            row("MIG instances", *mig.panels(), collapsed=True),
        ),
        (GPU,),
    )


def suspended() -> s.Builder:
    """Show the number of GPUs that are suspended or not polled."""
    return (
        number(
            "Suspended, paused",
            "GPUs that the system has suspended, and GPUs that the exporter does not poll so that they can be "
            "suspended. Good: any number; 0 on servers.",
            now(q.or_zero(q.total(q.select("modelhost_gpu_devices_suspended"))), "suspended"),
            now(q.or_zero(q.total(q.select("modelhost_gpu_devices_polling_paused"))), "paused"),
            unit=s.COUNT,
        )
        .span(8)
        .height(8)
    )


def driver() -> s.Builder:
    """Show whether the exporter needs a restart."""
    return number(
        "Restart due",
        "Whether the exporter needs a restart, since the driver was replaced while it runs. Good: no.",
        now(q.or_zero(q.highest(q.select("modelhost_gpu_restart_required")))),
        unit=s.COUNT,
        texts={0: ("no", s.GREEN), 1: ("yes", s.RED)},
    )


def energy() -> s.Builder:
    """Show the energy per token."""
    watts = q.total(q.rate("modelhost_gpu_energy_joules_total"))
    tokens = q.total(q.rate("modelhost_output_tokens_total"))
    return (
        number(
            "Energy/token",
            "Energy of all GPUs of the selected hosts per output token of their models. Good: low; it falls with "
            "load, since idle GPUs also draw power.",
            now(q.ratio(watts, f"({tokens} > 0)")),
            unit=s.JOULES,
            empty="No tokens, or no energy counter",
        )
        .span(3)
        .interval(MINUTE)
    )
