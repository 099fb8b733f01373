"""Panels of the Host dashboard about disks, file systems, network interfaces and sensors."""

from __future__ import annotations

from grafana import queries as q
from grafana import style as s
from grafana.panels import Column, graph, listing, states
from grafana.queries import Query, now

DISK, DEVICE = 'device=~"$disk"', 'device=~"$device"'
DISK_KEYS = ("instance", "device")
NO_DISK = "No disk detected"
_YEAR = 365 * 24 * 3600
SOON = ((None, s.RED), (4 * 3600, s.AMBER), (24 * 3600, s.GREEN))
OLD = ((None, s.GREEN), (180, s.AMBER), (600, s.RED))


def disks() -> tuple[s.Builder, ...]:
    """Draw throughput, latency and utilisation of disks."""
    return (
        _both(
            "Disk throughput",
            "Bytes per second. Good: models load near the disk's rated speed.",
            "read_bytes",
            "written_bytes",
            s.BYTES_PER_SECOND,
        ),
        graph(
            "Disk latency",
            "Mean time of a read and of a write. Good: below 1 ms for NVMe, below 20 ms for a spinning disk.",
            *(_latency(kind, count) for kind, count in (("read", "reads"), ("write", "writes"))),
            unit=s.SECONDS,
            empty=NO_DISK,
        ),
        graph(
            "Disk utilisation",
            "Share of time with a request in flight. Good: below 80 %; an SSD at 100 % may still accept more "
            "requests: see the queue.",
            Query(
                q.share(q.total(q.rate("modelhost_disk_io_time_seconds_total", DISK), *DISK_KEYS)),
                "{{instance}} {{device}}",
            ),
            unit=s.RATIO,
            empty=NO_DISK,
        ),
    )


def more_of_disks() -> tuple[s.Builder, ...]:
    """Draw operations and queues of disks."""
    return (
        _both(
            "Disk operations",
            "Reads and writes per second. Good: below what the disk is rated for.",
            "reads_completed",
            "writes_completed",
            s.OPERATIONS,
        ),
        graph(
            "Disk queue",
            "Mean number of requests in flight. Good: below 10; a longer queue over time means that the disk is "
            "saturated.",
            Query(
                q.total(q.rate("modelhost_disk_io_time_weighted_seconds_total", DISK), *DISK_KEYS),
                "{{instance}} {{device}}",
            ),
            unit=s.COUNT,
            empty=NO_DISK,
        ),
    )


def raid() -> s.Builder:
    """Show the arrays of software RAID."""
    required, active = (
        q.highest(series, *DISK_KEYS)
        for series in (q.select("modelhost_md_disks_required"), q.select("modelhost_md_disks", 'state="active"'))
    )
    return listing(
        "Software RAID",
        "Disks that are missing, failed and spare, the part of a synchronisation or check that is done, and whether "
        "the array is stopped. Good: none missing.",
        Column("Missing", s.COUNT, now(f"{required} - {active}"), s.ANY_IS_BAD),
        *(
            Column(
                state.capitalize(),
                s.COUNT,
                now(q.highest(q.select("modelhost_md_disks", f'state="{state}"'), *DISK_KEYS)),
            )
            for state in ("failed", "spare")
        ),
        Column("Synchronised", s.RATIO, now(q.highest(q.select("modelhost_md_sync_completed_ratio"), *DISK_KEYS))),
        Column(
            "Stopped",
            s.YES_NO,
            now(q.highest(q.select("modelhost_md_state", 'state="inactive"'), *DISK_KEYS)),
            s.ANY_IS_BAD,
        ),
        labels=DISK_KEYS,
    )


def _both(title: str, text: str, read: str, written: str, unit: str) -> s.Builder:
    return graph(
        title,
        f"{text} Writes are drawn below zero.",
        Query(q.total(q.rate(f"modelhost_disk_{read}_total", DISK), *DISK_KEYS), "read {{instance}} {{device}}"),
        Query(q.total(q.rate(f"modelhost_disk_{written}_total", DISK), *DISK_KEYS), "write {{instance}} {{device}}"),
        unit=unit,
        empty=NO_DISK,
        min_=None,
    ).override_by_regexp("write.*", s.below_zero())


def _latency(kind: str, count: str) -> Query:
    seconds = q.total(q.rate(f"modelhost_disk_{kind}_time_seconds_total", DISK), *DISK_KEYS)
    operations = q.total(q.rate(f"modelhost_disk_{count}_completed_total", DISK), *DISK_KEYS)
    return Query(q.ratio(seconds, f"({operations} > 0)"), f"{kind} {{{{instance}}}} {{{{device}}}}")


def filesystems() -> tuple[s.Builder, ...]:
    """Show space, and the time until it is full."""
    keys = ("instance", "mountpoint")
    size, available = (
        q.highest(q.select(f"modelhost_filesystem_{what}_bytes"), *keys) for what in ("size", "available")
    )
    free = q.highest(q.select("modelhost_filesystem_free_bytes"), *keys)
    updated = q.select("modelhost_filesystem_updated_timestamp_seconds")
    return (
        graph(
            "Space in use",
            "Used share of each file system. Good: below 80 %; a model download fails when space runs out.",
            Query(f"1 - {q.ratio(available, f'({size} > 0)')}", "{{instance}} {{mountpoint}}"),
            unit=s.RATIO,
            max_=1,
            steps=s.FULL,
        ),
        listing(
            "Space",
            "Size, space available to users and free for root, used inodes, and whether the file system is read-only. "
            "Full in: time until it is full at the rate of the last 6 hours (empty: more than a year). Age: time since "
            "the last reading; a slow file system keeps its last values. Good: green, and full in days.",
            Column("Size", s.BYTES, now(size)),
            Column("Available", s.BYTES, now(available), least=90),
            Column("Free", s.BYTES, now(free)),
            Column("Inodes", s.RATIO, now(_inodes_used(keys)), s.FULL),
            Column("Full in", "dtdurations", now(until_full(available, keys)), SOON, least=100),
            Column("Read-only", s.YES_NO, now(q.highest(q.select("modelhost_filesystem_readonly"), *keys)), least=90),
            Column(
                "Broken", s.YES_NO, now(q.highest(q.select("modelhost_filesystem_device_error"), *keys)), s.ANY_IS_BAD
            ),
            Column("Age", s.SECONDS, now(f"time() - {q.over('min', updated, *keys)}"), OLD),
            labels=("instance", "mountpoint"),
        )
        .span(16)
        .height(8),
    )


def _inodes_used(keys: tuple[str, ...]) -> str:
    files, free = (q.highest(q.select(f"modelhost_filesystem_files{end}"), *keys) for end in ("", "_free"))
    return f"1 - {q.ratio(free, f'({files} > 0)')}"


def until_full(available: str, keys: tuple[str, ...]) -> str:
    """Return seconds until the space is full at the rate of the last 6 hours, where that is within a year."""
    pace = q.over("min", f"deriv({q.select('modelhost_filesystem_available_bytes')}[6h:5m])", *keys)
    return f"{q.ratio(available, f'-({pace} < 0)')} < {_YEAR}"


def network() -> tuple[s.Builder, ...]:
    """Draw traffic and errors."""
    traffic = _directions(
        "Network traffic", "Bytes per second. Good: well below the link speed.", "bytes", s.BYTES_PER_SECOND
    )
    return (
        traffic,
        _directions(
            "Network errors",
            "Packets with errors per second. Good: 0; a cable or a card is failing.",
            "errors",
            s.PACKETS,
        ),
        _directions("Dropped packets", "Packets the kernel dropped per second. Good: 0.", "dropped", s.PACKETS),
    )


def more_of_network() -> tuple[s.Builder, ...]:
    """Draw packets, links and connections."""
    speed = q.highest(q.select("modelhost_network_speed_bytes", DEVICE), "instance", "device")
    return (
        _directions("Packets", "Packets per second. Good: follows the bytes.", "packets", s.PACKETS).span(6),
        graph(
            "Link use",
            "Traffic of the busier direction, as a share of the link's speed. Good: below 80 %.",
            Query(q.ratio(_busier(), speed), "{{instance}} {{device}}"),
            unit=s.RATIO,
            empty="Link speed not reported by the drivers",
        ).span(6),
        states(
            "Links",
            "Whether each interface is up. Good: up where a cable is connected.",
            Query(q.highest(q.select("modelhost_network_up", DEVICE), "instance", "device"), "{{instance}} {{device}}"),
            texts={0: ("down", s.RED), 1: ("up", s.GREEN)},
        ).span(6),
        graph(
            "TCP connections",
            "By state. Good: steady; many in time_wait mean that clients open a connection for each request.",
            Query(q.total(q.select("modelhost_tcp_connections"), "instance", "state"), "{{instance}} {{state}}"),
            unit=s.COUNT,
        ).span(6),
        _protocol_faults().span(12),
        _sockets().span(12),
        _tracked().span(12),
        _not_tracked().span(12),
        _received().span(12),
        _bonds().span(12),
    )


_FAULTS = {
    "tcp_retransmitted_segments": "retransmitted",
    "tcp_out_resets": "resets sent",
    "tcp_established_resets": "connections reset",
    "tcp_in_errors": "TCP errors",
    "tcp_listen_overflows": "listen overflows",
    "tcp_listen_drops": "listen drops",
    "udp_in_errors": "UDP errors",
    "udp_receive_buffer_errors": "UDP receive buffer full",
    "udp_send_buffer_errors": "UDP send buffer full",
    "udp_no_ports": "UDP without a port",
}


def _protocol_faults() -> s.Builder:
    return graph(
        "Faults of TCP and UDP",
        "Segments sent again, resets, connections and datagrams dropped, per second. Good: no listen drops (a program "
        "accepts too slowly) and few segments sent again.",
        *(
            Query(q.total(q.rate(f"modelhost_netstat_{name}_total"), "instance"), f"{text} {{{{instance}}}}")
            for name, text in _FAULTS.items()
        ),
        unit=s.PACKETS,
    )


def _sockets() -> s.Builder:
    counts = {
        "sockets_used": "all",
        "tcp_inuse": "TCP",
        "tcp_alloc": "TCP allocated",
        "tcp_orphan": "TCP orphans",
        "udp_inuse": "UDP",
    }
    memory = {"tcp_memory_bytes": "TCP memory", "udp_memory_bytes": "UDP memory"}
    return graph(
        "Sockets",
        "Sockets in use, and the memory of their buffers. Good: steady; many orphans are connections that their "
        "programs left.",
        *(
            Query(q.total(q.select(f"modelhost_sockstat_{name}"), "instance"), f"{text} {{{{instance}}}}")
            for name, text in {**counts, **memory}.items()
        ),
        unit=s.COUNT,
    ).override_by_regexp(".* memory .*", s.unit_of(s.BYTES))


def _tracked() -> s.Builder:
    entries, limit = (q.total(q.select(f"modelhost_nf_conntrack_entries{end}"), "instance") for end in ("", "_limit"))
    return graph(
        "Tracked connections",
        "Connections that the firewall tracks, as a share of its limit. Good: below 75 %; at 100 % new connections are "
        "dropped.",
        Query(q.ratio(entries, limit), "{{instance}}"),
        unit=s.RATIO,
        empty="The firewall tracks no connections",
    )


def _not_tracked() -> s.Builder:
    faults = {
        "drop": "dropped",
        "early_drop": "given up early",
        "insert_failed": "not entered",
        "invalid": "invalid",
    }
    return graph(
        "Connections not tracked",
        "Packets and connections for which the firewall's table had no room, and invalid packets, per second. Good: 0, "
        "but for a few that are invalid.",
        *(
            Query(q.total(q.rate(f"modelhost_nf_conntrack_stat_{name}_total"), "instance"), f"{text} {{{{instance}}}}")
            for name, text in faults.items()
        ),
        unit=s.PACKETS,
        empty="The firewall tracks no connections",
    )


def _received() -> s.Builder:
    cpus = "instance", "cpu"
    return graph(
        "Receiving CPUs",
        "Packets that each CPU took from network cards, and times that it had no time for more, per second. Good: "
        "spread over CPUs; dropped 0.",
        *(
            Query(q.total(q.rate(f"modelhost_softnet_{name}_total"), *cpus), f"{text} {{{{instance}}}} {{{{cpu}}}}")
            for name, text in (("processed", "packets"), ("dropped", "dropped"), ("times_squeezed", "squeezed"))
        ),
        unit=s.PACKETS,
    )


def _bonds() -> s.Builder:
    slaves, active = (
        q.highest(q.select(f"modelhost_bonding_{what}"), "instance", "master") for what in ("slaves", "active")
    )
    return graph(
        "Bonds",
        "Interfaces of each bond that are up, and those that it has. Good: all are up.",
        Query(active, "up {{instance}} {{master}}"),
        Query(slaves, "all {{instance}} {{master}}"),
        unit=s.COUNT,
        empty="No bond of interfaces",
    )


def _directions(title: str, text: str, what: str, unit: str) -> s.Builder:
    received, sent = (
        q.total(q.rate(f"modelhost_network_{way}_{what}_total", DEVICE), "instance", "device")
        for way in ("receive", "transmit")
    )
    return graph(
        title,
        f"{text} Sent traffic is drawn below zero.",
        Query(received, "in {{instance}} {{device}}"),
        Query(sent, "out {{instance}} {{device}}"),
        unit=unit,
        min_=None,
    ).override_by_regexp("out.*", s.below_zero())


def _busier() -> str:
    received, sent = (
        q.total(q.rate(f"modelhost_network_{way}_bytes_total", DEVICE), "instance", "device")
        for way in ("receive", "transmit")
    )
    return f"({received} > {sent} or {sent})"


def sensors() -> tuple[s.Builder, ...]:
    """Draw temperatures, fans and clocks."""
    keys = ("instance", "chip", "sensor")
    return (
        graph(
            "Temperatures",
            "Each sensor. Good: below 80 °C; CPUs slow down from about 95 °C on.",
            Query(
                q.highest(q.select("modelhost_sensor_temperature_celsius"), *keys), "{{instance}} {{chip}} {{sensor}}"
            ),
            unit=s.CELSIUS,
            empty="No sensors",
        ),
        graph(
            "Fans",
            "Revolutions per minute. Good: follows the temperature; 0 on a hot machine means a failed fan.",
            Query(q.highest(q.select("modelhost_sensor_fan_rpm"), *keys), "{{instance}} {{chip}} {{sensor}}"),
            unit=s.TURNS,
            empty="No fans detected",
        ),
        graph(
            "CPU clocks",
            "Clock of the fastest, the mean and the slowest core. Good: near the rated clock under load.",
            *(
                Query(
                    q.over(operator, q.select("modelhost_cpu_frequency_hertz"), "instance"),
                    f"{operator} {{{{instance}}}}",
                )
                for operator in ("max", "avg", "min")
            ),
            unit=s.HERTZ,
            empty="Not reported by the machine",
        ),
    )
