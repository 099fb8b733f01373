"""The Host dashboard: CPU, memory, disks, file systems, network, sensors."""

from __future__ import annotations

from grafana import alerts, energy, host_table
from grafana import queries as q
from grafana import style as s
from grafana.board import Board, Variable, row
from grafana.host_devices import disks, filesystems, more_of_disks, more_of_network, network, raid, sensors
from grafana.host_hardware import cpu_power, drives, fabric, memory_errors
from grafana.host_memory import more_of_memory
from grafana.panels import FEWER, graph, states
from grafana.queries import Query

DISK = Variable("disk", "Disk", q.values_of("device", "modelhost_disk_read_bytes_total"))
DEVICE = Variable("device", "Network device", q.values_of("device", "modelhost_network_receive_bytes_total"))


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "modelhost-host",
        "Model host / Host",
        "CPU, memory, disks, file systems, network and sensors of the machine.",
        (
            row("Now", alerts.lane(), host_table.at_a_glance()),
            row("CPU and pressure", modes(), cores(), pressure()),
            row("Memory", memory(), swap(), paging()),
            row("Disks", *disks()),
            row("File systems", *filesystems()),
            row("Network", *network()),
            row("More about CPU and pressure", load(), stalls(), switches(), collapsed=True),
            row("More about memory", *more_of_memory(), collapsed=True),
            row("More about disks", *more_of_disks(), raid().span(24), collapsed=True),
            row("More about the network", *more_of_network(), collapsed=True),
            row("InfiniBand and RoCE", *fabric(), collapsed=True),
            row("Sensors", *sensors(), collapsed=True),
            row("Hardware", memory_errors().span(24), drives(), collapsed=True),
            row("Energy and cost", cpu_power(), *energy.of_hosts(), collapsed=True),
            row(
                "Processes, files and clock",
                processes(),
                files(),
                clock_offset(),
                clock_states(),
                *units(),
                collapsed=True,
            ),
            row("Container limits", container(), collapsed=True),
            row("Operating systems", host_table.systems(), collapsed=True),
        ),
        (DISK, DEVICE),
    )


def modes() -> s.Builder:
    """Draw CPU time by mode."""
    return graph(
        "CPU by mode",
        "CPUs in use, by mode. Good: mostly user; high system or softirq is overhead, steal is used by other "
        "virtual machines, iowait is idle time with a disk request outstanding.",
        Query(q.total(q.rate("modelhost_cpu_seconds_total", 'mode!="idle"'), "mode"), "{{mode}}"),
        unit=s.COUNT,
        stacked=True,
    ).max_data_points(FEWER)


def cores() -> s.Builder:
    """Draw each core."""
    return graph(
        "CPU per core",
        "Share of time in which each core was in use. Good: similar; one at 100 % is a single-threaded program.",
        Query(q.core_busy(), "{{instance}} {{cpu}}"),
        unit=s.RATIO,
        max_=1,
    ).max_data_points(FEWER)


def load() -> s.Builder:
    """Draw the load beside the cores."""
    return graph(
        "Load against cores",
        "Tasks that ran or waited, over 1, 5 and 15 minutes. Good: below the number of cores.",
        *(
            Query(q.total(q.select(f"modelhost_load{minutes}"), "instance"), f"{minutes} min {{{{instance}}}}")
            for minutes in (1, 5, 15)
        ),
        Query(q.total(q.select("modelhost_cpu_logical_cores"), "instance"), "cores {{instance}}"),
        unit=s.COUNT,
    )


def pressure() -> s.Builder:
    """Draw pressure stall information."""
    return _pressure("Pressure: some tasks wait", "waiting", "at least one task waited", "below 10 %")


def stalls() -> s.Builder:
    """Draw full stalls."""
    return _pressure(
        "Pressure: all tasks wait",
        "stalled",
        "every task that could run waited at once",
        "0; above 10 % the machine is very slow",
    )


def _pressure(title: str, kind: str, text: str, good: str) -> s.Builder:
    return graph(
        title,
        f"Share of time in which {text} for CPU, memory or disk. Good: {good}.",
        Query(
            q.share(q.highest(q.rate(f"modelhost_pressure_{kind}_seconds_total"), "instance", "resource")),
            "{{instance}} {{resource}}",
        ),
        unit=s.RATIO,
        empty="Not reported by the kernel",
    )


def switches() -> s.Builder:
    """Draw context switches and interrupts."""
    return graph(
        "Context switches and interrupts",
        "Per second. Good: steady; a jump without more requests is overhead.",
        Query(q.total(q.rate("modelhost_context_switches_total"), "instance"), "switches {{instance}}"),
        Query(q.total(q.rate("modelhost_interrupts_total"), "instance"), "interrupts {{instance}}"),
        unit=s.OPERATIONS,
    )


def memory() -> s.Builder:
    """Draw what memory is used for."""
    used, available, free = (
        q.total(q.select(f"modelhost_memory_{part}_bytes")) for part in ("used", "available", "free")
    )
    return graph(
        "Memory",
        "Memory by use. Good: some is free or cache; the kernel frees caches when programs need memory.",
        Query(used, "used"),
        Query(f"clamp_min({available} - {free}, 0)", "cache"),
        Query(free, "free"),
        unit=s.BYTES,
        stacked=True,
    )


def swap() -> s.Builder:
    """Draw swap."""
    return graph(
        "Swap",
        "Swap space in use and free. Good: little in use; a swapped-out model is slow.",
        *(Query(q.total(q.select(f"modelhost_swap_{part}_bytes")), part) for part in ("used", "free", "total")),
        unit=s.BYTES,
        empty="No swap space",
    )


def paging() -> s.Builder:
    """Draw paging."""
    return graph(
        "Swapping and paging",
        "Bytes swapped in and out, and page faults that had to read from disk, per second. Good: 0 while a model "
        "is loaded.",
        Query(q.total(q.rate("modelhost_swap_in_bytes_total"), "instance"), "in {{instance}}"),
        Query(q.total(q.rate("modelhost_swap_out_bytes_total"), "instance"), "out {{instance}}"),
        Query(q.total(q.rate("modelhost_major_page_faults_total"), "instance"), "major faults {{instance}}"),
        unit=s.BYTES_PER_SECOND,
    ).override_by_regexp("major.*", s.unit_of(s.OPERATIONS))


def container() -> s.Builder:
    """Draw the exporter's container."""
    used, limit = (q.total(q.select(f"modelhost_cgroup_memory_{what}_bytes"), "instance") for what in ("used", "limit"))
    throttled = q.total(q.rate("modelhost_cgroup_cpu_throttled_seconds_total"), "instance")
    cpus = q.total(q.select("modelhost_cgroup_cpu_limit_cores"), "instance")
    return graph(
        "Container limits",
        "Share of the container's memory limit in use, and throttled CPU time per core of its CPU limit. Good: "
        "below 90 %, and 0.",
        Query(q.ratio(used, limit), "memory {{instance}}"),
        Query(q.share(q.ratio(throttled, cpus)), "throttled per core {{instance}}"),
        unit=s.RATIO,
        empty="Not in a container with limits",
    )


def processes() -> s.Builder:
    """Draw tasks that run or are blocked."""
    return graph(
        "Tasks",
        "Tasks that run or wait for a CPU, and tasks that wait for a disk. Good: few blocked.",
        *(
            Query(q.total(q.select(f"modelhost_procs_{state}"), "instance"), f"{{{{instance}}}} {state}")
            for state in ("running", "blocked")
        ),
        unit=s.COUNT,
    ).span(6)


def files() -> s.Builder:
    """Draw open files."""
    allocated, maximum = (q.select(f"modelhost_file_descriptors_{what}") for what in ("allocated", "maximum"))
    return (
        graph(
            "Open files",
            "File handles in use, and their share of what the kernel allows. Good: steady; continuous growth is a "
            "leak. Most current kernels have no limit in practice; the share is then 0.",
            Query(q.highest(allocated, "instance"), "{{instance}}"),
            Query(q.highest(q.ratio(allocated, maximum), "instance"), "share {{instance}}"),
            unit=s.COUNT,
        )
        .override_by_regexp("share.*", s.unit_of(s.RATIO))
        .span(6)
    )


def units() -> tuple[s.Builder, ...]:
    """Draw units of systemd."""
    none = "The collector systemd is not enabled, or has no unit"
    return (
        states(
            "Units",
            "Whether each unit of systemd is active. Good: active; others have failed, start or are stopped.",
            Query(
                q.highest(q.select("modelhost_systemd_unit_state", 'state="active"'), "instance", "name"),
                "{{instance}} {{name}}",
            ),
            texts={0: ("not active", s.RED), 1: ("active", s.GREEN)},
            empty=none,
        ).span(12),
        graph(
            "Restarts of services",
            "Times that systemd restarted a service by itself, per second. Good: 0; each is a crash.",
            Query(
                q.total(q.rate("modelhost_systemd_service_restart_total"), "instance", "name"), "{{instance}} {{name}}"
            ),
            unit=s.OPERATIONS,
            empty=none,
        ).span(12),
    )


def clock_offset() -> s.Builder:
    """Draw the clock's offset."""
    return graph(
        "Clock",
        "Clock offset that the time daemon last reported to the kernel, and the bound on the error. Good: below 50 ms.",
        Query(q.highest(q.select("modelhost_clock_offset_seconds"), "instance"), "offset {{instance}}"),
        Query(q.highest(q.select("modelhost_clock_maximum_error_seconds"), "instance"), "error bound {{instance}}"),
        unit=s.SECONDS,
        min_=None,
    ).span(6)


def clock_states() -> s.Builder:
    """Show whether the clock is synchronised."""
    return states(
        "Clock synchronised",
        "Whether a time daemon synchronises the clock. Good: yes; otherwise timestamps of hosts are not comparable.",
        Query(q.highest(q.select("modelhost_clock_synchronized"), "instance"), "{{instance}}"),
        texts={0: ("no", s.RED), 1: ("yes", s.GREEN)},
    ).span(6)
