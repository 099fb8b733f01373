"""The tables of the Host dashboard: how each host is, and what it is."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.panels import SMOOTH, Column, listing
from grafana.queries import Query, now

KEYS = ("instance",)
_LOAD = ((None, s.GREEN), (1, s.AMBER), (2, s.RED))
_STALLED = ((None, s.GREEN), (0.02, s.AMBER), (0.1, s.RED))


def at_a_glance() -> s.Builder:
    """Show how each host is, and what it is short of."""
    this = s.host("Only this host", "modelhost-host")
    return (
        listing(
            "Hosts",
            "A row per host, those that are down first; click one to see it alone. Load: tasks that run or wait, per "
            "core. Stalled: share of time in which no task could go on for lack of CPU, memory or disk. Space: of the "
            "fullest file system that can be written to. Disk: time with a request in flight, of the busiest. OOM "
            "kills: in the time range; it may have been a model server. Good: all green.",
            Column("State", s.COUNT, now(q.chosen(q.live())), texts={0: ("down", s.RED), 1: ("up", s.GREEN)}),
            Column("CPU", s.RATIO, now(q.cpu_busy()), s.BUSY, full=1),
            Column("Load", s.COUNT, now(_load()), _LOAD),
            Column("Memory", s.RATIO, now(q.highest(q.memory_used_ratio(), *KEYS)), s.FULL, full=1),
            Column("Stalled", s.RATIO, now(_stalled()), _STALLED),
            Column("Space", s.RATIO, now(_fullest()), s.FULL, full=1),
            Column("Disk", s.RATIO, now(_busiest_disk()), s.BUSY, full=1),
            Column("Received", s.BYTES_PER_SECOND, _traffic("receive"), least=85),
            Column("Sent", s.BYTES_PER_SECOND, _traffic("transmit"), least=85),
            Column("OOM kills", s.COUNT, now(_killed()), s.ANY_IS_BAD, least=85),
            Column("RAM", s.BYTES, _sum("memory_total_bytes"), least=85),
            Column("Uptime", "dtdurations", now(_uptime()), least=105),
            labels=KEYS,
            links={"instance": this},
            first="State",
            lowest=True,
        )
        .interval(SMOOTH)
        .height(4)
    )


def _sum(metric: str) -> Query:
    return now(q.total(q.select(f"modelhost_{metric}"), *KEYS))


def _load() -> str:
    return q.highest(q.ratio(q.select("modelhost_load1"), q.select("modelhost_cpu_logical_cores")), *KEYS)


def _stalled() -> str:
    return q.share(q.highest(q.rate("modelhost_pressure_stalled_seconds_total"), *KEYS))


def _fullest() -> str:
    size, free = (q.select(f"modelhost_filesystem_{what}_bytes") for what in ("size", "available"))
    writable = f"1 - {q.ratio(free, f'({size} > 0)')} unless {q.select('modelhost_filesystem_readonly')} == 1"
    return q.highest(writable, *KEYS)


def _busiest_disk() -> str:
    return q.share(q.highest(q.rate("modelhost_disk_io_time_seconds_total"), *KEYS))


def _traffic(way: str) -> Query:
    return now(q.total(q.rate(f"modelhost_host_network_{way}_bytes_total"), *KEYS))


def _killed() -> str:
    return f"ceil({q.total(q.increase('modelhost_oom_kills_total', window=q.RANGE), *KEYS)})"


def _uptime() -> str:
    return q.over("min", f"{q.select('modelhost_time_seconds')} - {q.select('modelhost_boot_time_seconds')}", *KEYS)


def systems() -> s.Builder:
    """List the operating systems."""
    labels = (*KEYS, "system", "release", "machine")
    info = q.total(q.select("modelhost_os_info"), *labels)
    cores = q.total(q.select("modelhost_cpu_physical_cores"), *KEYS)
    return listing(
        "Operating systems",
        "Operating system, release and architecture of each host. Good: the same release on similar machines.",
        Column("Physical cores", s.COUNT, now(q.labelled(cores, info, *KEYS)), least=120),
        Column("Logical", s.COUNT, _sum("cpu_logical_cores")),
        labels=labels,
    ).height(6)
