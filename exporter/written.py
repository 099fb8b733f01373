"""Families whose lines are written ahead of the scrape: what is heard once and scraped often is rendered once."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client.samples import Sample

    from exporter.families import Family


class _One(NamedTuple):
    """A collector in prometheus_client's sense, of one family."""

    family: Metric

    def collect(self) -> Sequence[Metric]:
        return [self.family]


class Part(NamedTuple):
    """Some of a family's samples, and the lines that text 0.0.4 and OpenMetrics both write for them."""

    samples: Sequence[Sample]
    lines: bytes


Parts = dict[str, Part]
"""By the family's full name."""


class Written(Metric):
    """A family made of parts that are written already."""

    def __init__(self, family: Family, parts: Sequence[Part]) -> None:
        super().__init__(family.name.removesuffix("_total"), family.help, family.type)
        self.parts = parts
        self.samples = [sample for part in parts for sample in part.samples]

    def render(self, generate: Callable[[_One], bytes], end: bytes) -> bytes:
        """Return the family's part of a page in the format that ``generate`` writes, less its ``end``."""
        head = _head(generate, end, self.name, self.documentation, self.type)
        return head + b"".join(part.lines for part in self.parts)


def write(families: Iterable[Metric]) -> Parts:
    """Write families' samples; ValueError and the like for values that cannot be written."""
    parts: Parts = {}
    for family in families:
        text = generate_latest(_One(family))
        head = generate_latest(_One(Metric(family.name, family.documentation, family.type)))
        name = family.name + "_total" if family.type == "counter" else family.name
        parts[name] = Part(family.samples, text.removeprefix(head))
    return parts


def joined(families: Iterable[Family], parts: Iterable[Mapping[str, Part]]) -> Iterable[Metric]:
    """Yield each family that has parts, with all of them in order."""
    all_parts = list(parts)
    for family in families:
        found = [part for of_one in all_parts if (part := of_one.get(family.name)) is not None]
        if found:
            yield Written(family, found)


@cache
def _head(generate: Callable[[_One], bytes], end: bytes, name: str, documentation: str, kind: str) -> bytes:
    return generate(_One(Metric(name, documentation, kind))).removesuffix(end)
