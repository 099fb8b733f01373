"""GPU memory of processes, as drivers of the kernel report it for each open file (fdinfo).

Sources: Linux Documentation/gpu/drm-usage-stats.rst, drivers/gpu/drm/xe/xe_drm_client.c, amd/amdgpu/amdgpu_fdinfo.c.
Files of other users' processes can be read by root with CAP_SYS_PTRACE in the host's PID namespace only.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.linux.kernel_files import count, first_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_SCAN_SECONDS = 15.0
_MAX_FILES = 100_000
"""Open files of all processes that are looked at in a scan; beyond that it is incomplete."""
_DEVICE_FILES = "/dev/dri/"
_VIDEO_MEMORY = ("vram", "local")
"""Beginnings of the names of a card's own memory: xe and amdgpu, i915."""
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20}
_KERNEL_THREADS = b"kthreadd"
"""Name of process 2 in the host's PID namespace, and in no other."""


class DrmFile(NamedTuple):
    """One open file of a GPU: the GPU's PCI address, the client, and the card's own memory that it holds in bytes."""

    address: str
    client: str
    bytes: int


class DrmMemory(NamedTuple):
    """Memory of one GPU in bytes by process ID, and whether that is all of it."""

    by_pid: Mapping[int, float]
    is_complete: bool


class DrmClients:
    """The processes with open GPUs. Which they are is searched every 15 s, what they hold is read each time."""

    def __init__(self, procfs: Path, clock: Callable[[], float]) -> None:
        """Prepare; ``clock`` is monotonic, in seconds."""
        self._procfs = procfs
        self._clock = clock
        self._lock = threading.Lock()
        self._scanned_at: float | None = None
        self._files: list[tuple[int, Path]] = []
        self._is_complete = False

    def memory(self, address: str) -> DrmMemory:
        """Return the memory of the GPU at a PCI address, such as 0000:03:00.0; may be called by several threads."""
        with self._lock:
            if self._scanned_at is None or self._clock() - self._scanned_at >= _SCAN_SECONDS:
                self._scan()
                self._scanned_at = self._clock()
            files = self._files
        held: dict[int, float] = {}
        clients = set()
        for pid, path in files:  # a client that was inherited by, or sent to, another process counts once
            file = parse_fdinfo(first_page(path).decode("utf-8", "replace"))
            if file is not None and file.address == address and file.client not in clients:
                clients.add(file.client)
                held[pid] = held.get(pid, 0.0) + file.bytes
        return DrmMemory({pid: size for pid, size in held.items() if size}, self._is_complete)

    def _scan(self) -> None:
        """Find the open files of GPUs."""
        self._files = []
        self._is_complete = first_page(self._procfs / "2/comm").strip() == _KERNEL_THREADS
        left = _MAX_FILES
        for pid in sorted(int(name) for name in _names(self._procfs) if name.isascii() and name.isdigit()):
            process = self._procfs / str(pid)
            try:
                files = os.listdir(process / "fd")  # noqa: PTH208 - there may be thousands: no objects for them
            except (FileNotFoundError, ProcessLookupError):  # it has ended
                continue
            except OSError:
                self._is_complete = False
                continue
            left -= len(files)
            if left < 0:
                self._is_complete = False
                return
            self._files += [(pid, process / "fdinfo" / name) for name in files if _is_gpu(process / "fd" / name)]


def parse_fdinfo(text: str) -> DrmFile | None:
    """Parse the ``drm-`` lines of a file in fdinfo; None for another file, or one without an address or client."""
    fields = dict(_fields(text))
    address, client = fields.get("pdev"), fields.get("client-id")
    if not address or not client:
        return None
    resident = _sizes(fields, "resident-") or _sizes(fields, "memory-")  # the latter before Linux 6.5 (amdgpu)
    return DrmFile(address, client, sum(resident))


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon and name.startswith("drm-"):
            yield name.removeprefix("drm-"), value.strip()


def _sizes(fields: Mapping[str, str], kind: str) -> list[int]:
    """Return the sizes of all regions of the card's own memory; without those that are no sizes."""
    regions = tuple(kind + region for region in _VIDEO_MEMORY)
    sizes = [_size(value) for name, value in fields.items() if name.startswith(regions)]
    return [size for size in sizes if size is not None]


def _size(value: str) -> int | None:
    """Return a size in bytes, such as 12 MiB."""
    number, _, unit = value.partition(" ")
    try:
        return count(number) * _UNITS[unit]
    except (ValueError, KeyError):
        return None


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - likewise
    except OSError:
        return []


def _is_gpu(link: Path) -> bool:
    try:
        return os.readlink(link).startswith(_DEVICE_FILES)  # noqa: PTH115 - likewise
    except OSError:
        return False
