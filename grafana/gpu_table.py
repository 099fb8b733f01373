"""The tables of the GPU dashboard: how each GPU is, and what it is."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.gpu_health import ACTIONS
from grafana.gpu_queries import CHOSEN, KEYS, gauge, margin, power_share
from grafana.panels import NO_GPU, SMOOTH, Column, heading, listing
from grafana.queries import Query, now

_DOWN = -max(ACTIONS) - 1
STATES = {**{-action: text for action, text in ACTIONS.items()}, 0: ("ok", s.GREEN), _DOWN: ("down", s.RED)}
"""What is wrong with a GPU: the action that the driver requests, or worse; faults have the lowest numbers."""
_REASONS = {"hw_.*": 4, "sw_thermal": 3, "sw_power_cap": 2}
THROTTLED = {
    0: ("no", s.GREEN),
    1: ("by a setting", s.BLUE),
    2: ("power limit", s.BLUE),
    3: ("heat", s.AMBER),
    4: ("hardware", s.RED),
}
"""Why the clocks of a GPU are reduced; one at its power limit works as hard as it may."""
NEAR = ((None, s.RED), (1, s.AMBER), (10, s.GREEN))
"""Degrees until the slowdown."""


def at_a_glance() -> s.Builder:
    """Show how each GPU is."""
    this = s.host("Only this GPU", "modelhost-gpu", gpu=s.field(heading("gpu")))
    return (
        listing(
            "GPUs",
            "A row per GPU, those with faults first; click one to see it alone. Process: what holds most "
            "of its memory, a model server or others. Margin: degrees until a sensor reaches its limit. Throttled: "
            "why the clocks are reduced; the power limit is normal under full load. Errors: uncorrected memory errors "
            "and XID errors in the time range. Good: all green.",
            Column("State", s.COUNT, now(q.chosen(_state())), texts=STATES, least=115),
            Column("Utilisation", s.RATIO, now(q.gpu_busy(CHOSEN, by=KEYS)), full=1),
            Column("Memory", s.RATIO, now(_with_process(q.gpu_memory_ratio(CHOSEN, by=KEYS))), full=1),
            Column("Used", s.BYTES, _now("memory_used_bytes"), least=80),
            Column("Power limit", s.RATIO, now(power_share()), full=1),
            Column("Hottest", s.CELSIUS, _now("temperature_celsius")),
            Column("Margin", s.CELSIUS, now(margin()), NEAR),
            Column("Throttled", s.COUNT, now(_throttled()), texts=THROTTLED, least=95),
            Column("Errors", s.COUNT, now(_errors()), s.ANY_IS_BAD),
            labels=(*KEYS, "name", "process"),
            empty=NO_GPU,
            links={"gpu": this},
            first="State",
            lowest=True,
        )
        .interval(SMOOTH)
        .height(10)
    )


def _now(metric: str) -> Query:
    return now(gauge(metric).expr)


def _info(*labels: str) -> str:
    return q.total(q.select("modelhost_gpu_info", CHOSEN), *KEYS, *labels)


def _short(info: str) -> str:
    """Shorten the names of NVIDIA's cards, which all begin with the vendor's."""
    return f'label_replace({info}, "name", "$1", "name", "NVIDIA (.+)")'


def _state() -> str:
    """Return the number of each GPU's state, with its name, which one that does not respond does not have."""
    up, action = gauge("up").expr, gauge("recovery_action").expr
    state = f"(({up} == 0) + {_DOWN} or 0 - {action} or 0 * {up})"
    return q.labelled_where_known(state, _short(_info("name")), *KEYS)


def _with_process(expr: str) -> str:
    """Give values of each GPU the name of the process that holds most of its memory."""
    keys = q.labels(*KEYS)
    held = q.total(q.select("modelhost_gpu_process_memory_bytes", CHOSEN), *KEYS, "process")
    most = f"topk by ({keys}) (1, {held} > 0)"
    return f"{expr} * on ({keys}) group_left (process) ({most} > bool 0) or on ({keys}) {expr}"


def _throttled() -> str:
    """Return the number of the worst reason for which each GPU is throttled."""
    other = f'reason!~"{"|".join(_REASONS)}"'
    matchers = {f'reason=~"{pattern}"': value for pattern, value in _REASONS.items()} | {other: 1}
    reasons = (f"{value} * {q.select('modelhost_gpu_throttled', CHOSEN, which)}" for which, value in matchers.items())
    return q.highest(" or ".join(reasons), *KEYS)


def _errors() -> str:
    """Return the number of errors in the time range: XIDs by when they were last reported, since they start at 1."""
    since = f"time() - {q.select('modelhost_gpu_xid_last_timestamp_seconds', CHOSEN)} < $__range_s"
    xids = q.over("count", since, *KEYS)
    ecc = q.total(q.increase("modelhost_gpu_ecc_errors_total", CHOSEN, 'type="uncorrected"', window=q.RANGE), *KEYS)
    none = f"0 * {gauge('up').expr}"
    return f"ceil({ecc} or {none}) + ({xids} or {none})"


def cards() -> s.Builder:
    """List the cards and their drivers."""
    labels = ("vendor", "name", "driver_version", "compute_capability", "pci_bus_id", "vbios_version")

    return listing(
        "Cards",
        "GPUs and their drivers. Shared: the GPU uses the host's memory. XIDs: the driver's errors are monitored. "
        "Good: the same driver for all.",
        Column("Memory", s.BYTES, now(q.labelled(gauge("memory_total_bytes").expr, _info(*labels), *KEYS))),
        Column("Shared", s.YES_NO, _now("unified_memory")),
        Column("ECC", s.YES_NO, _now("ecc_enabled")),
        Column("XIDs", s.YES_NO, _now("xid_monitored"), s.ALL_IS_WELL),
        labels=(*KEYS, *labels),
        empty=NO_GPU,
    ).height(10)
