"""What the labels of an engine's metrics mean for its series: the tables in the kinds' files are made of these rules.

A metric with several series is read as one number. Whether they are parts of it, copies of it, or parts beside their
total differs from label to label, and cannot be seen on the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class LabelRule(NamedTuple):
    """What the values of one label of a metric mean."""

    is_copy: bool = False
    """Whether series that only differ in this label report the same work: the largest counts."""
    chosen: frozenset[str] = frozenset()
    """The values that count; empty for all of them. A series without the label always counts."""


PART = LabelRule()
"""The series are parts of the whole: numbers and buckets are added up, ratios averaged."""

COPY = LabelRule(is_copy=True)
"""The series report the same: the largest counts."""

LabelRules = Mapping[str, Mapping[str, LabelRule]]
"""The rules of a kind: metric (without prefix, a histogram without _bucket) → label → rule.

It lists every metric that the kind reads; others are left out. A label that is not listed is one of parts.
"""

_HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")


def only(*values: str) -> LabelRule:
    """Return the rule that series with these values of the label count, and no others."""
    return LabelRule(chosen=frozenset(values))


def parts(*labels: str) -> dict[str, LabelRule]:
    """Return the rules of labels that are all ones of parts."""
    return dict.fromkeys(labels, PART)


def each(metrics: Iterable[str], rules: Mapping[str, LabelRule]) -> LabelRules:
    """Return the same rules for each of these metrics."""
    return dict.fromkeys(metrics, rules)


def rules_of(sample: str, table: LabelRules) -> Mapping[str, LabelRule] | None:
    """Return the rules of a sample's metric; None for one that is not in the table."""
    if sample in table:
        return table[sample]
    for suffix in _HISTOGRAM_SUFFIXES:
        if sample.endswith(suffix):
            return table.get(sample.removesuffix(suffix))
    return None
