"""Simulated servers: each file in this folder shows one engine kind in the demo, under the kind's file name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from modelhost_exporter.demo.specs import SimulatedKind


def simulated() -> tuple[SimulatedKind, ...]:
    """Return the simulated kinds, in the order of their GPUs."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return tuple(sorted((cast("SimulatedKind", module) for module in modules), key=lambda kind: kind.SERVER.gpus))
