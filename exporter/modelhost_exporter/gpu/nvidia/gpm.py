"""What the GPU's parts really did (GPU performance monitoring: Hopper and later), between two of our own samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from modelhost_exporter.gpu.nvidia.nvml import RETRY_UNSUPPORTED_SECONDS, UNSUPPORTED, Nvml, check
from modelhost_exporter.gpu.nvidia.query import DeviceQuery, NvmlCall
from modelhost_exporter.gpu.recent_mean import RecentMean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.metrics.families import Family

SM_UTIL, SM_OCCUPANCY, ANY_TENSOR, DRAM_BANDWIDTH, PCIE_TX, PCIE_RX = 2, 3, 5, 10, 20, 21  # nvmlGpmMetricId_t
_MIB = 2**20
_MAX_PERCENT = 100.0
_MOST = dict.fromkeys((SM_UTIL, SM_OCCUPANCY, ANY_TENSOR, DRAM_BANDWIDTH), _MAX_PERCENT) | {
    PCIE_TX: 2.0**40,
    PCIE_RX: 2.0**40,
}
"""Every metric, and what it can be at most."""
_METRICS = tuple(_MOST)
_SHORTEST_SECONDS = 0.1  # below this the hardware's counters say little
_SUPPORT = NvmlCall("nvmlGpmQueryDeviceSupport")


class Gpm:
    """One GPU's, or one of its MIG instances', activity; ``take_sample(sample)`` fills a sample."""

    def __init__(
        self,
        nvml: Nvml,
        take_sample: Callable[[Any], Any],
        clock: Callable[[], float],
        moved: dict[int, float] | None = None,
    ) -> None:
        """Prepare; ``moved`` is what was moved before (see there), and is added to."""
        self._nvml = nvml
        self._lib = nvml.lib
        self._take_sample = take_sample
        self._clock = clock
        self._answered = False
        self._refused_until = -math.inf
        self._older: Any = None
        self._spare: list[Any] = []
        self._allocated: list[int] = []
        self._taken_at = 0.0
        self._request: Any = None
        self._recent = RecentMean()
        self.moved = {PCIE_TX: 0.0, PCIE_RX: 0.0} if moved is None else moved
        """Bytes moved so far, by metric: those metrics are rates."""
        self.moves: bool | None = None
        """Whether the device reports those rates; None before two samples. Once true, it stays true."""
        self.lost = False
        """Whether it answered before and does not now."""

    def read(self) -> Mapping[int, float]:
        """Return the mean of each metric (see RecentMean); nothing at first, and where there is no GPM.

        "Not supported" is believed for 10 minutes, and only where it never answered.
        """
        if self._clock() < self._refused_until:
            return {}
        self.lost = False
        try:
            self._read()
        except self._lib.NVMLError as error:
            check(error)
            self.lost = self._answered
            if error.value in UNSUPPORTED and not self._answered:
                self._refused_until = self._clock() + RETRY_UNSUPPORTED_SECONDS
                self.moves = False
            self._recent.clear()
            self._put_older(None)
        return self._recent.means()

    def free(self) -> None:
        """Free the samples of an instance that is gone; the others are freed with the library."""
        for number in self._allocated:
            self._nvml.free(number)

    def _read(self) -> None:
        now = self._clock()
        if self._older is not None and now - self._taken_at < _SHORTEST_SECONDS:
            return
        sample = self._spare.pop() if self._spare else self._new_sample()
        try:
            self._take_sample(sample)
            if self._older is not None:
                self._add(self._between(self._older, sample), now - self._taken_at)
        except self._lib.NVMLError:
            self._spare.append(sample)
            raise
        self._answered = True
        self._put_older(sample)
        self._taken_at = now

    def _new_sample(self) -> Any:
        sample = self._lib.nvmlGpmSampleAlloc()
        self._allocated.append(self._nvml.keep(self._lib.nvmlGpmSampleFree, sample))
        return sample

    def _put_older(self, sample: Any) -> None:
        if self._older is not None:
            self._spare.append(self._older)
        self._older = sample

    def _add(self, metrics: dict[int, float], seconds: float) -> None:
        self._recent.add(seconds, metrics)
        if not self.moves:
            self.moves = self.moved.keys() <= metrics.keys()
        for metric in self.moved.keys() & metrics.keys() if self.moves else ():
            self.moved[metric] += metrics[metric] * _MIB * seconds

    def _between(self, older: Any, newer: Any) -> dict[int, float]:
        request = self._request = self._request or self._new_request()
        request.sample1, request.sample2 = older, newer
        self._lib.nvmlGpmMetricsGet(request)
        answers = (request.metrics[index] for index in range(len(_METRICS)))
        return {
            answer.metricId: value
            for answer in answers
            if not answer.nvmlReturn and 0 <= (value := answer.value) <= _MOST[answer.metricId]  # not so NaN
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
    return [(family, metrics[metric] / _MAX_PERCENT) for metric, family in wanted.items() if metric in metrics]


def is_supported(query: DeviceQuery) -> bool | None:
    """Return whether a GPU supports GPM and permits its use; None when the query failed temporarily."""
    answer = query.call(_SUPPORT.function)
    if answer is None:
        return False if query.lacks(_SUPPORT) else None
    return bool(answer.isSupportedDevice)
