from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter import collectors
from modelhost_exporter.metrics import exporter_metrics
from modelhost_exporter.process import descriptors
from modelhost_exporter.proxy import self_metrics
from modelhost_exporter.requests import metrics as request_metrics
from modelhost_exporter.scraping import scrape
from modelhost_exporter.security import families as security_families
from modelhost_exporter.web import families as web_families

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelhost_exporter.metrics.families import Family

GOLDEN = Path(__file__).parent / "golden/families.txt"


def listing() -> str:
    """Return every declared family as text: by collector, in the order of the page."""
    parts = {
        "exporter": exporter_metrics.FAMILIES,
        **{name: collectors.module(name).FAMILIES for name in collectors.names()},
        "requests": request_metrics.FAMILIES,
        "proxy": self_metrics.FAMILIES,
        "scrape": scrape.FAMILIES,
        "descriptors": descriptors.FAMILIES,
        "web": web_families.FAMILIES,
        "security": security_families.FAMILIES,
    }
    return "\n".join(line for name, families in parts.items() for line in _section(name, families))


def _section(name: str, families: Iterable[Family]) -> Iterator[str]:
    yield f"# {name}\n"
    for family in families:
        labels = f"{{{','.join(family.labels)}}}" if family.labels else ""
        yield f"{family.type} {family.name}{labels}\n    {family.help}"
    yield ""


def test_families_are_the_golden_ones() -> None:
    """A name, type, label or HELP changes only together with tests/golden/families.txt (and, once released, CHANGELOG).

    To accept an intended change: ``python -m tests.test_golden``.
    """
    assert listing() == GOLDEN.read_text()


if __name__ == "__main__":
    GOLDEN.write_text(listing())


def test_help_is_one_short_clause() -> None:
    """At most 120 characters, one sentence; details are a note in docs/metrics.md."""
    texts = [line.strip() for line in listing().splitlines() if line.startswith("    ")]
    assert len(texts) > 150
    assert [text for text in texts if len(text) > 120 or ". " in text or "; " in text or not text.endswith(".")] == []
