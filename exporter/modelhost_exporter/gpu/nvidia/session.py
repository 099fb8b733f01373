"""One NVIDIA GPU while the driver stays open: its handle, and the fields that it was detected to support."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.gpu.nvidia import fields, gpm, nvlink, throttling
from modelhost_exporter.gpu.nvidia.measures import MeasureBatch
from modelhost_exporter.gpu.nvidia.mig import MigInstances
from modelhost_exporter.gpu.nvidia.query import DeviceQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from modelhost_exporter.gpu.contract import Value
    from modelhost_exporter.gpu.nvidia.measures import Measure
    from modelhost_exporter.gpu.nvidia.nvml import Nvml


class DeviceSession:
    """One GPU's handle in one generation of the library, and what it supports.

    ``transferred`` are the bytes by GPM metric that earlier sessions counted; this one adds to them.
    """

    def __init__(
        self, generation: int, nvml: Nvml, handle: Any, clock: Callable[[], float], transferred: dict[int, float]
    ) -> None:
        self.generation = generation
        self.query = DeviceQuery(nvml.lib, handle, clock)
        self.sampling_query = DeviceQuery(nvml.lib, handle, clock)  # used by another thread
        self.pcie_counters = MeasureBatch(self.sampling_query, fields.PCIE_COUNTERS)
        self.mig = MigInstances(self.query, nvml, clock)
        self._probed = False
        self._readings = 0
        self._fixed: dict[tuple[str, tuple[str, ...]], Value] = {}
        self._links: Sequence[Measure] = ()
        self.measures = MeasureBatch(self.query, ())
        self.throttle_reasons: throttling.ThrottleReasons | None = None
        self.gpm: gpm.Gpm | None = None
        self._nvml = nvml
        self._clock = clock
        self._transferred = transferred

    @property
    def fixed(self) -> Iterable[Value]:
        """The values that do not change while the driver stays open."""
        return self._fixed.values()

    @property
    def lost(self) -> int:
        """Number of fields that succeeded before and failed in this reading."""
        return self.query.lost + self.sampling_query.lost + self.mig.lost + (self.gpm is not None and self.gpm.lost)

    def probe(self, driver_version: str) -> None:
        """Detect what the GPU supports: until no query fails temporarily, and again every 10 minutes.

        Some cards always fail temporarily for a field: it is tried in the first reading, the second, the fourth and so
        on. A result that succeeded before is kept if it fails now.
        """
        if self.query.review_unsupported():
            self._probe_again()
        if self._probed:
            return
        self._readings += 1
        if self._readings & (self._readings - 1):  # not a power of two
            return
        self.query.begin_reading()
        links = nvlink.link_measures(self.query)
        self._links = self._links if links is None else links
        counters = throttling.throttle_counters(driver_version)
        self.measures = MeasureBatch(self.query, (*fields.CURRENT, *counters, *self._links))
        self.throttle_reasons = throttling.supported_reasons(self.query) or self.throttle_reasons
        if self.gpm is None and gpm.is_supported(self.query):
            self.gpm = self._new_gpm()
        fixed = MeasureBatch(self.query, fields.FIXED).read()
        self._fixed.update(((value.family.name, value.labels), value) for value in fixed)
        self._probed = not self.query.failed_temporarily

    def retry_unsupported(self) -> None:
        """Query again, in the next reading, the fields that were not supported."""
        self.query.retry_unsupported()
        self._probe_again()

    def reset(self) -> None:
        """Detect everything again in the next reading; call it inside ``Nvml.using()``."""
        self._probe_again()
        self.query.reset()
        self.sampling_query.reset()
        self._fixed.clear()
        self._links, self.throttle_reasons = (), None
        if self.gpm is not None:
            self.gpm.free()
            self.gpm = None

    def _probe_again(self) -> None:
        self._probed = False
        self._readings = 0

    def _new_gpm(self) -> gpm.Gpm:
        lib, handle = self._nvml.lib, self.query.handle
        return gpm.Gpm(self._nvml, lambda sample: lib.nvmlGpmSampleGet(handle, sample), self._clock, self._transferred)
