"""GPU performance monitoring (GPM; Hopper and later): means over the time between two samples of the exporter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from modelhost_exporter.gpu.nvidia.errors import RETRY_UNSUPPORTED_SECONDS, UNSUPPORTED, check
from modelhost_exporter.gpu.nvidia.query import DeviceQuery, NvmlCall
from modelhost_exporter.gpu.recent_mean import RecentMean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.gpu.nvidia.nvml import Nvml
    from modelhost_exporter.metrics.families import Family

SM_UTIL, SM_OCCUPANCY, ANY_TENSOR, DRAM_BANDWIDTH, PCIE_TX, PCIE_RX = 2, 3, 5, 10, 20, 21  # nvmlGpmMetricId_t
_MIB = 2**20
_MAX_PERCENT = 100.0
_MAXIMUM = dict.fromkeys((SM_UTIL, SM_OCCUPANCY, ANY_TENSOR, DRAM_BANDWIDTH), _MAX_PERCENT) | {
    PCIE_TX: 2.0**40,
    PCIE_RX: 2.0**40,
}
"""Every metric, and its highest possible value: percent, or MiB/s."""
_METRICS = tuple(_MAXIMUM)
_MIN_SECONDS = 0.1  # over less time the hardware's counters are too coarse
_SUPPORT = NvmlCall("nvmlGpmQueryDeviceSupport")


class Gpm:
    """The GPM of one GPU or MIG instance."""

    def __init__(
        self,
        nvml: Nvml,
        take_sample: Callable[[Any], Any],
        clock: Callable[[], float],
        transferred: dict[int, float] | None = None,
    ) -> None:
        """Prepare; ``take_sample`` fills a sample, and the bytes in ``transferred`` are added to."""
        self._nvml = nvml
        self._lib = nvml.lib
        self._take_sample = take_sample
        self._clock = clock
        self._succeeded = False
        self._unsupported_until = -math.inf
        self._older: Any = None
        self._spare: list[Any] = []
        self._allocated: list[int] = []
        self._taken_at = 0.0
        self._request: Any = None
        self._recent = RecentMean()
        self.transferred = {PCIE_TX: 0.0, PCIE_RX: 0.0} if transferred is None else transferred
        """Bytes transferred so far, by metric: summed from the rates that GPM reports."""
        self.reports_traffic: bool | None = None
        """Whether the device reports those rates; None before two samples. Once True, it stays True."""
        self.lost = False
        """Whether it succeeded before and failed in this reading."""

    def read(self) -> Mapping[int, float]:
        """Return the mean of each metric (see RecentMean); nothing before two samples, and where GPM is unsupported.

        "Not supported" counts for 10 minutes, and only where no sample ever succeeded.
        """
        if self._clock() < self._unsupported_until:
            return {}
        self.lost = False
        try:
            self._read()
        except self._lib.NVMLError as error:
            check(error)
            self.lost = self._succeeded
            if error.value in UNSUPPORTED and not self._succeeded:
                self._unsupported_until = self._clock() + RETRY_UNSUPPORTED_SECONDS
                self.reports_traffic = False
            self._recent.clear()
            self._set_older(None)
        return self._recent.means()

    def free(self) -> None:
        """Free the samples now, for an instance that is gone; others are freed when the library is shut down."""
        for number in self._allocated:
            self._nvml.free(number)

    def _read(self) -> None:
        now = self._clock()
        if self._older is not None and now - self._taken_at < _MIN_SECONDS:
            return
        sample = self._spare.pop() if self._spare else self._new_sample()
        try:
            self._take_sample(sample)
            if self._older is not None:
                self._add(self._between(self._older, sample), now - self._taken_at)
        except self._lib.NVMLError:
            self._spare.append(sample)
            raise
        self._succeeded = True
        self._set_older(sample)
        self._taken_at = now

    def _new_sample(self) -> Any:
        sample = self._lib.nvmlGpmSampleAlloc()
        self._allocated.append(self._nvml.keep(self._lib.nvmlGpmSampleFree, sample))
        return sample

    def _set_older(self, sample: Any) -> None:
        if self._older is not None:
            self._spare.append(self._older)
        self._older = sample

    def _add(self, metrics: dict[int, float], seconds: float) -> None:
        self._recent.add(seconds, metrics)
        if not self.reports_traffic:
            self.reports_traffic = self.transferred.keys() <= metrics.keys()
        for metric in self.transferred.keys() & metrics.keys() if self.reports_traffic else ():
            self.transferred[metric] += metrics[metric] * _MIB * seconds

    def _between(self, older: Any, newer: Any) -> dict[int, float]:
        request = self._request = self._request or self._new_request()
        request.sample1, request.sample2 = older, newer
        self._lib.nvmlGpmMetricsGet(request)
        results = (request.metrics[index] for index in range(len(_METRICS)))
        return {
            result.metricId: value
            for result in results
            if not result.nvmlReturn and 0 <= (value := result.value) <= _MAXIMUM[result.metricId]  # leaves out NaN
        }

    def _new_request(self) -> Any:
        request = self._lib.c_nvmlGpmMetricsGet_t()
        request.version = self._lib.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(_METRICS)
        for index, metric in enumerate(_METRICS):
            request.metrics[index].metricId = metric
        return request


def ratios(metrics: Mapping[int, float], wanted: Mapping[int, Family]) -> list[tuple[Family, float]]:
    """Return the wanted metrics, which are percentages, as ratios by family."""
    return [(family, metrics[metric] / _MAX_PERCENT) for metric, family in wanted.items() if metric in metrics]


def is_supported(query: DeviceQuery) -> bool | None:
    """Return whether a GPU supports GPM and permits it; None when the query failed temporarily."""
    support = query.call(_SUPPORT.function)
    if support is None:
        return False if query.is_unsupported(_SUPPORT) else None
    return bool(support.isSupportedDevice)
