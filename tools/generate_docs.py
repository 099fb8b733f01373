"""Writes the parts of documents that the code knows best: ``python -m tools.generate_docs [--check]``."""

from __future__ import annotations

import inspect
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter import collectors
from modelhost_exporter.config import flags
from modelhost_exporter.engines import kinds
from modelhost_exporter.live import message, process_message, request_message
from modelhost_exporter.metrics import exporter_metrics
from modelhost_exporter.metrics.families import NAMESPACE
from modelhost_exporter.process import descriptors
from modelhost_exporter.proxy import self_metrics
from modelhost_exporter.requests import metrics as request_metrics
from modelhost_exporter.scraping import scrape
from modelhost_exporter.security import families as security_families
from modelhost_exporter.web import families as web_families
from tools import limits
from tools.bucket_error import largest_median_error
from tools.message_tables import message_parts
from tools.xids import xids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import ModuleType

    from modelhost_exporter.metrics.families import Combine, Family
    from tools.xids import Xid

_COMBINED: dict[Combine, tuple[str, str, str]] = {
    "sum": ("sum", "of all replicas", "`sum without (upstream) (…)`"),
    "max": ("max", "of the replica with the highest", "`max without (upstream) (…)`"),
    "min": ("min", "of the replica with the lowest", "`min without (upstream) (…)`"),
    "each": ("each", "not put together", ""),
}

DOCUMENTS = (
    *(Path("docs", name) for name in ("configuration.md", "engines.md", "live-api.md", "metrics.md")),
    Path("prometheus/runbook.md"),
)


def main(arguments: Sequence[str]) -> int:
    """Write the generated parts, or with ``--check`` exit with 1 when they are not up to date."""
    before = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
    stale = {path: after for path, text in before.items() if (after := filled(text)) != text}
    if "--check" not in arguments:
        for path, text in stale.items():
            path.write_text(text, encoding="utf-8")
        return 0
    for path in stale:
        print(f"{path} is not up to date: run python -m tools.generate_docs", file=sys.stderr)  # noqa: T201 - for a person
    return 1 if stale else 0


def filled(document: str) -> str:
    """Return a document with each part between ``<!-- NAME: generated -->`` and ``<!-- end -->`` written anew.

    KeyError for a name that nothing here generates.
    """
    parts: Mapping[str, Callable[[], str]] = {
        "flags": flags_table,
        "kinds": kinds_table,
        "metrics": metrics_tables,
        "buckets": buckets_table,
        "replicas": replicas_table,
        "message": message_tables,
        "requests": partial(message_tables, request_message),
        "processes": partial(message_tables, process_message),
        "xids": xids_table,
        "limits": limits_table,
    }
    return re.sub(
        r"(<!-- (\w+): generated -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{parts[found[2]]()}{found[3]}",
        document,
        flags=re.DOTALL,
    )


def flags_table() -> str:
    """Return every flag with its help, as a Markdown table."""
    rows = [
        (" ".join(f"`{option}`" for option in action.option_strings), action.help or "")
        for action in flags.parser()._actions  # noqa: SLF001 - argparse has no public list
        if action.dest != "help"
    ]
    return _table(("flag", "what it does"), rows)


def limits_table() -> str:
    """Return every timeout and limit with its default, as a Markdown table."""
    return _table(("of", "what is limited", "default", "key"), limits.rows())


def kinds_table() -> str:
    """Return every engine kind in the order of detection, as a Markdown table."""
    return _table(
        ("engine", "`kind`", "ports that `discover` tries", "pages that are read", "`include_usage: auto`"),
        (_kind_row(name, kinds.engine_kind(name)) for name in kinds.by_priority()),
    )


def _kind_row(name: str, kind: kinds.EngineKind) -> tuple[str, ...]:
    usage = "added to streams" if kind.ACCEPTS_INCLUDE_USAGE else "never added"
    return kind.TITLE, f"`{name}`", ", ".join(map(str, kind.PORTS)), kind.PAGES, usage


def metrics_tables() -> str:
    """Return every family by collector, as Markdown tables."""
    sections = [(f"Collector `{name}`", collectors.module(name).FAMILIES) for name in collectors.names()]
    sections.append(("Requests that pass the proxy", request_metrics.FAMILIES))
    sections.append(("The proxy itself", self_metrics.FAMILIES))
    sections.append(("The exporter itself", (*exporter_metrics.FAMILIES, *scrape.FAMILIES, *descriptors.FAMILIES)))
    sections.append(("The web port", (*web_families.FAMILIES, *security_families.FAMILIES)))
    return "\n".join(f"**{title}**\n\n{_families(families)}" for title, families in sections)


def buckets_table() -> str:
    """Return the largest error of a median for each histogram of requests, as a Markdown table."""
    rows = [
        (
            f"`{family.name}`",
            str(len(family.buckets)),
            f"{family.buckets[0]:g} to {family.buckets[-1]:,g} s",
            f"{largest_median_error(family.buckets):.0%}",
            f"{largest_median_error(family.buckets, 0.01, 60):.0%}",
        )
        for family in request_metrics.FAMILIES
        if family.type == "histogram" and family.name.endswith("_seconds")
    ]
    return _table(("histogram", "buckets", "range", "largest error", "from 10 ms to 60 s"), rows)


def replicas_table() -> str:
    """Return how dashboards and alerts put the replicas of a server together, as a Markdown table."""
    families = [family for name in collectors.names() for family in collectors.module(name).FAMILIES]
    families += self_metrics.FAMILIES
    rows = [
        (shown, *texts, ", ".join(_short_names(family for family in families if family.combine == way)))
        for way, (shown, *texts) in _COMBINED.items()
    ]
    return _table(("together", "what that is", "PromQL", "metrics, without `modelhost_`"), rows)


def _short_names(families: Iterable[Family]) -> Iterable[str]:
    return (f"`{family.name.removeprefix(NAMESPACE)}`" for family in families)


def message_tables(module: ModuleType = message) -> str:
    """Return the fields of the live feed's message, or another, a Markdown table for each of its objects."""
    return "\n".join(
        f"**`{part.name}`**: {part.description}\n\n"
        + _table(("field", "type", "what it is"), [(f"`{name}`", kind, text) for name, kind, text in part.fields])
        for part in message_parts(inspect.getsource(module))
    )


def xids_table() -> str:
    """Return NVIDIA's XIDs with the severity of their alert, as a Markdown table."""
    rows = [
        (str(each.code), "" if each.severity == "none" else each.severity, f"`{each.action}`", _meaning(each))
        for each in xids()
    ]
    return _table(("XID", "severity", "action", "meaning"), rows)


def _meaning(xid: Xid) -> str:
    return f"{xid.meaning} ({xid.why})" if xid.why else xid.meaning


def _families(families: Iterable[Family]) -> str:
    rows = [
        (f"`{family.name}`", family.type, ", ".join(family.labels), f"{family.help} {family.note}".strip())
        for family in families
    ]
    return _table(("name", "type", "labels", "what it means"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
