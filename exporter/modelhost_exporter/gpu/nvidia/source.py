"""NVIDIA's GPUs: enumerating them, and noticing when one of them, or the driver, is gone or back."""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import DeviceLost, Enumeration
from modelhost_exporter.gpu.nvidia import pci_cards
from modelhost_exporter.gpu.nvidia.device import NvidiaDevice
from modelhost_exporter.gpu.nvidia.errors import (
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
from modelhost_exporter.gpu.nvidia.identity import identify
from modelhost_exporter.gpu.nvidia.open_schedule import DriverOpener, RenewalSchedule
from modelhost_exporter.logs.state_log import StateLog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from modelhost_exporter.gpu.nvidia.device import DeviceDependencies
    from modelhost_exporter.metrics.families import Family

log = logging.getLogger(__name__)

_IDENTIFY_SECONDS = 60.0
_NOT_OURS = frozenset({INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION})
"""Errors for a GPU that this container may not use. Any other error means that the driver cannot use the GPU.

For one that fell off the bus, a library that was loaded later returns ``Unknown Error``.
"""


class NvidiaSource:
    """The GPUs of NVIDIA's driver. ``enumerate`` opens it when it is closed, and again when a GPU is missing or new.

    Finding a missing GPU takes a new initialisation of the library (see RenewalSchedule). Suspended GPUs are not
    queried, since a query would wake them.
    """

    def __init__(self, dependencies: DeviceDependencies) -> None:
        self._dependencies = dependencies
        self._nvml = dependencies.nvml
        self._known: dict[str, NvidiaDevice] = {}
        self._attached: dict[int, NvidiaDevice] = {}
        self._attach_errors: list[str] = []
        self._unreachable = 0
        self._opened_with: frozenset[str] = frozenset()
        self._identify_at = 0.0
        self._opener = DriverOpener(dependencies.nvml, dependencies.clock)
        self._renewal = RenewalSchedule(dependencies.clock)
        self._driver_version = self._first_version = ""
        self._replaced = False
        self._replaced_logged = StateLog(initial=False)
        self._had_gpus = False
        self._away_logged = StateLog(initial=False)
        self._closed = False

    def unavailable_reason(self) -> str:
        """Return '' always: ``enumerate`` raises Unavailable."""
        return ""

    def enumerate(self) -> Enumeration:
        """Return the GPUs. Unavailable on a machine that has no library, driver or GPU, and never had.

        Raises LibraryBroken or DriverFailed when the library cannot be loaded, or the loaded driver not be opened.
        """
        try:
            enumeration = self._enumerate()
        except NvmlFailure as failure:
            self._handle(failure)
            self._detach_all()
            if not self._had_gpus and isinstance(failure, (DriverFailed, LibraryBroken)):
                raise
            if not self._had_gpus:
                raise pci_cards.absence(self._dependencies.pci.devices, str(failure)) from failure
            self._log_away(True, str(failure))
            return Enumeration((), tuple(self._known.values()))
        self._log_away(False)
        return enumeration

    def driver_values(self) -> Iterator[tuple[Family, float]]:
        """Yield whether the exporter must be restarted."""
        if self._had_gpus:
            yield families.RESTART_REQUIRED, float(self._replaced)

    def close(self) -> None:
        """End the threads, and shut the library down after them."""
        self._closed = True
        self._dependencies.xids.stop()
        for device in list(self._known.values()):  # an enumeration may add some meanwhile
            device.close()
        self._nvml.retire()

    def _enumerate(self) -> Enumeration:
        addresses, suspended = self._dependencies.pci.addresses(), self._dependencies.pci.suspended()
        paused = {device.identity.pci_bus_id for device in self._known.values() if device.polling_pause.active}
        unqueried = (suspended | paused).intersection(addresses)
        if unqueried and len(unqueried) == len(addresses):  # then the driver is not called at all
            self._close_driver()
            count = len(addresses)
        else:
            count = self._attach_all(suspended)
            unqueried = suspended  # a paused one is attached by now, or cannot be
        present = self._present(unqueried)
        others = max(count - len(present) - len(self._attach_errors), 0)
        unidentified = min(len(suspended - {device.identity.pci_bus_id for device in present}), others)
        missing = tuple(device for device in self._known.values() if device not in present)
        self._set_unreachable(max(len(self._attach_errors) - len(missing), 0))
        self._had_gpus = self._had_gpus or bool(present) or bool(unidentified) or bool(self._unreachable)
        new = self._nvml.generation and not self._opened_with.issuperset(addresses)
        self._renewal.update(wanted=bool(missing or self._unreachable or new))
        if not self._had_gpus:
            raise pci_cards.absence(self._dependencies.pci.devices, "the NVIDIA driver has no GPU")
        return Enumeration(present, missing, unidentified, self._unreachable)

    def _present(self, unqueried: frozenset[str]) -> tuple[NvidiaDevice, ...]:
        """Return the GPUs that are attached, and those at ``unqueried`` addresses, in the order of their indices."""
        attached = self._attached.values()
        present = (d for d in self._known.values() if d in attached or d.identity.pci_bus_id in unqueried)
        return tuple(sorted(present, key=lambda device: int(device.identity.gpu)))

    def _close_driver(self) -> None:
        """Close the driver: an open one keeps its GPUs from being suspended."""
        self._attach_errors.clear()
        if self._nvml.generation:
            for device in self._attached.values():
                device.detach_until_reopened()
            self._attached.clear()
            self._nvml.close_in_background()

    def _attach_all(self, suspended: frozenset[str]) -> int:
        """Get the missing handles of GPUs that are not suspended; return how many GPUs the driver counts."""
        self._open_if_due()
        with self._nvml.using() as generation:
            count = int(self._nvml.call(self._nvml.lib.nvmlDeviceGetCount))
            if not self._driver_version:
                self._read_driver_version()
            self._detach_lost()
            self._attach_errors.clear()
            self._attach_new(generation, count, suspended)
            self._complete_identities(suspended)
            awake = (device for device in self._attached.values() if device.identity.pci_bus_id not in suspended)
            self._dependencies.xids.monitor(generation, {device.identity.uuid: device.handle for device in awake})
        return count

    def _open_if_due(self) -> None:
        """Open the driver where it is closed; close it first where it failed, or a renewal is due."""
        if self._nvml.failure is not None:
            self._handle(self._nvml.failure)
            self._detach_all()
        if self._renewal.is_due():
            self._renewal.begin()
            self._nvml.close()
        if not self._nvml.generation:
            self._detach_all()
            self._opened_with = frozenset(self._dependencies.pci.addresses())
            self._opener.open(was_loaded=self._had_gpus)
            self._read_driver_version()

    def _read_driver_version(self) -> None:
        """Read the driver's version. Where it changes, the loaded library belongs to the replaced driver."""
        version = self._nvml.call_or_none(self._nvml.lib.nvmlSystemGetDriverVersion)
        self._driver_version = str(version or self._driver_version)
        self._first_version = self._first_version or self._driver_version
        self._set_replaced(self._driver_version != self._first_version, f"it was {self._first_version}")

    def _attach_new(self, generation: int, count: int, suspended: frozenset[str]) -> None:
        """Attach the GPUs without a handle: by index, or by address where some are suspended."""
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
        """Attach one GPU; skip one that is lost, or that this container may not use."""
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
        if self._closed:  # a reload closed this source during the scrape
            device.close()
        device.attach(generation, handle, identity)
        self._attached[index] = device

    def _complete_identities(self, suspended: frozenset[str]) -> None:
        """Query again, once a minute, names and addresses that could not be read when the GPU was attached."""
        if self._dependencies.clock() < self._identify_at:
            return
        self._identify_at = self._dependencies.clock() + _IDENTIFY_SECONDS
        for index, device in self._attached.items():
            known = device.identity
            if not (known.name and known.pci_bus_id) and known.pci_bus_id not in suspended:
                with contextlib.suppress(DeviceLost, self._nvml.lib.NVMLError):
                    device.identity = identify(self._nvml, device.handle, index, self._driver_version)

    def _detach_lost(self) -> None:
        for index, device in list(self._attached.items()):
            if device.lost:
                del self._attached[index]
                device.detach()

    def _detach_all(self) -> None:
        self._attached.clear()
        for device in self._known.values():
            device.detach()

    def _handle(self, failure: NvmlFailure) -> None:
        """Close the driver after a failure, so that the next enumeration opens it; log once that it was replaced."""
        if isinstance(failure, DriverReplaced):
            self._had_gpus = True
            self._set_replaced(True, str(failure))
        if not isinstance(failure, LibraryMissing):
            self._nvml.close()

    def _set_unreachable(self, count: int) -> None:
        """Record how many GPUs the driver counts and cannot use; log when there are more."""
        if count > self._unreachable:
            log.warning(
                "the NVIDIA driver counts GPUs that it cannot reach",
                extra={"fields": {"gpus": count, "detail": "; ".join(sorted(set(self._attach_errors)))}},
            )
        self._unreachable = count

    def _log_away(self, away: bool, detail: str = "") -> None:
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
