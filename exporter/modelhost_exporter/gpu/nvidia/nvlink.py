"""The traffic and the state of an NVIDIA GPU's NVLinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.nvidia.field_request import NvmlField
from modelhost_exporter.gpu.nvidia.measures import Measure
from modelhost_exporter.gpu.nvidia.query import NvmlCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelhost_exporter.gpu.nvidia.query import DeviceQuery
    from modelhost_exporter.metrics.families import Family

_LINK_COUNT = NvmlField(91)
_MAX_LINKS = 72
_KIBI = 1024.0


def link_measures(query: DeviceQuery) -> tuple[Measure, ...] | None:
    """Return the measures of each NVLink; None when the GPU does not report the number of links, now or ever.

    The counters of data (in KiB) are preferred; where a link has none, those of data and protocol (in bytes).
    """
    count = query.first((_LINK_COUNT,))
    if count is None:
        return None
    links = range(int(count) if count <= _MAX_LINKS else 0)
    directions = ((families.NVLINK_TRANSMITTED, 138, 202), (families.NVLINK_RECEIVED, 139, 204))
    traffic = (
        measure
        for link in links
        for family, data, everything in directions
        for measure in _traffic(query, family, str(link), NvmlField(data, link), NvmlField(everything, link))
    )
    return *traffic, *map(_state, links)


def _state(link: int) -> Measure:
    """Return the state of a link: 0 down, 1 up, 2 up and saving power."""
    sources = (NvmlField(165, link), NvmlCall("nvmlDeviceGetNvLinkState", (link,)))
    return Measure(families.NVLINK_UP, sources, labels=(str(link),), is_flag=True)


def _traffic(
    query: DeviceQuery, family: Family, link: str, data: NvmlField, everything: NvmlField
) -> Iterator[Measure]:
    """Yield the one of the two counters that this link supports; they differ in unit."""
    for field, unit in ((data, _KIBI), (everything, 1.0)):
        query.first((field,))
        if not query.is_unsupported(field):
            yield Measure(family, (field,), unit, labels=(link,))
            return
