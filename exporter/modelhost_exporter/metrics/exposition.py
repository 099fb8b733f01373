"""Exposition formats: content negotiation and rendering."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import exposition as text_format
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_format
from prometheus_client.utils import floatToGoString

from modelhost_exporter.metrics.families import MeasuredMetric, labels_of
from modelhost_exporter.metrics.label_values import bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client.samples import Sample

    from modelhost_exporter.metrics.families import Family, Rows

_PLAIN_BELOW = 1e6
"""Numbers from here on have an exponent in Go's form."""
_MAX_REMEMBERED = 1 << 13


def _value(value: float) -> str:
    """Return a number as prometheus_client writes it, most of them in half the time."""
    return repr(float(value)) if -_PLAIN_BELOW < value < _PLAIN_BELOW else _go_value(value)


_go_value: Callable[[float], str] = floatToGoString


class _Families(NamedTuple):
    """Given families as a collector of prometheus_client."""

    families: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.families


class PrerenderedMetric(Metric):
    """A family with rendered lines, for values that are scraped more often than they change."""

    lines: bytes = b""


class LazyMetric(Metric):
    """A family whose samples are made when they are asked for: a page needs its lines only."""

    def __init__(
        self,
        family: Metric,
        samples: Callable[[], list[Sample]],
        lines: Callable[[bool], bytes],
    ) -> None:
        """Keep the functions that return samples and lines, those with creation times for True."""
        super().__init__(family.name, family.documentation, family.type, family.unit)
        self._make = samples
        self._made: list[Sample] | None = None
        self.lines: Callable[[bool], bytes] | None = lines
        """Returns the rendered lines; None once other samples were set."""

    @property
    def samples(self) -> list[Sample]:
        """The samples, without creation times."""
        if self._made is None:
            self._made = self._make()
        return self._made

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        self._made, self.lines = samples, None


@dataclass(frozen=True, eq=False)
class Format:
    """An exposition format: its content type, the media type and version that select it, and how it is rendered."""

    content_type: str
    media_type: str
    version: str
    generate: Callable[[_Families], bytes]
    end: bytes
    has_created: bool = False
    """Whether creation times are rendered, where they are known."""

    def render(self, families: Sequence[Metric]) -> bytes:
        """Return the families as a part of a page; raises for a value or name that cannot be rendered."""
        return b"".join(
            [
                self.head(family.name, family.documentation, family.type, family.unit) + self._lines(family)
                for family in families
            ]
        )

    def page(self, parts: Iterable[bytes]) -> bytes:
        """Join parts to a page."""
        return b"".join(parts) + self.end

    @lru_cache(maxsize=1 << 12)  # noqa: B019 - formats are three constants
    def head(self, name: str, documentation: str, kind: str, unit: str) -> bytes:
        """Return the HELP and TYPE lines of a family."""
        empty = Metric(name, documentation, kind, unit)
        return self.generate(_Families([empty])).removesuffix(self.end)

    def _lines(self, family: Metric) -> bytes:
        if isinstance(family, MeasuredMetric) and family.rows is not None:
            return _lines_of_rows(family.family, family.rows)
        if isinstance(family, PrerenderedMetric):
            return family.lines
        if isinstance(family, LazyMetric) and family.lines is not None:
            return family.lines(self.has_created)
        return write(family.samples)


def _lines_of_rows(family: Family, rows: Rows) -> bytes:
    name, labels = family.name, family.labels
    return "".join([f"{_series(name, labels, values)} {_value(value)}\n" for values, value in rows]).encode()


@lru_cache(_MAX_REMEMBERED)
def _series(name: str, labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Return a sample's name and labels as written."""
    written = ",".join([_label(*label) for label in sorted(labels_of(labels, values).items())])
    return f"{name}{{{written}}}" if written else name


def write(samples: Iterable[Sample]) -> bytes:
    """Return the lines of samples."""
    return "".join(map(_line, samples)).encode()


def _line(sample: Sample) -> str:
    """Return the line of a sample, which is the same in both formats.

    This takes a fifth of the time of prometheus_client's generators. Timestamps and exemplars are not supported: no
    family has them.
    """
    labels = ",".join([_label(*label) for label in sorted(sample.labels.items())])
    return (
        f"{sample.name}{{{labels}}} {_value(sample.value)}\n" if labels else f"{sample.name} {_value(sample.value)}\n"
    )


@lru_cache(maxsize=1 << 14)
def _label(name: str, value: str) -> str:
    """Return a label as written; every label of every page passes here, which bounds its length."""
    escaped = bounded(value).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'{name}="{escaped}"'


TEXT = Format(
    content_type="text/plain; version=0.0.4; charset=utf-8",
    media_type="text/plain",
    version="0.0.4",
    generate=text_format.generate_latest,
    end=b"",
)
OPENMETRICS = Format(
    content_type="application/openmetrics-text; version=1.0.0; charset=utf-8",
    media_type="application/openmetrics-text",
    version="1.0.0",
    generate=openmetrics_format.generate_latest,
    end=b"# EOF\n",
)
OPENMETRICS_WITH_CREATED = replace(OPENMETRICS, has_created=True)


class _Range(NamedTuple):
    """One element of an Accept header."""

    value: str
    version: str | None
    quality: float


def negotiate(accept: str, *, created: bool = False) -> Format:
    """Return the format with the highest q-value in an Accept header, the most specific range deciding each.

    OpenMetrics when its quality is higher than that of text, or equal and named explicitly; text in all other cases.
    ``created``: whether OpenMetrics is to have creation times.
    Source: RFC 9110, section 12.5.1.
    """
    ranges = _parse(accept)
    text, _ = _quality(TEXT, ranges)
    openmetrics, named = _quality(OPENMETRICS, ranges)
    if openmetrics > text or (named and openmetrics == text > 0):
        return OPENMETRICS_WITH_CREATED if created else OPENMETRICS
    return TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header accepts gzip, by its q-values."""
    qualities = {element.value: element.quality for element in _parse(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _quality(wanted: Format, ranges: Sequence[_Range]) -> tuple[float, bool]:
    """Return the q-value of a format, and whether it comes from a range that names the format."""
    exact = [r.quality for r in ranges if r.value == wanted.media_type and r.version in (None, wanted.version)]
    if exact:
        return max(exact), True
    for wildcard in (wanted.media_type.partition("/")[0] + "/*", "*/*"):
        found = [r.quality for r in ranges if r.value == wildcard]
        if found:
            return max(found), False
    return 0.0, False


def _parse(header: str) -> list[_Range]:
    return [_parse_element(element) for element in header.lower().split(",") if element.strip()]


def _parse_element(element: str) -> _Range:
    value, *parameters = (part.strip() for part in element.split(";"))
    pairs = dict(parameter.partition("=")[::2] for parameter in parameters)
    try:
        quality = float(pairs.get("q", "1"))
    except ValueError:
        quality = 0.0
    version = pairs.get("version")
    return _Range(value, version.strip('"') if version else None, quality if 0 <= quality <= 1 else 0.0)
