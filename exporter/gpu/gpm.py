"""What the GPU's parts really did (GPU performance monitoring: Hopper and later), between two of our own samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.gpu.nvml import UNSUPPORTED, check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.families import Family

SM_UTIL, SM_OCCUPANCY, ANY_TENSOR, DRAM_BANDWIDTH, PCIE_TX, PCIE_RX = 2, 3, 5, 10, 20, 21  # nvmlGpmMetricId_t
_METRICS = (SM_UTIL, SM_OCCUPANCY, ANY_TENSOR, DRAM_BANDWIDTH, PCIE_TX, PCIE_RX)
_MIB = 2**20
_MOST_PERCENT = 100.0
_SHORTEST_SECONDS = 0.1  # below this the hardware's counters say little


class Gpm:
    """One GPU's, or one of its MIG instances', activity; ``take_sample(lib, sample)`` fills a sample."""

    def __init__(
        self,
        lib: Any,
        take_sample: Callable[[Any], Any],
        clock: Callable[[], float],
        moved: dict[int, float] | None = None,
    ) -> None:
        """Prepare; ``moved`` is what was moved before (see there), and is added to."""
        self._lib = lib
        self._take_sample = take_sample
        self._clock = clock
        self._supported = True
        self._older: Any = None
        self._newer: Any = None
        self._taken_at = 0.0
        self._request: Any = None
        self._metrics: dict[int, float] = {}
        self.moved = {PCIE_TX: 0.0, PCIE_RX: 0.0} if moved is None else moved
        """Bytes moved so far, by metric: those metrics are rates."""
        self.moves: bool | None = None
        """Whether it tells those rates; None before two samples, and then settled: one bad sample adds nothing."""

    def read(self) -> Mapping[int, float]:
        """Return the mean of each metric since the reading before; nothing at first, and where there is no GPM."""
        if not self._supported:
            return {}
        try:
            self._read()
        except self._lib.NVMLError as error:
            check(error)
            self._supported = error.value not in UNSUPPORTED
            self.moves = self.moves if self._supported else False
            self._metrics = {}
            self._older = None
        return self._metrics

    def _read(self) -> None:
        now = self._clock()
        if self._older is not None and now - self._taken_at < _SHORTEST_SECONDS:
            return
        sample = self._newer if self._newer is not None else self._lib.nvmlGpmSampleAlloc()
        self._newer = sample
        self._take_sample(sample)
        if self._older is not None:
            self._metrics = self._between(self._older, sample)
            if self.moves is None:
                self.moves = self.moved.keys() <= self._metrics.keys()
            for metric in self.moved.keys() & self._metrics.keys() if self.moves else ():
                self.moved[metric] += self._metrics[metric] * _MIB * (now - self._taken_at)
        self._older, self._newer, self._taken_at = sample, self._older, now

    def _between(self, older: Any, newer: Any) -> dict[int, float]:
        request = self._request = self._request or self._new_request()
        request.sample1, request.sample2 = older, newer
        self._lib.nvmlGpmMetricsGet(request)
        answers = (request.metrics[index] for index in range(len(_METRICS)))
        return {
            answer.metricId: value for answer in answers if not answer.nvmlReturn and _is_sane(value := answer.value)
        }

    def _new_request(self) -> Any:
        request = self._lib.c_nvmlGpmMetricsGet_t()
        request.version = self._lib.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(_METRICS)
        for index, metric in enumerate(_METRICS):
            request.metrics[index].metricId = metric
        return request


def ratios(metrics: Mapping[int, float], wanted: Mapping[int, Family]) -> list[tuple[Family, float]]:
    """Return the metrics that are percentages as ratios, by family."""
    return [
        (family, metrics[metric] / _MOST_PERCENT)
        for metric, family in wanted.items()
        if metric in metrics and metrics[metric] <= _MOST_PERCENT
    ]


def _is_sane(value: float) -> bool:
    """Tell whether a value is a number that hardware can reach; NaN compares with nothing."""
    return 0 <= value < 2**40


def is_supported(lib: Any, handle: Any) -> bool:
    """Tell whether a GPU has GPM and lets us use it."""
    try:
        return bool(lib.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice)
    except lib.NVMLError as error:
        check(error)
        return False
