"""What is known of one NVIDIA GPU for as long as the driver stays open: its handle, and what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.gpu import gpm, nvidia_fields
from exporter.gpu.asker import Asker
from exporter.gpu.mig import Mig
from exporter.gpu.nvidia_fields import Questions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.gpu.nvml import Nvml
    from exporter.gpu.reading import Value


class Session:
    """One GPU's handle, and what it turned out to have; ``moved`` is what GPM added up before (see there)."""

    def __init__(
        self, generation: int, nvml: Nvml, handle: Any, clock: Callable[[], float], moved: dict[int, float]
    ) -> None:
        self.generation = generation
        self.asker = Asker(nvml.lib, handle)
        self.sampling = Asker(nvml.lib, handle)  # another thread's
        self.pcie = Questions(self.sampling, nvidia_fields.PCIE_COUNTERS)
        self.mig = Mig(self.asker, nvml, clock)
        self._probed = False
        self._readings = 0
        self.fixed: Sequence[Value] = ()
        self.questions = Questions(self.asker, ())
        self.throttle: tuple[str, int] | None = None
        self.gpm: gpm.Gpm | None = None
        self._nvml = nvml
        self._clock = clock
        self._moved = moved

    def probe(self, driver_version: str) -> None:
        """Find out what the GPU has: once, or until no answer was a failure of the moment.

        Some cards never say otherwise of a field: it is tried in the first reading, the second, the fourth and so on.
        """
        if self._probed:
            return
        self._readings += 1
        if self._readings & (self._readings - 1):
            return
        self.asker.outcomes.clear()
        counters, links = nvidia_fields.throttle_counters(driver_version), nvidia_fields.nvlinks(self.asker)
        self.questions = Questions(self.asker, (*nvidia_fields.CURRENT, *counters, *links))
        self.throttle = self._throttle_reasons()
        if self.gpm is None and gpm.is_supported(self.asker):
            self.gpm = self._new_gpm()
        self.fixed = Questions(self.asker, nvidia_fields.FIXED).ask()
        self._probed = not self.asker.unsure
        if self.asker.needs_reset:
            self._readings = 0

    def begin_anew(self) -> None:
        """Find out anew what the GPU has, in the next reading; call it inside ``using()``."""
        self._probed = False
        self._readings = 0
        self.asker.forget()
        self.sampling.forget()
        if self.gpm is not None:
            self.gpm.free()
            self.gpm = None

    def _throttle_reasons(self) -> tuple[str, int] | None:
        """Return the function that gives the current reasons, and the mask of those the GPU can give."""
        for word in ("Event", "Throttle"):  # renamed with driver 535
            supported = self.asker.call(f"nvmlDeviceGetSupportedClocks{word}Reasons")
            if supported is not None:
                return f"nvmlDeviceGetCurrentClocks{word}Reasons", supported
        return None

    def _new_gpm(self) -> gpm.Gpm:
        lib, handle = self._nvml.lib, self.asker.handle
        return gpm.Gpm(self._nvml, lambda sample: lib.nvmlGpmSampleGet(handle, sample), self._clock, self._moved)
