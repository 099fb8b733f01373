"""The part of the GPU dashboard about what GPUs do, and with how much of their memory."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.gpu_queries import CHOSEN, KEYS, LEGEND, NO_GPU, NOT_MEASURED, line
from grafana.panels import graph
from grafana.queries import Query


def ratio_graph(title: str, text: str, metric: str) -> s.Builder:
    """Draw a share of each GPU."""
    return graph(title, text, line(metric), unit=s.RATIO, empty=NOT_MEASURED, most=1)


def utilization() -> s.Builder:
    """Draw utilisation."""
    return graph(
        "Utilisation: some kernel ran",
        "Share of time in which at least one kernel ran, from the driver's own samples where it has them. Not "
        "how much of "
        "the GPU was at work: compare with the next panel. Good: high while requests run.",
        Query(q.gpu_busy(CHOSEN, by=KEYS), LEGEND),
        unit=s.RATIO,
        empty=NO_GPU,
        most=1,
    )


def sm_active() -> s.Builder:
    """Draw real activity."""
    return ratio_graph(
        "Real activity: processors with work",
        "Mean share of the streaming multiprocessors that had work (Hopper and later). Good: near the "
        "utilisation; far below "
        "it, batches are too small to fill the GPU.",
        "sm_active_ratio",
    )


def tensor() -> s.Builder:
    """Draw tensor cores."""
    return ratio_graph(
        "Tensor cores at work",
        "Share of time. Good: high while prompts are read; low while answers are written.",
        "tensor_active_ratio",
    )


def bandwidth() -> s.Builder:
    """Draw memory bandwidth."""
    return ratio_graph(
        "Memory bandwidth in use",
        "Share of the memory's bandwidth. Good: near 1 while answers are written; that is the limit.",
        "dram_active_ratio",
    )


def occupancy() -> s.Builder:
    """Draw occupancy."""
    return ratio_graph(
        "Occupancy",
        "Share of the possible warps that were resident. Good: no number of its own; compare versions of an engine.",
        "sm_occupancy_ratio",
    )


def video() -> s.Builder:
    """Draw the video engines."""
    return graph(
        "Video engines",
        "Share of time in which encoder and decoder were at work. Good: 0 on a host of language models.",
        line("encoder_utilization_ratio", f"encoder {LEGEND}"),
        line("decoder_utilization_ratio", f"decoder {LEGEND}"),
        unit=s.RATIO,
        empty=NOT_MEASURED,
        most=1,
    )


def memory_active() -> s.Builder:
    """Draw how often memory was touched."""
    return ratio_graph(
        "Memory touched",
        "Share of time in which memory was read or written at all. Good: it follows the utilisation.",
        "memory_utilization_ratio",
    )


def memory() -> s.Builder:
    """Draw memory in use."""
    return graph(
        "Memory in use",
        "Share of each GPU's memory. Good: high is normal, model servers take it on purpose; steady.",
        Query(q.gpu_memory_ratio(CHOSEN, by=KEYS), LEGEND),
        unit=s.RATIO,
        empty=NO_GPU,
        most=1,
    )


def memory_by_server() -> s.Builder:
    """Draw memory by program."""
    return graph(
        "Memory by model server",
        "What the processes of each configured model server, or else program, hold. Good: only those you know.",
        Query(
            q.total(q.select("modelhost_gpu_process_memory_bytes", CHOSEN), "instance", "process"),
            "{{instance}} {{process}}",
        ),
        unit=s.BYTES,
        empty="No GPU detected, or the system does not say who holds its memory",
        stacked=True,
    )


def memory_states() -> s.Builder:
    """Draw free and reserved memory."""
    kinds = ("used", "free", "reserved", "total")
    return graph(
        "Memory of all chosen GPUs",
        "Used, free, kept by driver and firmware, and in all. Good: what the next model needs is free.",
        *(Query(q.total(q.select(f"modelhost_gpu_memory_{kind}_bytes", CHOSEN)), kind) for kind in kinds),
        unit=s.BYTES,
        empty=NO_GPU,
    )
