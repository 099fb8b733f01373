"""Panels of the Overview about the machine: CPU, memory, GPU and network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana import queries as q
from grafana import style as s
from grafana.panels import NO_GPU, facts, graph
from grafana.queries import Query, now

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import timeseries


def graphs() -> tuple[s.Builder, ...]:
    """Draw CPU, memory, GPU and network over time, in a strip low enough that the models are on the first screen."""
    return tuple(panel.legend(s.legend("off")).span(6).height(5) for panel in (cpu(), memory(), gpu(), network()))


def cpu() -> timeseries.Panel:
    """Draw the CPUs."""
    return graph(
        "CPU",
        "Share of CPU time in use. Good: below 70 %; above 90 % all programs slow down, including the proxy.",
        Query(q.cpu_busy(), "{{instance}}"),
        unit=s.RATIO,
        max_=1,
        steps=s.BUSY,
    )


def memory() -> timeseries.Panel:
    """Draw memory."""
    return graph(
        "Memory",
        "Share of memory in use by programs, without caches that the kernel can free. Good: below 80 %.",
        Query(q.memory_used_ratio(), "{{instance}}"),
        unit=s.RATIO,
        max_=1,
        steps=s.FULL,
    )


def gpu() -> timeseries.Panel:
    """Draw the GPUs."""
    return graph(
        "GPU",
        "Share of time in which at least one kernel ran, the mean of all GPUs. For how much of a GPU was in use, see "
        "the GPU dashboard. Good: high while requests run, otherwise 0.",
        Query(q.gpu_busy(), "{{instance}}"),
        unit=s.RATIO,
        empty=NO_GPU,
        max_=1,
    )


def network() -> timeseries.Panel:
    """Draw the network."""
    received, sent = (
        q.total(q.rate(f"modelhost_host_network_{way}_bytes_total"), "instance") for way in ("receive", "transmit")
    )
    panel = graph(
        "Network",
        "Bytes per second of all physical interfaces; sent bytes below zero. Good: well below the link speed.",
        Query(received, "in {{instance}}"),
        Query(sent, "out {{instance}}"),
        unit=s.BYTES_PER_SECOND,
        min_=None,
    )
    return panel.override_by_regexp("out.*", s.below_zero())


def details() -> tuple[s.Builder, ...]:
    """Show what the graphs do not: cores, load, bytes and degrees."""
    size, available = (q.total(q.select(f"modelhost_host_memory_{what}_bytes")) for what in ("total", "available"))
    gpu_used, gpu_size = (q.total(q.select(f"modelhost_gpu_memory_{what}_bytes")) for what in ("used", "total"))
    return (
        facts(
            "CPU now",
            "CPU usage, cores of all selected hosts, and tasks that ran or waited in the last minute. Good: a load "
            "below the number of cores.",
            (now(q.over("avg", q.cpu_busy()), "busy"), s.RATIO),
            (now(q.total(q.select("modelhost_host_cpu_cores")), "cores"), s.COUNT),
            (now(q.total(q.select("modelhost_load1")), "load"), s.COUNT),
        ).span(7),
        facts(
            "Memory now",
            "Memory in use and still available, on all selected hosts. Good: some is available.",
            (now(q.over("avg", q.memory_used_ratio()), "in use"), s.RATIO),
            (now(f"{size} - {available}", "used"), s.BYTES),
            (now(available, "available"), s.BYTES),
        ).span(7),
        facts(
            "GPU now",
            "Available GPUs, their used and total memory, and the hottest sensor. "
            "Good: full memory is normal for a model server; below 85 °C.",
            (now(q.total(q.select("modelhost_gpu_devices")), "GPUs"), s.COUNT),
            (now(q.over("avg", q.gpu_busy()), "busy"), s.RATIO),
            (now(gpu_used, "memory used"), s.BYTES),
            (now(gpu_size, "memory"), s.BYTES),
            (now(q.highest(q.select("modelhost_gpu_temperature_celsius")), "hottest"), s.CELSIUS),
            empty=NO_GPU,
        ).span(10),
    )
