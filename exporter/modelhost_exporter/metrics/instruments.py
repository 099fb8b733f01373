"""Counters, gauges and histograms without a lock: updated by one thread at a time, read by any.

Those of prometheus_client take several times as long, which is measurable in a proxy with a dozen updates per request.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from functools import cache, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from modelhost_exporter.metrics.exposition import LazyMetric, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.metrics.families import Family


class Counter:
    """A number that only increases."""

    __slots__ = ("_value", "created")

    def __init__(self) -> None:
        self._value = 0.0
        self.created = time.time()
        """When it was 0, in seconds since 1970."""

    @property
    def value(self) -> float:
        """The current value."""
        return self._value

    def inc(self, amount: float = 1.0) -> None:
        """Add an amount."""
        self._value += amount

    def state(self) -> float | None:
        """Return what the samples are made of; equal states have equal samples."""
        return self._value

    def samples(self, state: float | None, name: str, labels: dict[str, str]) -> Iterator[Sample]:
        """Yield the one sample in a state; none in None."""
        if state is not None:
            yield Sample(name, labels, state)


class Gauge(Counter):
    """A number that increases and decreases."""

    __slots__ = ()

    def dec(self) -> None:
        """Subtract 1."""
        self._value -= 1.0

    def set(self, value: float) -> None:
        """Set the value."""
        self._value = float(value)


class OccasionalGauge(Gauge):
    """A gauge without a sample until a collection finds another value than 0; afterwards it can be 0."""

    __slots__ = ("_was_seen",)

    def __init__(self) -> None:
        super().__init__()
        self._was_seen = False

    def state(self) -> float | None:
        """Return what the samples are made of; equal states have equal samples."""
        value = self._value
        self._was_seen = self._was_seen or value != 0
        return value if self._was_seen else None


class Histogram:
    """Counts of values by upper bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum", "created")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = (*bounds, float("inf"))
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self.created = time.time()
        """When it was empty, in seconds since 1970."""

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def state(self) -> tuple[float, list[int]]:
        """Return what the samples are made of; equal states have equal samples."""
        return self._sum, self._counts.copy()

    def samples(self, state: tuple[float, list[int]], name: str, labels: dict[str, str]) -> Iterator[Sample]:
        """Yield the cumulative buckets, the count and the sum in a state; nothing before the first value."""
        sum_, counts = state
        total = 0
        if not any(counts):
            return
        for bound, total in zip(_formatted(self._bounds), accumulate(counts), strict=True):
            yield Sample(f"{name}_bucket", {**labels, "le": bound}, total)
        yield Sample(f"{name}_count", labels, total)
        yield Sample(f"{name}_sum", labels, sum_)


@cache
def _formatted(bounds: Sequence[float]) -> list[str]:
    """Return the values of the label ``le``."""
    return [floatToGoString(bound) for bound in bounds]  # type: ignore[no-untyped-call] # has no types


class _Child(Protocol):
    created: float

    def state(self) -> Any: ...

    def samples(self, state: Any, name: str, labels: dict[str, str]) -> Iterator[Sample]: ...


C = TypeVar("C", bound=_Child)


class _Lines(NamedTuple):
    """The rendered lines of a child in a state."""

    state: object
    child_created: float
    lines: bytes


def nothing_expected() -> tuple[()]:
    """Expect no series before their first use."""
    return ()


class Instrument(Generic[C]):
    """A family with one child for each combination of label values that ``labels`` was called with."""

    def __init__(
        self,
        family: Family,
        make: Callable[[], C],
        registry: CollectorRegistry,
        expected: Callable[[], Iterable[tuple[str, ...]]] = nothing_expected,
    ) -> None:
        """Register the family. ``expected`` returns label values whose series exist before their first use.

        It is called for each page, in any thread, so that these series end when it no longer returns them.
        """
        self._family = family
        self._make = make
        self._expected = expected
        self._children: dict[tuple[str, ...], C] = {}
        self._lines: dict[tuple[tuple[str, ...], bool], _Lines] = {}
        if not family.labels:
            self.labels()
        registry.register(self)

    def labels(self, *values: str) -> C:
        """Return the child with these label values; ValueError for a wrong number of values."""
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self._family.labels):
                raise ValueError(f"{self._family.name} has the labels {self._family.labels}")
            child = self._children[values] = self._make()
        return child

    def children(self, **labels: str) -> dict[tuple[str, ...], C]:
        """Return the children whose labels have these values, by all their label values."""
        wanted = [(self._family.labels.index(name), value) for name, value in labels.items()]
        return {
            values: child
            for values, child in self._children.copy().items()
            if all(values[index] == value for index, value in wanted)
        }

    def bind(self, *values: str) -> BoundChildren[C]:
        """Return the children that begin with these label values, by the remaining ones."""
        return BoundChildren(self, values)

    def remove(self, **labels: str) -> None:
        """Remove the children whose labels have these values; their series end."""
        for values in self.children(**labels):
            del self._children[values]
            for created in (False, True):
                self._lines.pop((values, created), None)

    def describe(self) -> Iterator[Metric]:
        """Yield the family without samples; the registry uses its name."""
        yield self._family.empty()

    def collect(self) -> Iterator[Metric]:
        """Yield the family with its current samples."""
        yield LazyMetric(self._family.empty(), self._samples, self._all_lines)

    def _shown(self) -> Iterator[tuple[tuple[str, ...], C]]:
        """Yield the children, and new ones for the expected series."""
        children = self._children.copy()
        yield from children.items()
        for values in self._expected():
            if values not in children:
                yield values, self._make()

    def _samples(self) -> list[Sample]:
        return [
            sample
            for values, child in self._shown()
            for sample in child.samples(child.state(), self._family.name, self._labels(values))
        ]

    def _all_lines(self, created: bool) -> bytes:
        return b"".join([self._lines_of(values, child, created=created) for values, child in self._shown()])

    def _lines_of(self, values: tuple[str, ...], child: C, *, created: bool) -> bytes:
        """Return a child's lines, rendered again only if it has changed."""
        state = child.state()
        known = self._lines.get((values, created))
        if known is not None and known.child_created == child.created and known.state == state:
            return known.lines
        samples = list(child.samples(state, self._family.name, self._labels(values)))
        if created and samples and self._family.type != "gauge" and values in self._children:
            name = f"{self._family.base_name}_created"
            samples.append(Sample(name, self._labels(values), child.created))
        lines = write(samples)
        if values in self._children:
            self._lines[values, created] = _Lines(state, child.created, lines)
            if values not in self._children:  # removed meanwhile, which may have been before the line above
                self._lines.pop((values, created), None)
        return lines

    def _labels(self, values: tuple[str, ...]) -> dict[str, str]:
        return dict(zip(self._family.labels, values, strict=True))


class BoundChildren(dict[str | tuple[str, ...], C]):
    """Children of one instrument with the same first label values, by the remaining one or by the tuple of them.

    A look-up costs a fraction of ``Instrument.labels``. What was looked up is kept: whoever removes the children from
    the instrument has to drop this mapping as well.
    """

    def __init__(self, instrument: Instrument[C], values: tuple[str, ...]) -> None:
        super().__init__()
        self._instrument = instrument
        self._values = values

    def __missing__(self, values: str | tuple[str, ...]) -> C:
        rest = (values,) if isinstance(values, str) else values
        child = self[values] = self._instrument.labels(*self._values, *rest)
        return child


def live_counter(
    family: Family,
    registry: CollectorRegistry,
    expected: Callable[[], Iterable[tuple[str, ...]]] = nothing_expected,
) -> Instrument[Counter]:
    """Return a counter; its series appear when their labels are first used, those of ``expected`` at 0 before."""
    return Instrument(family, Counter, registry, expected)


def live_gauge(family: Family, registry: CollectorRegistry) -> Instrument[Gauge]:
    """Return a gauge; its series appear when their labels are first used."""
    return Instrument(family, Gauge, registry)


def occasional_gauge(family: Family, registry: CollectorRegistry) -> Instrument[Gauge]:
    """Return a gauge; each of its series appears when a collection first finds another value than 0."""
    return Instrument(family, OccasionalGauge, registry)


def live_histogram(family: Family, registry: CollectorRegistry) -> Instrument[Histogram]:
    """Return a histogram with the bounds of its family; its series appear with their first observation."""
    return Instrument(family, partial(Histogram, family.buckets), registry)
