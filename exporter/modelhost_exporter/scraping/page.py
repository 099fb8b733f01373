"""The page of one scrape: the collectors' families, rendered one collector after another."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from modelhost_exporter.process.error_frames import described
from modelhost_exporter.scraping.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.metrics.exposition import Format

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("", "_total"),
    "histogram": ("", "_bucket", "_count", "_sum"),
    "summary": ("", "_count", "_sum"),
    "info": ("", "_info"),
}


class ScrapePage:
    """A page that is rendered collector by collector, and on which each family's name occurs once."""

    def __init__(self, format_: Format) -> None:
        self._format = format_
        self._parts: list[bytes] = []
        self._collectors: dict[str, str] = {}

    def add(self, name: str, outcome: Outcome) -> Outcome:
        """Render a collector's families; return its outcome, a failure where names clash or rendering fails."""
        if outcome.state != "ok":
            return outcome
        try:
            self._reserve_names(name, outcome.families)
            self._parts.append(self._format.render(outcome.families))
        except Exception as error:  # noqa: BLE001 - a collector's bad value must not fail the page
            return Outcome("failed", outcome.seconds, described(error))
        return outcome

    def bytes(self) -> bytes:
        """Return the page."""
        return self._format.page(self._parts)

    def _reserve_names(self, name: str, families: Iterable[Metric]) -> None:
        reserved: dict[str, str] = {}
        for family in families:
            for sample_name in _sample_names(family.name, family.type):
                collector = reserved.get(sample_name) or self._collectors.get(sample_name)
                if collector is not None:
                    raise ValueError(f"{family.name} is already on the page, from collector {collector}")
                reserved[sample_name] = name
        self._collectors |= reserved


@lru_cache(1 << 12)
def _sample_names(name: str, kind: str) -> list[str]:
    """Return the sample names that a family occupies on a page."""
    return [name + suffix for suffix in _SUFFIXES.get(kind, ("",))]
