"""Look up samples by family name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modelhost_exporter.metrics.families import NAMESPACE, exposed_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample


class Families:
    """Families by name without the namespace; an absent family has no samples."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._samples: dict[str, Sequence[Sample]] = {exposed_name(family): family.samples for family in families}

    def samples(self, name: str) -> Iterator[Sample]:
        """Yield the samples of a family whose values are finite."""
        for sample in self._samples.get(NAMESPACE + name, ()):
            if math.isfinite(sample.value):
                yield sample

    def one(self, name: str) -> float | None:
        """Return the value of a family without labels; None where it is absent."""
        return next((sample.value for sample in self.samples(name)), None)

    def by(self, name: str, *labels: str) -> Mapping[tuple[str, ...], float]:
        """Return the sums of a family's samples grouped by some of its labels."""
        sums: dict[tuple[str, ...], float] = {}
        for sample in self.samples(name):
            key = tuple([sample.labels[label] for label in labels])
            sums[key] = sums.get(key, 0.0) + sample.value
        return sums

    def highest(self, name: str, *labels: str) -> Mapping[tuple[str, ...], float]:
        """Return the highest values of a family's samples grouped by some of its labels."""
        return self._chosen(name, labels, max)

    def lowest(self, name: str, *labels: str) -> Mapping[tuple[str, ...], float]:
        """Return the lowest values of a family's samples grouped by some of its labels."""
        return self._chosen(name, labels, min)

    def _chosen(
        self, name: str, labels: Sequence[str], choose: Callable[[float, float], float]
    ) -> Mapping[tuple[str, ...], float]:
        chosen: dict[tuple[str, ...], float] = {}
        for sample in self.samples(name):
            key = tuple([sample.labels[label] for label in labels])
            chosen[key] = choose(chosen.get(key, sample.value), sample.value)
        return chosen
