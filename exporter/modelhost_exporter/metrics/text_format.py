"""Parse Prometheus' text format strictly, in time that is linear in its length."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from prometheus_client.samples import Sample

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_META = re.compile(rf"# (HELP|TYPE) ({_NAME})(?: (.*))?", re.ASCII)
# what a part has matched it keeps (++, *+), which makes every match linear
_SAMPLE = re.compile(
    rf'({_NAME})(?:[ \t]*+\{{((?:[^"}}]++|"(?:[^"\\]++|\\.)*+")*+)\}}[ \t]*+|[ \t]++)([^\s{{}}]++)[ \t]*+(\S*+)'
)
_LABEL = re.compile(r'[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\\n]++|\\[\\"n])*+)"[ \t]*+(?:,|$)')
_VALUE = re.compile(r"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?|[+-]?Inf|NaN", re.ASCII)
_ESCAPE = re.compile(r'\\([\\"n])')
_TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
_SHOWN_CHARACTERS = 80

Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name and sorted labels."""


@dataclass
class ParsedFamily:
    """A family of a text: its name as written, type, HELP (None where there is none) and samples."""

    name: str
    type: str = "untyped"
    help: str | None = None
    samples: list[Sample] = field(default_factory=list)

    def names(self) -> set[str]:
        """Return the names that the family occupies on a page."""
        return {self.name, *(self.name + suffix for suffix in _SUFFIXES.get(self.type, ()))}


def parse_text(text: str) -> dict[str, ParsedFamily]:
    """Return the families by name; ValueError, with the line's number, for anything that is not allowed.

    That is also a sample with a time, a series that is there twice, and a family whose samples are apart.
    """
    families: dict[str, ParsedFamily] = {}
    series: set[Series] = set()
    for number, line in enumerate(text.split("\n"), 1):
        try:
            _parse_line(line.strip(" \t\r"), families, series)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}: {line[:_SHOWN_CHARACTERS]!r}") from None
    return {name: family for name, family in families.items() if family.samples}


def series_of(sample: Sample) -> Series:
    """Return what distinguishes a sample's series from all others."""
    return sample.name, tuple(sorted(sample.labels.items()))


def _parse_line(line: str, families: dict[str, ParsedFamily], series: set[Series]) -> None:
    if line.startswith("#"):
        _parse_comment(line, families)
        return
    if not line:
        return
    sample = _parse_sample(line)
    if series_of(sample) in series:
        raise ValueError("the series is there twice")
    series.add(series_of(sample))
    _family_of(sample.name, families).samples.append(sample)


def _parse_comment(line: str, families: dict[str, ParsedFamily]) -> None:
    found = _META.fullmatch(line)
    if found is None:  # any other comment
        return
    kind, name, text = found[1], found[2], found[3] or ""
    family = families.setdefault(name, ParsedFamily(name))
    if kind == "HELP":
        family.help = _ESCAPE.sub(lambda escape: {"n": "\n"}.get(escape[1], escape[1]), text)
        return
    if text not in _TYPES:
        raise ValueError("an unknown type")
    if family.samples:
        raise ValueError("the type is below its samples")
    family.type = text


def _parse_sample(line: str) -> Sample:
    found = _SAMPLE.fullmatch(line)
    if found is None:
        raise ValueError("no sample")
    name, labels, value, timestamp = found.groups()
    if timestamp:
        raise ValueError("a sample with a time, which is not supported")
    if not _VALUE.fullmatch(value):
        raise ValueError("no value")
    return Sample(name, _parse_labels(labels or ""), float(value))


def _parse_labels(text: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    at = 0
    while at < len(text.rstrip(" \t")):
        found = _LABEL.match(text, at)
        if found is None or found[1] in labels or found[1] == "__name__":
            raise ValueError("labels that are not allowed")
        labels[found[1]] = _ESCAPE.sub(lambda escape: {"n": "\n"}.get(escape[1], escape[1]), found[2])
        at = found.end()
    return labels


def _family_of(name: str, families: dict[str, ParsedFamily]) -> ParsedFamily:
    """Return the family of a sample, which for a histogram or summary has the name without a suffix."""
    for kind, suffixes in _SUFFIXES.items():
        for suffix in suffixes:
            base = families.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
            if base is not None and base.type == kind:
                return base
    return families.setdefault(name, ParsedFamily(name))
