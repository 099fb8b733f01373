"""Panels of the GPU dashboard about MIG instances, which are partitions of a GPU."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.gpu_queries import CHOSEN
from grafana.panels import Column, graph, listing
from grafana.queries import Query, now

# Prometheus renames the metric's own label "instance", since targets have one
KEYS = ("instance", "gpu", "exported_instance", "profile")
NO_MIG = "No MIG instances"


def panels() -> tuple[s.Builder, ...]:
    """Draw memory and activity of each instance."""
    ratios = (
        ("SM activity", "sm_active_ratio", "near 1 under load"),
        ("Occupancy", "sm_occupancy_ratio", "no value in general; compare versions of an engine"),
        ("Tensor core activity", "tensor_active_ratio", "high during prefill"),
        ("Memory bandwidth usage", "dram_active_ratio", "near 1 during decode"),
    )
    drawn = tuple(
        graph(
            title, f"Mean share in each instance. Good: {good}.", _line(metric), unit=s.RATIO, empty=NO_MIG, max_=1
        ).span(6)
        for title, metric, good in ratios
    )
    return (*drawn, memory(), holders(), listed())


def _line(metric: str) -> Query:
    expr = q.highest(q.select(f"modelhost_gpu_mig_{metric}", CHOSEN), *KEYS)
    return Query(expr, "{{instance}} GPU {{gpu}}.{{exported_instance}} {{profile}}")


def memory() -> s.Builder:
    """Draw the share of memory in use."""
    used, size = (_line(f"memory_{what}_bytes").expr for what in ("used", "total"))
    legend = _line("").legend
    return graph(
        "Memory in use",
        "Share of each instance's memory. Good: steady.",
        Query(q.ratio(used, size), legend),
        unit=s.RATIO,
        empty=NO_MIG,
        max_=1,
    )


def holders() -> s.Builder:
    """Draw memory by process."""
    held = q.total(q.select("modelhost_gpu_mig_process_memory_bytes", CHOSEN), *KEYS, "process")
    return graph(
        "Memory by model server",
        "Memory held by the processes of each name in each instance. Good: only expected ones.",
        Query(held, "GPU {{gpu}}.{{exported_instance}} {{process}}"),
        unit=s.BYTES,
        empty=NO_MIG,
        stacked=True,
    )


def listed() -> s.Builder:
    """List the instances."""
    return (
        listing(
            "Instances",
            "MIG instances and their memory. Good: as configured.",
            Column("Parts", s.COUNT, now(q.over("count", q.select("modelhost_gpu_mig_info", CHOSEN), *KEYS))),
            Column("Memory", s.BYTES, now(_line("memory_total_bytes").expr)),
            Column("Free", s.BYTES, now(_line("memory_free_bytes").expr)),
            Column("Reserved", s.BYTES, now(_line("memory_reserved_bytes").expr)),
            labels=KEYS,
            empty=NO_MIG,
        )
        .span(8)
        .height(8)
    )
