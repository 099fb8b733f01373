"""Panels of the GPU dashboard about throttling, links and errors."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.gpu_queries import CHOSEN, KEYS, LEGEND, NOT_MEASURED
from grafana.panels import Column, graph, listing, states
from grafana.queries import Query, now

ACTIONS = {
    0: ("none", s.GREEN),
    1: ("reset the GPU", s.RED),
    2: ("reboot", s.RED),
    3: ("drain peers", s.AMBER),
    4: ("drain and reset", s.RED),
    5: ("recover IMEX", s.RED),
    6: ("reset the bus", s.RED),
    7: ("reboot system", s.RED),
}


def throttled() -> s.Builder:
    """Draw the share of time throttled."""
    seconds = q.highest(q.rate("modelhost_gpu_throttled_seconds_total", CHOSEN), *KEYS, "reason")
    return graph(
        "Time throttled",
        "Share of time by reason, from the driver's counters, which include short events. Good: 0, except for "
        "the power limit.",
        Query(q.share(seconds), f"{LEGEND} {{{{reason}}}}"),
        unit=s.RATIO,
        empty=NOT_MEASURED,
    )


def more() -> tuple[s.Builder, ...]:
    """Draw throttling by reason, and performance states."""
    reasons = q.highest(q.select("modelhost_gpu_throttled", CHOSEN), "reason")
    state = q.highest(q.select("modelhost_gpu_performance_state", CHOSEN), *KEYS)
    return (
        states(
            "Throttle reasons",
            "Reasons why the clocks of any selected GPU are reduced. Good: none; a power limit under full load is "
            "normal, hardware reasons are not.",
            Query(reasons, "{{reason}}"),
            texts={0: ("no", s.GREEN), 1: ("throttled", s.RED)},
            empty=NOT_MEASURED,
        ).span(16),
        graph(
            "Performance state",
            "0 is the fastest, 15 the slowest. Good: 0 to 2 while requests run.",
            Query(state, LEGEND),
            unit=s.COUNT,
            empty=NOT_MEASURED,
        ),
    )


def links() -> tuple[s.Builder, ...]:
    """Draw the state of the links: PCIe and NVLink."""
    width, generation = (
        q.ratio(
            q.highest(q.select(f"modelhost_gpu_pcie_link_{what}", CHOSEN), *KEYS),
            q.highest(q.select(f"modelhost_gpu_pcie_link_{what}_max", CHOSEN), *KEYS),
        )
        for what in ("width", "generation")
    )
    return (
        graph(
            "PCIe link",
            "Lanes and generation, as shares of what GPU and slot support. Good: 1; an idle GPU lowers the "
            "generation, fewer lanes under load mean a bad contact.",
            Query(width, f"lanes {LEGEND}"),
            Query(generation, f"generation {LEGEND}"),
            unit=s.RATIO,
            empty=NOT_MEASURED,
        ),
        graph(
            "PCIe replays",
            "Packets sent again per second. Good: 0; a steady rate means a bad connection.",
            Query(q.total(q.rate("modelhost_gpu_pcie_replays_total", CHOSEN), *KEYS), LEGEND),
            unit=s.PACKETS,
            empty=NOT_MEASURED,
        ),
        graph(
            "NVLinks",
            "Number of links that are up. Good: constant; a GPU with fewer than its neighbours has lost some.",
            Query(q.total(q.select("modelhost_gpu_nvlink_up", CHOSEN), *KEYS), LEGEND),
            unit=s.COUNT,
            empty="No NVLinks",
        ),
    )


def ecc() -> s.Builder:
    """Draw memory errors."""
    found = q.total(q.increase("modelhost_gpu_ecc_errors_total", CHOSEN), *KEYS, "type")
    return graph(
        "Memory errors",
        "New ECC errors by type. Good: 0; occasional corrected errors are harmless, uncorrected ones are not.",
        Query(found, f"{LEGEND} {{{{type}}}}"),
        unit=s.COUNT,
        empty=NOT_MEASURED,
    )


def recovery() -> s.Builder:
    """Draw the action that the driver requests."""
    return states(
        "Recovery action",
        "Action that the driver requests. Good: none.",
        Query(q.highest(q.select("modelhost_gpu_recovery_action", CHOSEN), *KEYS), LEGEND),
        texts=ACTIONS,
        empty=NOT_MEASURED,
    ).span(8)


def memory_health() -> s.Builder:
    """List the health of the memory."""
    rows = {
        name: q.highest(q.select("modelhost_gpu_remapped_rows_total", CHOSEN, f'type="{name}"'), *KEYS)
        for name in ("corrected", "uncorrected")
    }
    rows |= {
        name: q.highest(q.select(f"modelhost_gpu_row_remap_{name}", CHOSEN), *KEYS) for name in ("pending", "failed")
    }
    retired = q.total(q.select("modelhost_gpu_retired_pages", CHOSEN), *KEYS)
    pending = q.highest(q.select("modelhost_gpu_retired_pages_pending", CHOSEN), *KEYS)
    return (
        listing(
            "Memory repairs",
            "Memory rows and pages retired after errors, and repairs pending until a reset. Good: 0 pending, no "
            "failure; replace a card whose remapping failed.",
            Column("ECC", s.YES_NO, now(q.highest(q.select("modelhost_gpu_ecc_enabled", CHOSEN), *KEYS))),
            Column("Rows, corrected", s.COUNT, now(rows["corrected"])),
            Column("Rows, uncorrected", s.COUNT, now(rows["uncorrected"]), s.ANY_IS_BAD),
            Column("Rows pending", s.COUNT, now(rows["pending"]), s.ANY_IS_BAD),
            Column("Remapping failed", s.YES_NO, now(rows["failed"]), s.ANY_IS_BAD),
            Column("Pages retired", s.COUNT, now(retired)),
            Column("Pages pending", s.COUNT, now(pending), s.ANY_IS_BAD),
            labels=KEYS,
            empty=NOT_MEASURED,
        )
        .span(16)
        .height(8)
    )


def xids() -> s.Builder:
    """List the XIDs reported so far."""
    keys = (*KEYS, "xid")
    since = f"time() - {q.highest(q.select('modelhost_gpu_xid_last_timestamp_seconds', CHOSEN), *keys)}"
    return (
        listing(
            "XID errors",
            "Errors that the driver reported since the exporter started, by code. Good: none; 13, 31 and 43 are "
            "usually faults of a program.",
            Column("Times", s.COUNT, now(q.total(q.select("modelhost_gpu_xid_errors_total", CHOSEN), *keys))),
            Column("Ago", "dtdurations", now(since), least=105),
            labels=keys,
            empty="No XID errors",
            first="Ago",
            lowest=True,
        )
        .span(8)
        .height(8)
    )
