"""Parts of families that are rendered when their values change, before the scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.metrics.exposition import PrerenderedMetric, write
from modelhost_exporter.metrics.families import exposed_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample

    from modelhost_exporter.metrics.families import Family


class Part(NamedTuple):
    """Some samples of a family, and their rendered lines."""

    samples: Sequence[Sample]
    lines: bytes


Parts = dict[str, Part]
"""Parts by the full name of the family."""


def written(families: Iterable[Metric]) -> Parts:
    """Return the samples of families with their lines; raises for values that cannot be rendered."""
    return {exposed_name(family): Part(family.samples, write(family.samples)) for family in families}


def joined(families: Iterable[Family], parts: Iterable[Mapping[str, Part]]) -> Iterable[Metric]:
    """Yield each family that has parts, with all its parts in order."""
    all_parts = list(parts)
    for family in families:
        found = [part for of_one in all_parts if (part := of_one.get(family.name)) is not None]
        if found:
            metric = PrerenderedMetric(family.base_name, family.help, family.type)
            metric.samples = [sample for part in found for sample in part.samples]
            metric.lines = b"".join([part.lines for part in found])
            yield metric
