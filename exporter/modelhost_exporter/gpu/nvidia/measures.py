"""Measures: series whose value comes from a field or a function of NVML, and their reading in one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.nvidia.field_request import FieldRequest, NvmlField
from modelhost_exporter.gpu.nvidia.query import FIRST_BLANK, DeviceQuery, NvmlCall, ValueSource, is_blank

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelhost_exporter.metrics.families import Family


@dataclass(frozen=True)
class Measure:
    """One series: the sources of its raw value, best first, the raw value's unit, and its bounds in base units."""

    family: Family
    sources: tuple[ValueSource, ...]
    unit: float = 1.0
    maximum: float | None = None
    labels: tuple[str, ...] = ()
    minimum: float = 0.0
    is_flag: bool = False
    """Whether the value is 1 for every raw value but 0."""

    def read(self, query: DeviceQuery) -> Value | None:
        """Query the value; None when the device has none, or one that is out of bounds."""
        return self.value_of(query.first(self.sources))

    def value_of(self, raw: float | None) -> Value | None:
        """Return a raw value in base units; None for a blank one, or one that is out of bounds."""
        if raw is None or (raw >= FIRST_BLANK and is_blank(raw)):
            return None
        number = float(raw != 0) if self.is_flag else raw * self.unit
        if number < self.minimum or (self.maximum is not None and number > self.maximum):
            return None
        return Value(self.family, self.labels, number)


class MeasureBatch:
    """Measures that are read from one device repeatedly, each from the best source that the device supports."""

    def __init__(self, query: DeviceQuery, measures: Iterable[Measure]) -> None:
        self._query = query
        self._measures = tuple(measures)
        self._by_field: list[tuple[Measure, NvmlField]] = []
        self._by_call: list[tuple[Measure, NvmlCall]] = []
        self._request = FieldRequest(query.lib, [])
        self._revision = -1

    def read(self) -> list[Value]:
        """Return the values that the device supports; all fields are queried in one call."""
        if self._revision != self._query.revision:
            self._choose_sources()
        raw_values = self._query.fields(self._request)
        values = [measure.value_of(raw) for (measure, _), raw in zip(self._by_field, raw_values, strict=True)]
        values.extend(measure.value_of(self._query.number(call)) for measure, call in self._by_call)
        if self._revision != self._query.revision:  # a source turned out to be unsupported: try the next ones
            queried: list[tuple[Measure, ValueSource]] = [*self._by_field, *self._by_call]
            values.extend(
                measure.read(self._query) for measure, source in queried if self._query.is_unsupported(source)
            )
        return [value for value in values if value is not None]

    def _choose_sources(self) -> None:
        chosen = [(measure, self._query.first_supported(measure.sources)) for measure in self._measures]
        self._by_field = [(measure, source) for measure, source in chosen if isinstance(source, NvmlField)]
        self._by_call = [(measure, source) for measure, source in chosen if isinstance(source, NvmlCall)]
        self._request = FieldRequest(self._query.lib, [field for _, field in self._by_field])
        self._revision = self._query.revision
