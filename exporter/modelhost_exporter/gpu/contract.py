"""The contract between GPU sources and the GPU collector: sources, devices and their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from modelhost_exporter.gpu import families

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.metrics.families import Family


class Identity(NamedTuple):
    """The identity of a GPU; '' for parts that the system does not report."""

    gpu: str
    uuid: str
    vendor: str
    name: str = ""
    driver_version: str = ""
    pci_bus_id: str = ""
    vbios_version: str = ""
    compute_capability: str = ""


class Value(NamedTuple):
    """One value of one GPU: its family, the labels after gpu and uuid, and the number (None: unknown)."""

    family: Family
    labels: tuple[str, ...]
    number: float | None


class DeviceLost(Exception):
    """The GPU fell off the bus."""


class NotAnswering(Exception):
    """The GPU is present, and no query of a reading succeeded."""


class Device(Protocol):
    """One GPU as long as the exporter runs: the same object after it was lost and is back."""

    @property
    def identity(self) -> Identity:
        """The GPU's identity."""
        ...

    @property
    def suspended(self) -> bool:
        """Whether the system has suspended the GPU; determined without waking it."""
        ...

    @property
    def memory_by_pid(self) -> Mapping[int, float] | None:
        """Memory in bytes by process ID at the last reading.

        None where it is not known for all processes, and where it does not show which process uses the GPU (MIG,
        unified memory).
        """
        ...

    @property
    def polling_paused(self) -> bool:
        """Whether it is not queried for a while, so that the system can suspend it."""
        ...

    def read(self) -> list[Value]:
        """Query the GPU; may block, possibly for ever.

        Raises DeviceLost, NotAnswering, or anything else on failure.
        """
        ...

    def accumulated(self) -> Iterable[Value]:
        """Return the values that are added up between readings; never blocks."""
        ...


class Enumeration(NamedTuple):
    """The GPUs of one vendor."""

    present: Sequence[Device]
    missing: Sequence[Device] = ()
    """Those that were present once."""
    unidentified: int = 0
    """Number of further GPUs that are suspended, and were never identified."""
    unreachable: int = 0
    """Number of further GPUs that the driver counts and cannot reach, and were never identified."""


class GpuSource(Protocol):
    """The GPUs of one vendor, or of one driver."""

    def unavailable_reason(self) -> str:
        """Return why this machine cannot have such GPUs, '' when it can; neither blocks nor queries a driver."""
        ...

    def enumerate(self) -> Enumeration:
        """Return the GPUs; may block, possibly for ever. Called by one thread at a time.

        Raises Unavailable when the machine has none and never had.
        """
        ...

    def driver_values(self) -> Iterable[tuple[Family, float]]:
        """Return the values of the driver as a whole; never blocks."""
        ...

    def close(self) -> None:
        """End the threads of the source; never blocks."""
        ...


def device_families(rows: Iterable[tuple[Identity, Iterable[Value]]]) -> Iterator[Metric]:
    """Yield the families of all GPUs' values in the order of declaration, without unknown values and NaN."""
    by_family: dict[str, list[tuple[tuple[str, ...], float | None]]] = {family.name: [] for family in families.ALL}
    for identity, values in rows:
        device = (identity.gpu, identity.uuid)
        for family, labels, number in values:
            if number is not None and number == number:  # noqa: PLR0124 - NaN is not itself
                by_family[family.name].append((device + labels, number))
    for family in families.ALL:
        if by_family[family.name]:
            yield from family.by(by_family[family.name])
