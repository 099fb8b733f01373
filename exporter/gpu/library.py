"""Whether this machine has the library of NVIDIA's driver."""

from __future__ import annotations

import ctypes
import sys

MISSING = "no NVIDIA driver library (libnvidia-ml.so.1)"

# By path where the loader does not find it by name (WSL2, NixOS): nvidia-ml-py, which asks by name, is then given the
# library that is already loaded.
_NAMES = ("libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1", "/run/opengl-driver/lib/libnvidia-ml.so.1")


def find(names: tuple[str, ...] = _NAMES) -> str | None:
    """Load the library if there is one, and return its name. On Windows nvidia-ml-py alone knows where it is."""
    if sys.platform == "win32":
        return "nvml.dll"
    return next((name for name in names if _loads(name)), None)


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
