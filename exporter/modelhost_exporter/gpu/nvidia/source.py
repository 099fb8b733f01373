"""NVIDIA's GPUs: opening the driver, finding the GPUs, and noticing when either is gone or back."""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import DeviceLost, Enumeration
from modelhost_exporter.gpu.nvidia.device import NvidiaDevice
from modelhost_exporter.gpu.nvidia.identity import identify
from modelhost_exporter.gpu.nvidia.nvml import (
    INVALID_ARGUMENT,
    NO_PERMISSION,
    NOT_FOUND,
    NOT_SUPPORTED,
    DriverFailed,
    DriverReplaced,
    LibraryBroken,
    LibraryMissing,
    NvmlFailure,
)
from modelhost_exporter.gpu.nvidia.opening import Opening
from modelhost_exporter.logs.state_log import StateLog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from modelhost_exporter.gpu.nvidia.device import DeviceDependencies
    from modelhost_exporter.metrics.families import Family

log = logging.getLogger(__name__)

_RETRY_SECONDS, _MAX_RETRY_SECONDS = 30.0, 480.0
_IDENTIFY_SECONDS = 60.0
_NOT_OURS = frozenset({INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION})
"""Errors for a GPU that this container may not use. Any other error is that of a GPU that the driver cannot use.

For one that fell off the bus, a library that was loaded later returns ``Unknown Error``.
"""


class NvidiaSource:
    """The GPUs of NVIDIA's driver. ``enumerate`` opens it when it is closed, and again when a GPU is missing or new.

    Finding a GPU takes a new start of the library, which takes a moment and closes every handle, so that the
    other GPUs' means since the scrape before are lost for a scrape: after 30 s, then each time after twice as long, up
    to 8 min. The handle of a suspended GPU is not queried, since that would wake it.
    """

    def __init__(self, dependencies: DeviceDependencies) -> None:
        self._dependencies = dependencies
        self._nvml = dependencies.nvml
        self._known: dict[str, NvidiaDevice] = {}
        self._attached: dict[int, NvidiaDevice] = {}
        self._attach_errors: list[str] = []
        self._unreachable = 0
        self._opened_with: frozenset[str] = frozenset()
        self._renew_at = self._identify_at = 0.0
        self._retry_seconds = _RETRY_SECONDS
        self._opening = Opening(dependencies.nvml, dependencies.clock)
        self._driver_version = self._first_version = ""
        self._replaced = False
        self._replaced_logged = StateLog(initial=False)
        self._seen = False
        self._away_logged = StateLog(initial=False)
        self._closed = False

    def unavailable_reason(self) -> str:
        """Return '' always: ``enumerate`` reports absence."""
        return ""

    def enumerate(self) -> Enumeration:
        """Return the GPUs. Unavailable on a machine that has no library, driver or GPU, and never had.

        A library that cannot be loaded, or a driver that cannot be opened although it is loaded, is a failure.
        """
        try:
            enumeration = self._enumerate()
        except NvmlFailure as failure:
            self._note(failure)
            self._lose_all()
            if not self._seen and isinstance(failure, (DriverFailed, LibraryBroken)):
                raise
            if not self._seen:
                raise Unavailable(str(failure)) from failure
            self._set_away(True, str(failure))
            return Enumeration((), tuple(self._known.values()))
        self._set_away(False)
        return enumeration

    def driver_values(self) -> Iterator[tuple[Family, float]]:
        """Yield whether the exporter must be restarted."""
        if self._seen:
            yield families.RESTART_REQUIRED, float(self._replaced)

    def close(self) -> None:
        """Let the threads end, and the library be shut down once they have."""
        self._closed = True
        self._dependencies.xids.stop()
        for device in list(self._known.values()):  # a census may add some meanwhile
            device.close()
        self._nvml.retire()

    def _enumerate(self) -> Enumeration:
        addresses, suspended = self._dependencies.pci.addresses(), self._dependencies.pci.suspended()
        polling_paused = {device.identity.pci_bus_id for device in self._known.values() if device.polling_pause.active}
        left_alone = (suspended | polling_paused).intersection(addresses)
        if left_alone and len(left_alone) == len(addresses):  # not a single call, then
            self._close_driver()
            count = len(addresses)
        else:
            count = self._attach_all(suspended)
            left_alone = suspended  # one that rests is attached by now, or cannot be
        present = self._present(left_alone)
        others = max(count - len(present) - len(self._attach_errors), 0)
        unidentified = min(len(suspended - {d.identity.pci_bus_id for d in present}), others)
        missing = tuple(device for device in self._known.values() if device not in present)
        self._report_unreachable(max(len(self._attach_errors) - len(missing), 0))
        self._seen = self._seen or bool(present) or bool(unidentified) or bool(self._unreachable)
        new = self._nvml.generation and not self._opened_with.issuperset(addresses)
        self._schedule_renewal(due=bool(missing or self._unreachable or new))
        if not self._seen:
            raise Unavailable("the NVIDIA driver has no GPU")
        return Enumeration(present, missing, unidentified, self._unreachable)

    def _present(self, left_alone: frozenset[str]) -> tuple[NvidiaDevice, ...]:
        """Return the GPUs that are attached, and those that are left alone, in the order of their indices."""
        attached = self._attached.values()
        there = (d for d in self._known.values() if d in attached or d.identity.pci_bus_id in left_alone)
        return tuple(sorted(there, key=lambda device: int(device.identity.gpu)))

    def _close_driver(self) -> None:
        """Close the driver, which would keep its GPUs awake."""
        self._attach_errors.clear()
        if self._nvml.generation:
            for device in self._attached.values():
                device.detach_until_reopened()
            self._attached.clear()
            self._nvml.close_in_background()

    def _attach_all(self, suspended: frozenset[str]) -> int:
        """Get the handles that are missing, of GPUs that are awake; returns how many GPUs the driver counts."""
        self._open_if_due()
        with self._nvml.using() as generation:
            count = int(self._nvml.call(self._nvml.lib.nvmlDeviceGetCount))
            if not self._driver_version:
                self._read_driver_version()
            self._drop_lost()
            self._attach_errors.clear()
            self._attach_new(generation, count, suspended)
            self._complete_identities(suspended)
            awake = (device for device in self._attached.values() if device.identity.pci_bus_id not in suspended)
            self._dependencies.xids.monitor(generation, {device.identity.uuid: device.handle for device in awake})
        return count

    def _open_if_due(self) -> None:
        """Open the driver when it is closed; close it first when it failed, or a GPU was missing for long enough."""
        if self._nvml.failure is not None:
            self._note(self._nvml.failure)
            self._lose_all()
        if self._renew_at and self._dependencies.clock() >= self._renew_at:
            self._renew_at = 0.0
            self._nvml.close()
        if not self._nvml.generation:
            self._lose_all()
            self._opened_with = frozenset(self._dependencies.pci.addresses())
            self._opening.open(was_there=self._seen)
            self._read_driver_version()

    def _schedule_renewal(self, *, due: bool) -> None:
        if not due:
            self._renew_at = 0.0
            self._retry_seconds = _RETRY_SECONDS
        elif not self._renew_at:
            self._renew_at = self._dependencies.clock() + self._retry_seconds
            self._retry_seconds = min(2 * self._retry_seconds, _MAX_RETRY_SECONDS)

    def _read_driver_version(self) -> None:
        """Keep the driver's version; another one than at first belongs to another library than the loaded one."""
        self._driver_version = str(
            self._nvml.call_or_none(self._nvml.lib.nvmlSystemGetDriverVersion) or self._driver_version
        )
        self._first_version = self._first_version or self._driver_version
        self._set_replaced(self._driver_version != self._first_version, f"it was {self._first_version}")

    def _attach_new(self, generation: int, count: int, suspended: frozenset[str]) -> None:
        """Get the handles that are missing: by index, or by address those that are awake when some are not."""
        lib = self._nvml.lib
        if len(self._attached) >= count:
            return
        if not suspended:
            for index in range(count):
                if index not in self._attached:
                    self._attach(generation, partial(lib.nvmlDeviceGetHandleByIndex, index))
            return
        attached = {device.identity.pci_bus_id for device in self._attached.values()}
        for address in self._dependencies.pci.addresses():
            if address not in suspended and address not in attached:
                self._attach(generation, partial(lib.nvmlDeviceGetHandleByPciBusId, address), {NOT_FOUND})

    def _attach(self, generation: int, get_handle: Callable[[], Any], not_ours: Collection[int] = ()) -> None:
        """Attach one GPU; one that cannot be had (lost, or not for us) is left out."""
        try:
            handle = self._nvml.call(get_handle)
            index = int(self._nvml.call(self._nvml.lib.nvmlDeviceGetIndex, handle))
            identity = identify(self._nvml, handle, index, self._driver_version)
        except DeviceLost as error:
            self._attach_errors.append(str(error))
            return
        except self._nvml.lib.NVMLError as error:
            if error.value not in (*_NOT_OURS, *not_ours):
                self._attach_errors.append(str(error))
            return
        device = self._known.get(identity.uuid)
        if device is None:
            device = self._known[identity.uuid] = NvidiaDevice(identity, self._dependencies)
        if self._closed:  # found by a scrape that a reload overtook
            device.close()
        device.attach(generation, handle, identity)
        self._attached[index] = device

    def _complete_identities(self, suspended: frozenset[str]) -> None:
        """Query once a minute the name and address of GPUs for which they failed when these were attached."""
        if self._dependencies.clock() < self._identify_at:
            return
        self._identify_at = self._dependencies.clock() + _IDENTIFY_SECONDS
        for index, device in self._attached.items():
            known = device.identity
            if not (known.name and known.pci_bus_id) and known.pci_bus_id not in suspended:
                with contextlib.suppress(DeviceLost, self._nvml.lib.NVMLError):
                    device.identity = identify(self._nvml, device.handle, index, self._driver_version)

    def _drop_lost(self) -> None:
        for index, device in list(self._attached.items()):
            if device.lost:
                del self._attached[index]
                device.detach()

    def _lose_all(self) -> None:
        self._attached.clear()
        for device in self._known.values():
            device.detach()

    def _note(self, failure: NvmlFailure) -> None:
        """Log once that the driver was replaced, and have the next enumeration reopen it."""
        if isinstance(failure, DriverReplaced):
            self._seen = True
            self._set_replaced(True, str(failure))
        if not isinstance(failure, LibraryMissing):
            self._nvml.close()

    def _report_unreachable(self, unreachable: int) -> None:
        if unreachable > self._unreachable:
            log.warning(
                "the NVIDIA driver counts GPUs that it cannot reach",
                extra={"fields": {"gpus": unreachable, "detail": "; ".join(sorted(set(self._attach_errors)))}},
            )
        self._unreachable = unreachable

    def _set_away(self, away: bool, detail: str = "") -> None:
        if self._away_logged.changed(away):
            level = logging.WARNING if away else logging.INFO
            log.log(level, "the NVIDIA driver is %s", "away" if away else "back", extra={"fields": {"detail": detail}})

    def _set_replaced(self, replaced: bool, detail: str) -> None:
        if self._replaced_logged.changed(replaced) and replaced:
            log.warning(
                "the NVIDIA driver was replaced: restart the exporter (or the machine, if the new driver is not loaded"
                " yet)",
                extra={"fields": {"detail": detail, "driver_version": self._driver_version}},
            )
        self._replaced = replaced
