"""Metrics of collectors and pages, as plain dictionaries that a test can compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.metrics.families import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.collector import Collector

Readings = dict[str, dict[tuple[str, ...], float]]


def readings(families: Iterable[Metric]) -> Readings:
    """Return sample name, without the namespace, → label values → value; fails for a duplicate series.

    An empty label ``upstream`` is left out, as Prometheus does with every empty one.
    """
    read: Readings = {}
    for family in families:
        for sample in family.samples:
            series = read.setdefault(sample.name.removeprefix(NAMESPACE), {})
            labels = tuple(value for name, value in sample.labels.items() if name != "upstream" or value)
            assert labels not in series, f"{sample.name}{labels} stands twice"
            series[labels] = sample.value
    return read


def readings_or_reason(collector: Collector) -> Readings | str:
    """Return a collector's readings, or the reason why it is unavailable on this machine."""
    try:
        return readings(collector.collect())
    except Unavailable as reason:
        return str(reason)


class Page:
    """A scraped page of any exporter."""

    def __init__(self, text: str) -> None:
        self._samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def by(self, name: str, *labels: str, where: Mapping[str, str] | None = None) -> dict[tuple[str, ...], float]:
        """Return the samples of one name by the values of these labels; ``where`` filters by other labels."""
        return {
            tuple(of[label] for label in labels): value
            for sample_name, of, value in self._samples
            if sample_name == name and all(of[label] == wanted for label, wanted in (where or {}).items())
        }

    def one(self, name: str) -> float:
        """Return the value of a name that has one sample."""
        ((value),) = self.by(name).values()
        return value
