"""Panels of the GPU dashboard about activity and memory."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.gpu_queries import CHOSEN, KEYS, LEGEND, NOT_MEASURED, gauge
from grafana.panels import NO_GPU, graph
from grafana.queries import Query


def ratio_graph(title: str, text: str, metric: str) -> s.Builder:
    """Draw a share of each GPU."""
    return graph(title, text, gauge(metric), unit=s.RATIO, empty=NOT_MEASURED, max_=1)


def utilization() -> s.Builder:
    """Draw utilisation."""
    return graph(
        "Utilisation",
        "Share of time in which at least one kernel ran, from the driver's samples where available. For how much "
        "of the GPU was in use, see the next panel. Good: high while requests run.",
        Query(q.gpu_busy(CHOSEN, by=KEYS), LEGEND),
        unit=s.RATIO,
        empty=NO_GPU,
        max_=1,
    )


def more() -> tuple[s.Builder, ...]:
    """Draw what few people need."""
    return (
        *(tensor(), occupancy(), memory_active()),
        *(video().span(12), memory_states().span(12)),
    )


def sm_active() -> s.Builder:
    """Draw the activity of streaming multiprocessors."""
    return ratio_graph(
        "SM activity",
        "Mean share of active streaming multiprocessors (Hopper and later). Good: near the utilisation; if far "
        "below, batches are too small to fill the GPU.",
        "sm_active_ratio",
    )


def tensor() -> s.Builder:
    """Draw tensor cores."""
    return ratio_graph(
        "Tensor core activity",
        "Share of time in which tensor cores were active. Good: high during prefill, low during decode.",
        "tensor_active_ratio",
    )


def bandwidth() -> s.Builder:
    """Draw memory bandwidth."""
    return ratio_graph(
        "Memory bandwidth usage",
        "Share of the memory's bandwidth. Good: near 1 during decode, which it limits.",
        "dram_active_ratio",
    )


def occupancy() -> s.Builder:
    """Draw occupancy."""
    return ratio_graph(
        "Occupancy",
        "Share of the possible warps that were resident. There is no good value in general; compare versions of an "
        "engine.",
        "sm_occupancy_ratio",
    )


def video() -> s.Builder:
    """Draw the video engines."""
    return graph(
        "Video engines",
        "Share of time in which video encoder and decoder were active. Good: 0 on a host of language models.",
        gauge("encoder_utilization_ratio", f"encoder {LEGEND}"),
        gauge("decoder_utilization_ratio", f"decoder {LEGEND}"),
        unit=s.RATIO,
        empty=NOT_MEASURED,
        max_=1,
    )


def memory_active() -> s.Builder:
    """Draw memory activity."""
    return ratio_graph(
        "Memory activity",
        "Share of time in which memory was read or written. Good: follows the utilisation.",
        "memory_utilization_ratio",
    )


def memory() -> s.Builder:
    """Draw memory in use."""
    return graph(
        "Memory in use",
        "Share of each GPU's memory. Good: steady; high is normal, since model servers reserve it.",
        Query(q.gpu_memory_ratio(CHOSEN, by=KEYS), LEGEND),
        unit=s.RATIO,
        empty=NO_GPU,
        max_=1,
    ).span(12)


def memory_by_server() -> s.Builder:
    """Draw memory by program."""
    return graph(
        "Memory by process",
        "Memory held by the processes of each configured model server, or by other programs. Good: only expected ones.",
        Query(
            q.total(q.select("modelhost_gpu_process_memory_bytes", CHOSEN), "instance", "process"),
            "{{instance}} {{process}}",
        ),
        unit=s.BYTES,
        empty="No GPU detected, or memory by process is not reported",
        stacked=True,
    ).span(12)


def memory_states() -> s.Builder:
    """Draw free and reserved memory."""
    kinds = ("used", "free", "reserved", "total")
    return graph(
        "Memory of all selected GPUs",
        "Used, free, reserved by driver and firmware, and total. Good: enough is free for the next model.",
        *(Query(q.total(q.select(f"modelhost_gpu_memory_{kind}_bytes", CHOSEN)), kind) for kind in kinds),
        unit=s.BYTES,
        empty=NO_GPU,
    )
