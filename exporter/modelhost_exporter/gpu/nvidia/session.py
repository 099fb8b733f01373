"""What is known of one NVIDIA GPU for as long as the driver stays open: its handle, and what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.gpu.nvidia import fields as nvidia_fields
from modelhost_exporter.gpu.nvidia import gpm
from modelhost_exporter.gpu.nvidia.fields import MeasureBatch
from modelhost_exporter.gpu.nvidia.mig import MigInstances
from modelhost_exporter.gpu.nvidia.query import DeviceQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from modelhost_exporter.gpu.contract import Value
    from modelhost_exporter.gpu.nvidia.fields import Measure
    from modelhost_exporter.gpu.nvidia.nvml import Nvml


class DeviceSession:
    """One GPU's handle, and what it turned out to have; ``moved`` is what GPM added up before (see there)."""

    def __init__(
        self, generation: int, nvml: Nvml, handle: Any, clock: Callable[[], float], moved: dict[int, float]
    ) -> None:
        self.generation = generation
        self.query = DeviceQuery(nvml.lib, handle, clock)
        self.sampling = DeviceQuery(nvml.lib, handle, clock)  # another thread's
        self.pcie = MeasureBatch(self.sampling, nvidia_fields.PCIE_COUNTERS)
        self.mig = MigInstances(self.query, nvml, clock)
        self._probed = False
        self._readings = 0
        self._fixed: dict[tuple[str, tuple[str, ...]], Value] = {}
        self._links: Sequence[Measure] = ()
        self.measures = MeasureBatch(self.query, ())
        self.throttle: tuple[str, int] | None = None
        self.gpm: gpm.Gpm | None = None
        self._nvml = nvml
        self._clock = clock
        self._moved = moved

    @property
    def fixed(self) -> Iterable[Value]:
        """What does not change while the driver stays open."""
        return self._fixed.values()

    @property
    def lost(self) -> int:
        """How many fields answered before and failed in this reading."""
        return self.query.lost + self.sampling.lost + self.mig.lost + (self.gpm is not None and self.gpm.lost)

    def probe(self, driver_version: str) -> None:
        """Detect what the GPU supports: until no query fails temporarily, and again every 10 minutes.

        Some cards always fail temporarily for a field: it is tried in the first reading, the second, the fourth and so
        on. What succeeded before is kept where it fails now.
        """
        if self.query.is_review_due():
            self.retry_unsupported()
        if self._probed:
            return
        self._readings += 1
        if self._readings & (self._readings - 1):
            return
        self.query.begin_reading()
        counters, self._links = nvidia_fields.throttle_counters(driver_version), self._nvlinks()
        self.measures = MeasureBatch(self.query, (*nvidia_fields.CURRENT, *counters, *self._links))
        self.throttle = self._throttle_reasons() or self.throttle
        if self.gpm is None and gpm.is_supported(self.query):
            self.gpm = self._new_gpm()
        fixed = MeasureBatch(self.query, nvidia_fields.FIXED).read()
        self._fixed.update(((value.family.name, value.labels), value) for value in fixed)
        self._probed = not self.query.unsure

    def retry_unsupported(self) -> None:
        """Query again, in the next reading, what was not supported so far."""
        self.query.forget_refusals()
        self._probed = False
        self._readings = 0

    def reset(self) -> None:
        """Find out anew what the GPU has, in the next reading; call it inside ``using()``."""
        self.retry_unsupported()
        self.query.forget()
        self.sampling.forget()
        self._fixed.clear()
        self._links, self.throttle = (), None
        if self.gpm is not None:
            self.gpm.free()
            self.gpm = None

    def _nvlinks(self) -> Sequence[Measure]:
        """Return the queries of each NVLink; those of before where the GPU does not report their number now."""
        count = self.query.first((nvidia_fields.NVLINKS,))
        return self._links if count is None else nvidia_fields.nvlinks(self.query, int(count))

    def _throttle_reasons(self) -> tuple[str, int] | None:
        """Return the function that returns the current reasons, and the mask of those that the GPU supports."""
        for word in ("Event", "Throttle"):  # renamed with driver 535
            supported = self.query.call(f"nvmlDeviceGetSupportedClocks{word}Reasons")
            if supported is not None:
                return f"nvmlDeviceGetCurrentClocks{word}Reasons", supported
        return None

    def _new_gpm(self) -> gpm.Gpm:
        lib, handle = self._nvml.lib, self.query.handle
        return gpm.Gpm(self._nvml, lambda sample: lib.nvmlGpmSampleGet(handle, sample), self._clock, self._moved)
