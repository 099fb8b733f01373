"""The part of the Overview about the machine: CPU, memory and GPU."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.panels import facts, graph
from grafana.queries import Query, now

NO_GPU = "No GPU detected"


def graphs() -> tuple[s.Builder, ...]:
    """Draw CPU, memory and GPU over time."""
    return (
        graph(
            "CPU",
            "Share of CPU time with work. Good: below 70 %; above 90 % everything waits, the proxy too.",
            Query(q.cpu_busy(), "{{instance}}"),
            unit=s.RATIO,
            most=1,
            steps=s.BUSY,
        ).height(6),
        graph(
            "Memory",
            "Share of memory in use by programs; caches that can be given back are not counted. Good: below 80 %.",
            Query(q.memory_used_ratio(), "{{instance}}"),
            unit=s.RATIO,
            most=1,
            steps=s.FULL,
        ).height(6),
        graph(
            "GPU",
            "Share of time in which some kernel ran, the mean of the GPUs. It does not say how much of a GPU was "
            "at work: "
            "see the GPU dashboard. Good: high while requests run, 0 while none do.",
            Query(q.gpu_busy(), "{{instance}}"),
            unit=s.RATIO,
            empty=NO_GPU,
            most=1,
            steps=s.BUSY,
        ).height(6),
    )


def details() -> tuple[s.Builder, ...]:
    """Show the small facts below the graphs."""
    used, size = (q.total(q.select(f"modelhost_memory_{what}_bytes")) for what in ("used", "available"))
    gpu_used, gpu_size = (q.total(q.select(f"modelhost_gpu_memory_{what}_bytes")) for what in ("used", "total"))
    return (
        facts(
            "CPU now",
            "CPU in use, cores of all chosen hosts, and the tasks that ran or waited over the last minute. "
            "Good: a load below the number of cores.",
            (now(q.over("avg", q.cpu_busy()), "busy"), s.RATIO),
            (now(q.total(q.select("modelhost_cpu_logical_cores")), "cores"), s.COUNT),
            (now(q.total(q.select("modelhost_load1")), "load"), s.COUNT),
        ),
        facts(
            "Memory now",
            "Memory in use and still available, on all chosen hosts. Good: some is available.",
            (now(q.over("avg", q.memory_used_ratio()), "in use"), s.RATIO),
            (now(used, "used"), s.BYTES),
            (now(size, "available"), s.BYTES),
        ),
        facts(
            "GPU now",
            "GPUs that are there, their memory in use and in all, and the hottest sensor. "
            "Good: full memory is normal for a model server; below 85 °C.",
            (now(q.total(q.select("modelhost_gpu_devices")), "GPUs"), s.COUNT),
            (now(q.over("avg", q.gpu_busy()), "busy"), s.RATIO),
            (now(gpu_used, "memory used"), s.BYTES),
            (now(gpu_size, "memory"), s.BYTES),
            (now(q.highest(q.select("modelhost_gpu_temperature_celsius")), "hottest"), s.CELSIUS),
            empty=NO_GPU,
        ),
    )
