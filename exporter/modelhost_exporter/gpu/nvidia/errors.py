"""NVML's error codes, and the exceptions that they become.

Errors as a tree::

    NvmlFailure                 a call failed, and every other call on this driver would fail as well
    ├── LibraryMissing          the machine has no libnvidia-ml, so no NVIDIA driver
    ├── LibraryBroken           the library exists and cannot be loaded
    ├── DriverGone              the library exists and the driver is not loaded, or not any more
    ├── DriverFailed            the driver is loaded and cannot be opened
    └── DriverReplaced          the loaded driver is not the version of the loaded library
    contract.DeviceLost         only this GPU is gone
    nvidia-ml-py's NVMLError    only this field failed

Source of the codes: nvmlReturn_t in nvml.h.
"""

from __future__ import annotations

from modelhost_exporter.gpu.contract import DeviceLost

OK, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 0, 1, 2, 3, 4, 6
INSUFFICIENT_POWER, DRIVER_NOT_LOADED, TIMEOUT, IRQ_ISSUE, FUNCTION_NOT_FOUND = 8, 9, 10, 11, 13
GPU_IS_LOST, RESET_REQUIRED, MISMATCH = 15, 16, 18
VERSION_MISMATCH, DEPRECATED, GPU_NOT_FOUND, UNKNOWN = 25, 26, 28, 999

UNSUPPORTED = frozenset(
    {INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, VERSION_MISMATCH, DEPRECATED}
)
"""Codes for a field that a card or driver lacks. Some return one only temporarily: see query.py."""
RETRY_UNSUPPORTED_SECONDS = 600.0
"""How long a field that never succeeded counts as unsupported before it is queried again."""

_GONE = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED})
_LOST = frozenset({GPU_IS_LOST, GPU_NOT_FOUND})


class NvmlFailure(Exception):
    """A call failed in a way that concerns the whole driver."""


class LibraryMissing(NvmlFailure):
    """The machine has no NVIDIA driver library."""


class LibraryBroken(NvmlFailure):
    """The library exists and cannot be loaded."""


class DriverFailed(NvmlFailure):
    """The driver is loaded and cannot be opened, such as in a container that lost access to it."""


class DriverGone(NvmlFailure):
    """The library exists and the driver is not loaded."""


class DriverReplaced(NvmlFailure):
    """The driver is another version than the library that this process has loaded."""


def check(error: Exception) -> None:
    """Raise DeviceLost or NvmlFailure where an NVMLError concerns the GPU or the driver; else return."""
    code = getattr(error, "value", None)
    if code in _LOST:
        raise DeviceLost(str(error)) from error
    if code in _GONE:
        raise DriverGone(str(error)) from error
    if code == MISMATCH:
        raise DriverReplaced(str(error)) from error
