"""Errors of the machine's memory that its controllers corrected, or could not correct (EDAC)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, Unavailable
from modelhost_exporter.linux.kernel_files import count_if_possible, read_if_possible
from modelhost_exporter.metrics.families import counter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

_DIMM = ("controller", "dimm", "dimm_label")

CORRECTABLE = counter(
    "edac_correctable_errors",
    "Memory errors that were corrected, by memory controller.",
    "controller",
    note="A steady rise announces a module that fails.",
)
UNCORRECTABLE = counter(
    "edac_uncorrectable_errors",
    "Memory errors that could not be corrected, by memory controller.",
    "controller",
    note="Programs or the machine ended because of them, or data is wrong: replace the module.",
)
DIMM_CORRECTABLE = counter("edac_dimm_correctable_errors", "Memory errors that were corrected, by module.", *_DIMM)
DIMM_UNCORRECTABLE = counter(
    "edac_dimm_uncorrectable_errors", "Memory errors that could not be corrected, by module.", *_DIMM
)
FAMILIES = (CORRECTABLE, UNCORRECTABLE, DIMM_CORRECTABLE, DIMM_UNCORRECTABLE)


class EdacCollector:
    """Memory controllers below /sys/devices/system/edac (source: Linux Documentation/admin-guide/RAS/main.rst).

    Errors of a controller include those whose module is not known.
    """

    def __init__(self, sysfs: Path) -> None:
        self._controllers = sysfs / "devices/system/edac/mc"

    def collect(self) -> Iterator[Metric]:
        """Yield the errors; Unavailable without a controller that reports them."""
        controllers = sorted(self._controllers.glob("mc[0-9]*"))
        if not controllers:
            raise Unavailable("no memory controller that reports errors (EDAC)")
        for family, name in ((CORRECTABLE, "ce_count"), (UNCORRECTABLE, "ue_count")):
            yield from family.by(((_number(folder),), count_if_possible(folder / name)) for folder in controllers)
        modules = [(_labels(module), module) for folder in controllers for module in _modules(folder)]
        for family, name in ((DIMM_CORRECTABLE, "dimm_ce_count"), (DIMM_UNCORRECTABLE, "dimm_ue_count")):
            yield from family.by((labels, count_if_possible(module / name)) for labels, module in modules)


def _number(controller: Path) -> str:
    return controller.name.removeprefix("mc")


def _modules(controller: Path) -> list[Path]:
    """Return the folders of modules, or of ranks where the controller knows nothing else."""
    return sorted(controller.glob("dimm[0-9]*")) or sorted(controller.glob("rank[0-9]*"))


def _labels(module: Path) -> tuple[str, str, str]:
    """Return controller, name and label of a module; the label is the firmware's, such as its place on the board."""
    return _number(module.parent), module.name, read_if_possible(module / "dimm_label") or ""


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the collector of memory errors."""
    return EdacCollector(context.paths.sysfs)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return create(options, context)
