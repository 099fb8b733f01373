"""Declarations of metric families.

Collectors, the tables in the documents and the golden list use the same declaration, so that name, labels and HELP
cannot differ between them.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAMESPACE = "modelhost_"

Combine = Literal["", "sum", "max", "min", "each"]
"""How the values of a server's replicas become one: added up, the highest, the lowest, or not at all (each)."""

Rows = list[tuple[tuple[str, ...], float]]
"""Values by label values."""

_COUNTER_SUFFIX = "_total"

_MAX_REMEMBERED = 10_000
_MAX = sys.float_info.max
_ESCAPE = re.compile(r"[\ud800-\udfff]|\\(?:x[0-9a-f]{2}|u[0-9a-f]{4})")


@dataclass(frozen=True)
class Family:
    """A declared metric family: its full name as scraped, type, HELP and label names."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, without +Inf."""
    note: str = ""
    """Text that docs/metrics.md appends to HELP."""
    combine: Combine = ""
    """How dashboards and alerts put replicas together; empty for a family without the label ``upstream``."""

    @cached_property
    def base_name(self) -> str:
        """The name that ``prometheus_client`` uses for the family: a counter's without ``_total``."""
        return self.name.removesuffix(_COUNTER_SUFFIX)

    def empty(self) -> Metric:
        """Return the family without samples."""
        return Metric(self.base_name, self.help, self.type)

    def of(self, value: float | None) -> Iterator[Metric]:
        """Yield the family with one sample without labels; yield nothing when the value is not known (None)."""
        return self.by([((), value)])

    def by(self, samples: Iterable[tuple[tuple[str, ...], float | None]]) -> Iterator[Metric]:
        """Yield the family with one sample for each (label values, value).

        Unknown (None) and impossible values are left out: NaN, infinity, counters below 0. Yield nothing when no sample
        remains, since a missing series is better than a wrong 0.
        """
        least = 0.0 if self.type == "counter" else -_MAX
        rows = [(values, value) for values, value in samples if value is not None and least <= value <= _MAX]
        if rows:
            yield MeasuredMetric(self, rows)


class MeasuredMetric(Metric):
    """A declared family with values; its samples are made when they are asked for, since a page needs lines only."""

    def __init__(self, family: Family, rows: Rows) -> None:
        """Keep the values. Metric's constructor would check the declared name each time."""
        self.name, self.documentation, self.type, self.unit = family.base_name, family.help, family.type, ""
        self.family = family
        self.rows: Rows | None = rows
        """The values by label values; None once other samples were set."""
        self._made: list[Sample] | None = None

    @property
    def samples(self) -> list[Sample]:
        """The samples."""
        if self._made is None:
            name, labels = self.family.name, self.family.labels
            self._made = [Sample(name, labels_of(labels, values), value) for values, value in self.rows or ()]
        return self._made

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        self._made, self.rows = samples, None


def gauge(name: str, help_text: str, *labels: str, note: str = "", combine: Combine = "") -> Family:
    """Declare a gauge ``modelhost_NAME``."""
    return Family(NAMESPACE + name, "gauge", help_text, labels, note=note, combine=combine)


def counter(name: str, help_text: str, *labels: str, note: str = "", combine: Combine = "") -> Family:
    """Declare a counter ``modelhost_NAME_total``."""
    full_name = f"{NAMESPACE}{name}{_COUNTER_SUFFIX}"
    return Family(full_name, "counter", help_text, labels, note=note, combine=combine)


def histogram(
    name: str, help_text: str, buckets: tuple[float, ...], *labels: str, note: str = "", combine: Combine = ""
) -> Family:
    """Declare a histogram ``modelhost_NAME``."""
    return Family(NAMESPACE + name, "histogram", help_text, labels, buckets, note, combine)


def exposed_name(metric: Metric) -> str:
    """Return a family's name as scraped: a counter's with ``_total``, which ``prometheus_client`` leaves out."""
    return metric.name + _COUNTER_SUFFIX if metric.type == "counter" else metric.name


@lru_cache(_MAX_REMEMBERED)
def labels_of(names: tuple[str, ...], values: tuple[str, ...]) -> dict[str, str]:
    """Return the labels of a sample; cached, so that scrapes share one object, which must not be changed."""
    return dict(zip(names, map(_printable, values), strict=True))


def _printable(value: str) -> str:
    r"""Return a label value that can be encoded as UTF-8; different values stay different.

    Names from the kernel (mount points, devices) are bytes. Python decodes invalid ones to lone surrogates, with which
    the whole page could not be encoded; they are escaped as ``\xff``. Names from clients (JSON) may contain other lone
    surrogates, escaped as ``\ud800``. In such names, and in those that already contain such an escape, a backslash is
    doubled: otherwise two mount points could become two series with the same labels.
    """
    if value.isascii() and "\\" not in value:
        return value
    if _ESCAPE.search(value) is None:
        return value
    value = value.replace("\\", r"\\")
    try:
        raw = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace")
