"""Families made of parts that are rendered ahead of the scrape, when their values change."""

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
    """Some of a family's samples, and their lines."""

    samples: Sequence[Sample]
    lines: bytes


Parts = dict[str, Part]
"""By the family's full name."""


def written(families: Iterable[Metric]) -> Parts:
    """Return families' samples with their lines; raises for values that cannot be written."""
    return {exposed_name(family): Part(family.samples, write(family.samples)) for family in families}


def joined(families: Iterable[Family], parts: Iterable[Mapping[str, Part]]) -> Iterable[Metric]:
    """Yield each family that has parts, with all of them in order."""
    all_parts = list(parts)
    for family in families:
        found = [part for of_one in all_parts if (part := of_one.get(family.name)) is not None]
        if found:
            metric = PrerenderedMetric(family.base_name, family.help, family.type)
            metric.samples = [sample for part in found for sample in part.samples]
            metric.lines = b"".join([part.lines for part in found])
            yield metric
