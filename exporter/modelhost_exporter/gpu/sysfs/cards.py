"""The GPUs of one vendor in sysfs (AMD, Intel): a source whose devices are cards."""

from __future__ import annotations

import platform
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Enumeration, Identity, NotAnswering, Value
from modelhost_exporter.gpu.polling_pause import PollingPause
from modelhost_exporter.gpu.processes import ProcessMemory, ProcessNames
from modelhost_exporter.gpu.runtime_suspend import is_suspended, may_suspend
from modelhost_exporter.gpu.sysfs.awake_time import AwakeTime
from modelhost_exporter.gpu.sysfs.folder import SysfsFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from modelhost_exporter.gpu.sysfs.drm_clients import DrmClients, DrmMemory
    from modelhost_exporter.metrics.families import Family

_CARD = re.compile(r"card\d+")
_NOT_FROM_DRIVER = frozenset(
    {
        *(families.PCIE_GENERATION, families.PCIE_GENERATION_MAX, families.PCIE_WIDTH, families.PCIE_WIDTH_MAX),
        families.UNIFIED_MEMORY,
    }
)
"""Values that do not come from the driver, so that they are present while it does not answer."""


class SysfsVendor(NamedTuple):
    """How to detect and read the cards of one vendor."""

    name: str
    drivers: frozenset[str]
    read: Callable[[SysfsFolder, SysfsFolder], Iterable[Value]]
    """Reads the values, from the card's folder and the device's folder below it."""
    name_of: Callable[[SysfsFolder], str]
    uuid_of: Callable[[SysfsFolder], str | None]
    memory: Callable[[Path, SysfsFolder, DrmMemory], CardMemory]
    """Reads the memory of processes, from the folders ``class`` and of the device, and from their open files."""
    idle_seconds: Callable[[SysfsFolder, SysfsFolder], Mapping[str, float]] = lambda _card, _device: {}
    """Reads the seconds in which each part of the GPU was idle, of a vendor without a utilisation."""


class CardMemory(NamedTuple):
    """The memory of a card in use, as processes hold it."""

    by_pid: Mapping[int, float]
    """In bytes by process ID, of the processes that are visible."""
    is_complete: bool
    """Whether that is all of it."""


class CardDependencies(NamedTuple):
    """What the cards of a vendor share."""

    clients: DrmClients
    names: ProcessNames
    clock: Callable[[], float]
    """Monotonic, in seconds."""
    now: Callable[[], float] = time.time
    """Seconds since 1970."""


class SysfsCard:
    """One GPU in sysfs."""

    def __init__(self, identity: Identity, card: SysfsFolder, vendor: SysfsVendor, shared: CardDependencies) -> None:
        self.identity = identity
        self._card = card
        self._device = SysfsFolder(card.path / "device")
        self._vendor = vendor
        self._shared = shared
        self._awake = AwakeTime(shared.clock)
        self._awake_at = 0.0
        self.memory_by_pid: Mapping[int, float] | None = None
        self._read_before: set[tuple[str, tuple[str, ...]]] = set()
        path = self._device.path
        self._polling_pause = PollingPause(lambda: is_suspended(path), lambda: may_suspend(path), shared.clock)

    @property
    def suspended(self) -> bool:
        """Whether the system has suspended it; reading most of its files would wake it."""
        return self._polling_pause.is_suspended()

    @property
    def polling_paused(self) -> bool:
        """Whether it is not read for a while: reading its files keeps it from being suspended."""
        return self._polling_pause.active

    def read(self) -> list[Value]:
        """Read every file of the card. Raises NotAnswering when some could be read before, and none can now."""
        values = list(self._vendor.read(self._card, self._device))
        known = [value for value in values if value.number is not None and value.family not in _NOT_FROM_DRIVER]
        if self._read_before and not known:
            raise NotAnswering("none of the driver's files can be read")
        series = {(value.family.name, value.labels) for value in known}
        lost = len(self._read_before - series)
        self._read_before |= series
        values += [*self._read_activity(), *self._read_memory(values)]
        self._polling_pause.update(values)
        return [*values, Value(families.FIELDS_LOST, (), lost)]

    def _read_activity(self) -> Iterator[Value]:
        """Yield the share of time in which the GPU was awake, where the kernel counts when it was not."""
        idle = self._vendor.idle_seconds(self._card, self._device)
        self._awake.note(idle, self._device.number("power/runtime_active_time", 1e-3))
        self._awake_at = self._shared.now()
        if self._awake.share is not None:
            yield Value(families.UTILIZATION, (), self._awake.share)

    def _read_memory(self, values: Iterable[Value]) -> Iterator[Value]:
        """Yield the memory of processes by name, and their sum where the driver does not report it."""
        clients = self._shared.clients.memory(self._device.path.resolve().name)
        use = self._vendor.memory(self._card.path.parents[1], self._device, clients)
        self.memory_by_pid = use.by_pid if use.is_complete else None
        processes = (ProcessMemory(pid, int(size)) for pid, size in use.by_pid.items())
        for name, size in self._shared.names.memory(processes).items():
            yield Value(families.PROCESS_MEMORY, (name,), size)
        known = {value.family: value.number for value in values}
        total = known.get(families.MEMORY_TOTAL)
        if use.is_complete and total is not None and known.get(families.MEMORY_USED) is None:
            used = sum(use.by_pid.values())
            yield Value(families.MEMORY_USED, (), used)
            yield Value(families.MEMORY_FREE, (), max(0.0, total - used))

    def reset(self) -> None:
        """Forget which files were readable, when another card has this name."""
        self._read_before.clear()
        self._awake = AwakeTime(self._shared.clock)

    def accumulated(self) -> Iterable[Value]:
        """Return the time in which it was awake; the kernel keeps all other counters."""
        if self._awake.seconds is None:
            return ()
        return Value(families.BUSY, (), self._awake.seconds), Value(families.BUSY_UPDATED, (), self._awake_at)


class SysfsCards:
    """All cards of one vendor."""

    def __init__(self, vendor: SysfsVendor, sysfs: Path, shared: CardDependencies) -> None:
        self._shared = shared
        self._vendor = vendor
        self._sysfs = sysfs
        self._known: dict[str, SysfsCard] = {}
        self._gone: set[str] = set()

    def unavailable_reason(self) -> str:
        """Return '' always: ``enumerate`` raises Unavailable."""
        return ""

    def enumerate(self) -> Enumeration:
        """Return the cards. Unavailable on a machine that has none and never had."""
        found = {card.path.name: card for card in self._cards()}
        for name, card in found.items():
            if (name not in self._known or name in self._gone) and not is_suspended(card.path / "device"):
                self._identify(card)
        self._gone |= self._known.keys() - found.keys()
        if not found and not self._known:
            raise Unavailable(f"no {self._vendor.name} GPU")
        present = [card for name, card in self._known.items() if name in found]
        missing = [card for name, card in self._known.items() if name not in found]
        return Enumeration(present, missing, len(found) - len(present))

    def driver_values(self) -> Iterable[tuple[Family, float]]:
        """Return nothing: the driver is part of the kernel."""
        return ()

    def close(self) -> None:
        """Do nothing: there are no threads."""

    def _cards(self) -> Iterator[SysfsFolder]:
        for folder in SysfsFolder(self._sysfs / "class/drm").folders("card*"):
            if _CARD.fullmatch(folder.path.name) and _driver(folder) in self._vendor.drivers:
                yield folder

    def _identify(self, card: SysfsFolder) -> None:
        """Read the identity of a new card; the kernel may reuse the name of one that was unplugged."""
        name, identity = card.path.name, self._identity(card)
        if name in self._known:
            self._known[name].identity = identity
            self._known[name].reset()
        else:
            self._known[name] = SysfsCard(identity, card, self._vendor, self._shared)
        self._gone.discard(name)

    def _identity(self, card: SysfsFolder) -> Identity:
        device = SysfsFolder(card.path / "device")
        address = device.path.resolve().name
        version = SysfsFolder(self._sysfs / "module" / _driver(card)).text("version")
        return Identity(
            gpu=card.path.name,
            uuid=self._vendor.uuid_of(device) or address,
            vendor=self._vendor.name,
            name=self._vendor.name_of(device),
            driver_version=version or platform.release(),  # a module without a version has the kernel's
            pci_bus_id=address,
            vbios_version=device.text("vbios_version") or "",
        )


def _driver(card: SysfsFolder) -> str:
    return (card.path / "device/driver").resolve().name
