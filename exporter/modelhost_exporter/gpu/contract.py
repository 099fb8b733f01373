"""The contract between GPU sources and the collector: devices, their values, and the families made of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

from modelhost_exporter.gpu import families

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.metrics.families import Family


class Identity(NamedTuple):
    """The identity of a GPU; '' where the system does not report a part of it."""

    gpu: str
    uuid: str
    vendor: str
    name: str = ""
    driver_version: str = ""
    pci_bus_id: str = ""
    vbios_version: str = ""
    compute_capability: str = ""


class Value(NamedTuple):
    """One value of one GPU: its family, the labels beyond gpu and uuid, and the number (None: unknown)."""

    family: Family
    labels: tuple[str, ...]
    number: float | None


class DeviceLost(Exception):
    """The GPU fell off the bus."""


class NotAnswering(Exception):
    """The GPU is there, and no query of a reading succeeded."""


class Device(Protocol):
    """One GPU, for as long as the exporter runs: it may be lost and come back."""

    @property
    def identity(self) -> Identity:
        """Which GPU it is."""
        ...

    @property
    def suspended(self) -> bool:
        """Whether the system has suspended it; reading this does not wake it."""
        ...

    @property
    def memory_by_pid(self) -> Mapping[int, float] | None:
        """Memory in bytes by process ID at the last reading.

        None where it is not known for all processes, and where it does not show whose work the GPU does (MIG, unified
        memory).
        """
        ...

    @property
    def polling_paused(self) -> bool:
        """Whether it is left alone for a while, so that the system can suspend it."""
        ...

    def read(self) -> list[Value]:
        """Query the GPU; may block, possibly for ever.

        Raises Lost, NotAnswering, and anything else on failure.
        """
        ...

    def accumulated(self) -> Iterable[Value]:
        """Return the values that need no query; never blocks."""
        ...


class Enumeration(NamedTuple):
    """The GPUs of one vendor."""

    present: Sequence[Device]
    missing: Sequence[Device] = ()
    """Those that were there once."""
    unidentified: int = 0
    """Number of further GPUs that are suspended and were never identified."""
    unreachable: int = 0
    """Number of further GPUs that the driver counts and cannot reach, and that were never identified."""


class GpuSource(Protocol):
    """The GPUs of one vendor, or of one driver."""

    def unavailable_reason(self) -> str:
        """Return why this machine cannot have such GPUs, '' when it can; does not block and queries no driver."""
        ...

    def enumerate(self) -> Enumeration:
        """Return the GPUs; may block, possibly for ever; called by one thread at a time.

        Raises Unavailable when the machine has none and never had.
        """
        ...

    def driver_values(self) -> Iterable[tuple[Family, float]]:
        """Return what is known of the driver as a whole; never blocks."""
        ...

    def close(self) -> None:
        """Let the threads that wait or sample end; never blocks."""
        ...


def device_families(rows: Iterable[tuple[Identity, Iterable[Value]]]) -> Iterator[Metric]:
    """Yield the families of all GPUs' values, in the order they are declared; unknown values and NaN are left out."""
    by_family: dict[str, list[tuple[tuple[str, ...], float | None]]] = {family.name: [] for family in families.ALL}
    for identity, values in rows:
        device = (identity.gpu, identity.uuid)
        for family, labels, number in values:
            if number is not None and not math.isnan(number):
                by_family[family.name].append((device + labels, number))
    for family in families.ALL:
        if by_family[family.name]:
            yield from family.by(by_family[family.name])
