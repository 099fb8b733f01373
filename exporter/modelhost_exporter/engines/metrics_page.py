"""Parse an engine's metrics page: only its own names, put together as the kind's label rules say.

prometheus_client's parser takes 18 ms for a vLLM page on a small machine, this one 1 ms: labels are parsed only where
they are needed.
"""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING

from modelhost_exporter.engines.label_rules import rules_of
from modelhost_exporter.engines.pages import UnexpectedContent
from modelhost_exporter.engines.snapshot import EngineHistogram
from modelhost_exporter.untrusted_json import MAX_NUMBER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from modelhost_exporter.engines.label_rules import LabelRule, LabelRules

MAX_LINE_BYTES = 4096
MAX_SAMPLES = 50_000

# what a part has matched it keeps, and a name that begins inside another is none: that makes every search linear
_LABELS = r'\{(?:[^"}]++|"(?:[^"\\]++|\\.)*+")*+\}'
_LABEL = re.compile(r'(?<!\w)([a-zA-Z_]\w*+)="((?:[^"\\]++|\\.)*+)"')
_BOUND = re.compile(r'(?:[{,]\s*+|^)le="([^"]*+)"')
_ESCAPE = re.compile(r'\\[\\"n]')
# what follows the prefix: name, labels, value, time, exemplar
_SAMPLE = re.compile(rf"(\w++)(?:[ \t]*+({_LABELS}))?[ \t]++([^\s{{}}]++)(?:[ \t]++-?\d++)?(?: # .*)?[ \t\r]*+")
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

Series = dict[str, float]  # labels as they stand on the page → value

_MAX_BOUNDS = 128  # engines have up to 35; a page that has more may mean to flood


class EnginePage:
    """The samples of one engine, by the name after its prefix.

    Lines that cannot be read or are longer than 4 kB are left out, and so are values that are NaN, negative or above
    ``MAX_NUMBER``; ``_created`` is never read.
    """

    def __init__(self, text: bytes, *prefixes: str, rules: LabelRules | None = None) -> None:
        """Read a page; of several prefixes (an engine's old and new one) the first that is on the page counts.

        ``rules`` are the metrics that are read, and how their series are put together; without them all are read, and
        their series are parts. Of a series that is there twice, which no page may have, the last counts.

        UnexpectedContent for a page with more than ``MAX_SAMPLES`` samples.
        """
        self._series: dict[str, Series] = {}
        for prefix in prefixes:
            for name, labels, value in _samples(prefix, text):
                self._series.setdefault(name, {})[labels] = value
            if self._series:
                break
        if rules is not None:
            self._series = {
                name: _ruled(series, of_metric)
                for name, series in self._series.items()
                if (of_metric := rules_of(name, rules)) is not None
            }

    def __bool__(self) -> bool:
        return bool(self._series)

    def total(self, *names: str, **labels: str) -> float | None:
        """Return the sum of the first name that is there, over the series that have these labels."""
        values = self._values(names, labels)
        return math.fsum(values) if values else None

    def ratio(self, *names: str, **labels: str) -> float | None:
        """Return the mean of the first name that is there; None when it is no ratio."""
        values = self._values(names, labels)
        mean = math.fsum(values) / len(values) if values else None
        return mean if mean is not None and mean <= 1 else None

    def by(self, label: str, *names: str) -> dict[str, float]:
        """Return sums of the first name that is there, by the values of one label; of series that have it."""
        return {key: value for (key,), value in self.grouped((label,), *names).items() if key is not None}

    def grouped(self, by: tuple[str, ...], *names: str) -> dict[tuple[str | None, ...], float]:
        """Return sums of the first name that is there, by the values of some labels; None where a series lacks one."""
        sums: dict[tuple[str | None, ...], float] = {}
        for labels, value in self._first(names):
            parsed = parse_labels(labels)
            key = tuple(parsed.get(label) for label in by)
            sums[key] = sums.get(key, 0.0) + value
        return sums

    def labels(self, *names: str) -> list[dict[str, str]]:
        """Return the labels of each series of the first name that is there."""
        return [parse_labels(labels) for labels, _ in self._first(names)]

    def split(self, label: str) -> dict[str, EnginePage]:
        """Return a page for each value of a label, of the series that have it."""
        parts: dict[str, dict[str, Series]] = {}
        for name, series in self._series.items():
            for labels, value in series.items():
                key = parse_labels(labels).get(label)
                if key is not None:
                    parts.setdefault(key, {}).setdefault(name, {})[labels] = value
        return {key: EnginePage._of(part) for key, part in parts.items()}

    @classmethod
    def _of(cls, series: dict[str, Series]) -> EnginePage:
        page = cls(b"")
        page._series = series
        return page

    def histogram(self, *names: str) -> EngineHistogram | None:
        """Return the first histogram that is there, summed bucket by bucket.

        None when it is not whole: series with different bounds, falling counts, no +Inf, a bound below 0 (OpenMetrics
        then allows no sum), too many bounds.
        """
        for name in names:
            buckets: dict[float, list[float]] = {}
            for labels, value in self._series.get(f"{name}_bucket", {}).items():
                if (bound := _bound(labels)) is not None:
                    buckets.setdefault(bound, []).append(value)
            total = self.total(f"{name}_sum")
            if buckets and total is not None and len(buckets) <= _MAX_BOUNDS:
                return _whole(buckets, total)
        return None

    def _first(self, names: Iterable[str]) -> list[tuple[str, float]]:
        return next((list(self._series[name].items()) for name in names if name in self._series), [])

    def _values(self, names: Iterable[str], wanted: dict[str, str]) -> list[float]:
        series = self._first(names)
        if not wanted:
            return [value for _, value in series]
        return [value for labels, value in series if wanted.items() <= parse_labels(labels).items()]


def parse_labels(labels: str) -> dict[str, str]:
    """Return the labels of a sample, unescaped."""
    return {
        name: _ESCAPE.sub(lambda found: _ESCAPES[found[0]], value) if "\\" in value else value
        for name, value in _LABEL.findall(labels)
    }


def _samples(prefix: str, page: bytes) -> Iterator[tuple[str, str, float]]:
    """Yield name without prefix, labels and value. Line by line: one search of a whole page holds up every thread."""
    start = prefix.encode()
    count = 0
    for line in io.BytesIO(page):
        if len(line) > MAX_LINE_BYTES or not line.startswith(start):
            continue
        found = _SAMPLE.fullmatch(line[len(start) :].decode("utf-8", "replace").removesuffix("\n"))
        if found is None:
            continue
        count += 1
        if count > MAX_SAMPLES:
            raise UnexpectedContent(f"a page of metrics with more than {MAX_SAMPLES} samples of {prefix}")
        name, labels, written = found.groups("")
        try:
            value = float(written)
        except ValueError:
            continue
        if 0 <= value <= MAX_NUMBER:
            yield name, labels, value


def _ruled(series: Series, rules: Mapping[str, LabelRule]) -> Series:
    """Return the series that count; of copies one, with the largest of their values."""
    chosen = {label: rule.chosen for label, rule in rules.items() if rule.chosen}
    copies = {label for label, rule in rules.items() if rule.is_copy}
    if not chosen and not copies:
        return series
    merged: Series = {}
    for labels, value in series.items():
        pairs = _LABEL.findall(labels)
        if any(name in chosen and written not in chosen[name] for name, written in pairs):
            continue
        kept = ",".join(f'{name}="{written}"' for name, written in pairs if name not in copies)
        merged[kept] = max(value, merged.get(kept, 0.0))
    return merged


def _bound(labels: str) -> float | None:
    found = _BOUND.search(labels)
    try:
        bound = float(found[1]) if found else math.nan
    except ValueError:
        return None
    return None if math.isnan(bound) else bound


def _whole(buckets: dict[float, list[float]], total: float) -> EngineHistogram | None:
    summed = tuple((bound, math.fsum(buckets[bound])) for bound in sorted(buckets))
    counts = [count for _, count in summed]
    same = len({len(values) for values in buckets.values()}) == 1
    if not same or counts != sorted(counts) or summed[0][0] < 0 or summed[-1][0] != math.inf:
        return None
    return EngineHistogram(summed, total)
