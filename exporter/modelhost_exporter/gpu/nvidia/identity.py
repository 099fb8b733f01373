"""The identity of an NVIDIA GPU, as the driver reports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.gpu.contract import Identity

if TYPE_CHECKING:
    from modelhost_exporter.gpu.nvidia.nvml import Nvml


def identify(nvml: Nvml, handle: Any, index: int, driver_version: str) -> Identity:
    """Return the identity of a GPU; '' for unknown parts. Raises as ``Nvml.call`` does where the UUID is unknown."""
    lib = nvml.lib
    capability = nvml.call_or_none(lib.nvmlDeviceGetCudaComputeCapability, handle)
    pci = nvml.call_or_none(lib.nvmlDeviceGetPciInfo, handle)
    return Identity(
        gpu=str(index),
        uuid=str(nvml.call(lib.nvmlDeviceGetUUID, handle)),
        vendor="nvidia",
        name=str(nvml.call_or_none(lib.nvmlDeviceGetName, handle) or ""),
        driver_version=driver_version,
        pci_bus_id=kernel_address(pci.busId) if pci else "",
        vbios_version=str(nvml.call_or_none(lib.nvmlDeviceGetVbiosVersion, handle) or ""),
        compute_capability=".".join(map(str, capability)) if capability else "",
    )


def kernel_address(bus_id: str) -> str:
    """Return a PCI address as the kernel writes it: ``0000:3b:00.0`` for NVML's ``00000000:3B:00.0``."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}" if rest else bus_id.lower()
