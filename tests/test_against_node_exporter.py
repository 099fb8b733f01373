from __future__ import annotations

import resource
import urllib.error
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.programs import Exporter, Program, fetch, free_port, installed, running, wait_until
from tests.support.readings import Page

if TYPE_CHECKING:
    from collections.abc import Iterator

Series = dict[tuple[str, ...], float]

MOUNT = ("device", "mountpoint", "fstype")

CONFIG = """
collectors:
  network:
    devices: {include: ".*"}
  filesystem:
    mountpoints: {include: ".*"}
    fstypes: {include: ".*"}
"""
THEIR_FLAGS = (  # measure everything; what is compared is what both have
    "--collector.netdev.device-exclude=^$",
    "--collector.diskstats.device-exclude=^$",
    "--collector.filesystem.mount-points-exclude=^$",
    "--collector.filesystem.fs-types-exclude=^$",
)


class Pages(NamedTuple):
    """Three pages in the order of their scrapes: ours, node_exporter's, ours again."""

    before: Page
    theirs: Page
    after: Page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Scrape the real exporter, the real node_exporter and the real exporter again, back to back."""
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(CONFIG)
    port = free_port()
    node_exporter = installed("prometheus-node-exporter", "node_exporter")
    with ExitStack() as stack:
        theirs = Program([node_exporter, f"--web.listen-address=127.0.0.1:{port}", *THEIR_FLAGS])
        stack.enter_context(running(theirs))
        ours = Exporter(f"--config.file={file}")
        stack.enter_context(running(ours))
        url = f"http://127.0.0.1:{port}/metrics"
        wait_until(lambda: answers(url) or theirs.process.poll() is not None, "node_exporter answers")
        ours.page()  # what a first scrape alone does (imports, connections) is not between the readings
        yield Pages(*(Page(body.decode()) for body in (ours.page(), fetch(url), ours.page())))


def answers(url: str) -> bool:
    """Return whether a server responds yet."""
    try:
        return bool(fetch(url))
    except urllib.error.URLError:
        return False


def assert_between(before: Series, theirs: Series, after: Series, tolerance: float = 0.0) -> None:
    """Assert that the same series are there, and theirs lie between our two readings, give or take ``tolerance``."""
    assert before.keys() == after.keys()
    assert theirs.keys() == before.keys()
    assert theirs
    for labels, value in theirs.items():
        low, high = sorted((before[labels], after[labels]))
        assert low - tolerance <= value <= high + tolerance, labels


def only(series: Series, wanted: Series) -> Series:
    """Return the series that are wanted."""
    return {labels: value for labels, value in series.items() if labels in wanted}


def same_series(pages: Pages, ours: str, theirs: str, *labels: str, tolerance: float = 0.0) -> None:
    """Compare one of our families with one of theirs that has the same labels."""
    assert_between(
        pages.before.by(ours, *labels), pages.theirs.by(theirs, *labels), pages.after.by(ours, *labels), tolerance
    )


def without_guest(page: Page) -> Series:
    """Return node_exporter's CPU seconds by CPU and mode, guest time taken out of user and nice as in ours."""
    seconds = page.by("node_cpu_seconds_total", "cpu", "mode")
    for (cpu, mode), guest in page.by("node_cpu_guest_seconds_total", "cpu", "mode").items():
        seconds[cpu, mode] -= guest
    return seconds


def our_cpu_seconds(page: Page) -> Series:
    """Return our CPU seconds of the modes that node_exporter has."""
    seconds = page.by("modelhost_cpu_seconds_total", "cpu", "mode")
    return {(cpu, mode): value for (cpu, mode), value in seconds.items() if not mode.startswith("guest")}


def test_cpu_seconds(pages: Pages) -> None:
    """Every CPU's seconds in every mode are node_exporter's, within two of the kernel's ticks."""
    assert_between(
        our_cpu_seconds(pages.before), without_guest(pages.theirs), our_cpu_seconds(pages.after), tolerance=0.02
    )


def test_guest_seconds(pages: Pages) -> None:
    """Guest time, a mode of its own with us, is node_exporter's."""
    guest: Series = {
        (cpu, {"user": "guest", "nice": "guest_nice"}[mode]): value
        for (cpu, mode), value in pages.theirs.by("node_cpu_guest_seconds_total", "cpu", "mode").items()
    }
    before, after = (page.by("modelhost_cpu_seconds_total", "cpu", "mode") for page in (pages.before, pages.after))
    assert_between(only(before, guest), guest, only(after, guest), tolerance=0.02)


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance"),
    [
        ("context_switches_total", "context_switches_total", 0),
        ("interrupts_total", "intr_total", 0),
        ("boot_time_seconds", "boot_time_seconds", 1),
        ("time_seconds", "time_seconds", 0),
        ("load1", "load1", 0.01),
        ("load5", "load5", 0.01),
        ("load15", "load15", 0.01),
        ("memory_total_bytes", "memory_MemTotal_bytes", 0),
        ("memory_available_bytes", "memory_MemAvailable_bytes", 256 * 2**20),
        ("memory_free_bytes", "memory_MemFree_bytes", 256 * 2**20),
        ("memory_buffers_bytes", "memory_Buffers_bytes", 16 * 2**20),
        ("memory_dirty_bytes", "memory_Dirty_bytes", 256 * 2**20),
        ("memory_writeback_bytes", "memory_Writeback_bytes", 256 * 2**20),
        ("memory_anonymous_bytes", "memory_AnonPages_bytes", 256 * 2**20),
        ("memory_shared_bytes", "memory_Shmem_bytes", 64 * 2**20),
        ("memory_mapped_bytes", "memory_Mapped_bytes", 64 * 2**20),
        ("memory_slab_bytes", "memory_Slab_bytes", 64 * 2**20),
        ("memory_slab_unreclaimable_bytes", "memory_SUnreclaim_bytes", 64 * 2**20),
        ("memory_page_tables_bytes", "memory_PageTables_bytes", 16 * 2**20),
        ("memory_committed_bytes", "memory_Committed_AS_bytes", 1024 * 2**20),
        ("memory_commit_limit_bytes", "memory_CommitLimit_bytes", 0),
        ("memory_hugepages", "memory_HugePages_Total", 0),
        ("memory_hugepages_free", "memory_HugePages_Free", 0),
        ("memory_hugepage_size_bytes", "memory_Hugepagesize_bytes", 0),
        ("swap_total_bytes", "memory_SwapTotal_bytes", 0),
        ("swap_free_bytes", "memory_SwapFree_bytes", 16 * 2**20),
        ("major_page_faults_total", "vmstat_pgmajfault", 0),
        ("oom_kills_total", "vmstat_oom_kill", 0),
        ("file_descriptors_allocated", "filefd_allocated", 256),
        ("file_descriptors_maximum", "filefd_maximum", 0),
        ("netstat_tcp_out_segments_total", "netstat_Tcp_OutSegs", 0),
        ("netstat_tcp_retransmitted_segments_total", "netstat_Tcp_RetransSegs", 0),
        ("netstat_tcp_out_resets_total", "netstat_Tcp_OutRsts", 0),
        ("netstat_tcp_in_errors_total", "netstat_Tcp_InErrs", 0),
        ("netstat_tcp_listen_drops_total", "netstat_TcpExt_ListenDrops", 0),
        ("netstat_tcp_listen_overflows_total", "netstat_TcpExt_ListenOverflows", 0),
        ("sockstat_sockets_used", "sockstat_sockets_used", 256),
        ("sockstat_tcp_alloc", "sockstat_TCP_alloc", 256),
        ("nf_conntrack_entries", "nf_conntrack_entries", 256),
        ("nf_conntrack_entries_limit", "nf_conntrack_entries_limit", 0),
        ("clock_maximum_error_seconds", "timex_maxerror_seconds", 0.01),
        ("clock_offset_seconds", "timex_offset_seconds", 0.001),
        ("clock_synchronized", "timex_sync_status", 0),
    ],
)
def test_one_number(pages: Pages, ours: str, theirs: str, tolerance: float) -> None:
    """A number of the whole machine is node_exporter's; one that goes up and down may differ by the stated amount."""
    same_series(pages, f"modelhost_{ours}", f"node_{theirs}", tolerance=tolerance)


@pytest.mark.parametrize("name", ["processed", "dropped", "times_squeezed"])
def test_received_packets(pages: Pages, name: str) -> None:
    """Packets of each CPU are node_exporter's."""
    same_series(pages, f"modelhost_softnet_{name}_total", f"node_softnet_{name}_total", "cpu")


@pytest.mark.parametrize("direction", [("in", "pswpin"), ("out", "pswpout")])
def test_swap_traffic(pages: Pages, direction: tuple[str, str]) -> None:
    """Bytes swapped are node_exporter's pages times this kernel's page size."""
    ours, theirs = direction
    pages_swapped = pages.theirs.one(f"node_vmstat_{theirs}")
    name = f"modelhost_swap_{ours}_bytes_total"
    assert pages.before.one(name) <= pages_swapped * resource.getpagesize() <= pages.after.one(name)


@pytest.mark.parametrize("state", ["running", "blocked"])
def test_processes(pages: Pages, state: str) -> None:
    """Running and blocked tasks are node_exporter's, give or take the programs' own threads and what runs beside."""
    ours = pages.before.one(f"modelhost_procs_{state}")
    assert ours == pytest.approx(pages.theirs.one(f"node_procs_{state}"), abs=32)


def test_tcp_connections(pages: Pages) -> None:
    """Connections are node_exporter's, give or take those of the scrapes and of tests beside this one."""
    ours = pages.before.by("modelhost_tcp_connections", "state")
    assert ours["established",] == pytest.approx(pages.theirs.one("node_netstat_Tcp_CurrEstab"), abs=32)
    assert ours["time_wait",] == pytest.approx(pages.theirs.one("node_sockstat_TCP_tw"), abs=64)


@pytest.mark.parametrize(("kind", "resources"), [("waiting", ("cpu", "memory", "io")), ("stalled", ("memory", "io"))])
def test_pressure(pages: Pages, kind: str, resources: tuple[str, ...]) -> None:
    """Pressure is node_exporter's, resource by resource; where the kernel has none, neither has any."""
    name = f"modelhost_pressure_{kind}_seconds_total"
    theirs: Series = {
        (resource,): value
        for resource in resources
        for value in pages.theirs.by(f"node_pressure_{resource}_{kind}_seconds_total").values()
    }
    before, after = pages.before.by(name, "resource"), pages.after.by(name, "resource")
    if theirs:
        assert_between(before, theirs, after, tolerance=1e-5)
    else:
        assert before == after == {}


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance"),
    [
        ("read_bytes_total", "read_bytes_total", 0),
        ("written_bytes_total", "written_bytes_total", 0),
        ("reads_completed_total", "reads_completed_total", 0),
        ("writes_completed_total", "writes_completed_total", 0),
        ("read_time_seconds_total", "read_time_seconds_total", 1e-6),
        ("write_time_seconds_total", "write_time_seconds_total", 1e-6),
        ("io_time_seconds_total", "io_time_seconds_total", 1e-6),
        ("io_time_weighted_seconds_total", "io_time_weighted_seconds_total", 1e-6),
    ],
)
def test_disks(pages: Pages, ours: str, theirs: str, tolerance: float) -> None:
    """The bytes, operations and times of every disk of ours are node_exporter's."""
    before, after = (page.by(f"modelhost_disk_{ours}", "device") for page in (pages.before, pages.after))
    assert_between(before, only(pages.theirs.by(f"node_disk_{theirs}", "device"), before), after, tolerance)


@pytest.mark.parametrize("direction", ["receive", "transmit"])
@pytest.mark.parametrize(
    ("ours", "theirs"), [("bytes", "bytes"), ("packets", "packets"), ("errors", "errs"), ("dropped", "drop")]
)
def test_network(pages: Pages, direction: str, ours: str, theirs: str) -> None:
    """Traffic of every interface, loopback included, is node_exporter's."""
    same_series(
        pages, f"modelhost_network_{direction}_{ours}_total", f"node_network_{direction}_{theirs}_total", "device"
    )
    assert ("lo",) in pages.before.by(f"modelhost_network_{direction}_{ours}_total", "device")


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance"),
    [
        ("size_bytes", "size_bytes", 0),
        ("available_bytes", "avail_bytes", 256 * 2**20),
        ("free_bytes", "free_bytes", 256 * 2**20),
        ("files", "files", 0),
        ("files_free", "files_free", 10_000),
        ("readonly", "readonly", 0),
        ("device_error", "device_error", 0),
    ],
)
def test_filesystems(pages: Pages, ours: str, theirs: str, tolerance: float) -> None:
    """Every file system that both measure has the same numbers; the root's is among them."""
    before, after = (page.by(f"modelhost_filesystem_{ours}", *MOUNT) for page in (pages.before, pages.after))
    of_them = pages.theirs.by(f"node_filesystem_{theirs}", *MOUNT)
    assert_between(only(before, of_them), only(of_them, before), only(after, of_them), tolerance)
    assert ours.startswith("files") or "/" in {mountpoint for _, mountpoint, _ in before.keys() & of_them.keys()}


def test_no_disk_is_missing(pages: Pages) -> None:
    """Every file system on a device that node_exporter measures is measured by us."""
    theirs = pages.theirs.by("node_filesystem_size_bytes", *MOUNT)
    assert {of for of in theirs if of[0].startswith("/dev/")} <= set(
        pages.before.by("modelhost_filesystem_size_bytes", *MOUNT)
    )


def test_the_kernel_s_names(pages: Pages) -> None:
    """System, release, machine and version are node_exporter's uname."""
    ours = pages.before.by("modelhost_os_info", "system", "release", "machine", "version")
    assert ours == pages.theirs.by("node_uname_info", "sysname", "release", "machine", "version")
