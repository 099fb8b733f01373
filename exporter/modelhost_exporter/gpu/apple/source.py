"""The GPUs of a Mac as a source of the GPU collector."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.apple import ioreg
from modelhost_exporter.gpu.contract import Enumeration, Identity, NotAnswering, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modelhost_exporter.gpu.apple.ioreg import Accelerator
    from modelhost_exporter.metrics.families import Family


class AppleDependencies(NamedTuple):
    """What the GPUs of a Mac are read with."""

    run: Callable[[], bytes]
    """Returns the registry's entries of GPUs as a property list; may block."""
    host_memory: Callable[[], int]
    """Returns the memory of the machine in bytes, which the GPU shares."""
    driver_version: str
    """The version of macOS, of which the driver is a part."""


class AppleSource:
    """All GPUs of a Mac; as a rule one, which is part of the chip."""

    def __init__(self, dependencies: AppleDependencies) -> None:
        self._dependencies = dependencies
        self._known: list[_AppleGpu] = []

    def unavailable_reason(self) -> str:
        """Return '' always: ``enumerate`` raises Unavailable."""
        return ""

    def enumerate(self) -> Enumeration:
        """Return the GPUs, which the first call reads. Raises Unavailable without one, OSError if ioreg fails."""
        if not self._known:
            found = _read(self._dependencies.run)
            if not found:
                raise Unavailable("no GPU in IOKit's registry")
            self._known = [_AppleGpu(index, one, self._dependencies) for index, one in enumerate(found)]
        return Enumeration(self._known)

    def driver_values(self) -> Iterable[tuple[Family, float]]:
        """Return nothing: the driver is part of macOS."""
        return ()

    def close(self) -> None:
        """Do nothing: there are no threads."""


class _AppleGpu:
    """One GPU of a Mac."""

    suspended = False
    polling_paused = False
    memory_by_pid = None

    def __init__(self, index: int, found: Accelerator, dependencies: AppleDependencies) -> None:
        self._index = index
        self._kind = found.kind
        self._dependencies = dependencies
        cores = f" ({found.cores} cores)" if found.cores else ""
        self.identity = Identity(
            gpu=str(index),
            uuid=f"{found.kind or 'gpu'}-{index}",
            vendor="apple",
            name=f"{found.name}{cores}",
            driver_version=dependencies.driver_version,
        )

    def read(self) -> list[Value]:
        """Query the GPU. Raises NotAnswering when the registry no longer has it, or ioreg fails."""
        found = _read(self._dependencies.run)
        if self._index >= len(found) or found[self._index].kind != self._kind:
            raise NotAnswering("IOKit's registry does not have it")
        total, used = self._dependencies.host_memory(), found[self._index].memory_used
        return [
            Value(families.UTILIZATION, (), found[self._index].utilization),
            Value(families.UNIFIED_MEMORY, (), 1),
            Value(families.MEMORY_TOTAL, (), total),
            Value(families.MEMORY_USED, (), used),
        ]

    def accumulated(self) -> Iterable[Value]:
        """Return nothing: the registry has no samples to add up."""
        return ()


def _read(run: Callable[[], bytes]) -> list[Accelerator]:
    """Return the GPUs of the registry. Raises NotAnswering where it cannot be read."""
    try:
        return ioreg.parse(run())
    except subprocess.TimeoutExpired as error:
        raise NotAnswering(f"ioreg has not ended within {error.timeout:g} s") from error
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise NotAnswering(str(error)) from error
