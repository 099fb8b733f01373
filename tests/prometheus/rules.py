"""The shipped rules and their promtool tests, read for the tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from modelhost_exporter import collectors
from modelhost_exporter.metrics import exporter_metrics
from modelhost_exporter.process import descriptors
from modelhost_exporter.proxy import self_metrics
from modelhost_exporter.requests import metrics as request_metrics
from modelhost_exporter.scraping import scrape
from modelhost_exporter.security import families as security_families
from modelhost_exporter.web import families as web_families

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelhost_exporter.metrics.families import Family

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
TESTS = sorted((FOLDER / "tests").glob("*.yml"))


class Alert(NamedTuple):
    """The identity of an alert, since alerts of one name differ in severity or window."""

    name: str
    severity: str
    window: str


def read(path: Path) -> Any:
    """Return a YAML file."""
    return yaml.safe_load(path.read_text())


def _all_rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in read(path)["groups"]:
            yield from group["rules"]


ALERTS = [rule for rule in _all_rules() if "alert" in rule]
RECORDED = {rule["record"]: rule["expr"] for rule in _all_rules() if "record" in rule}


def alert(name: str, labels: dict[str, str]) -> Alert:
    """Return the alert with these labels."""
    return Alert(name, labels["severity"], labels.get("window", ""))


def unquoted(expression: str) -> str:
    """Return an expression without its strings and comments."""
    return re.sub(r"#.*", "", re.sub(r'"[^"]*"', '""', expression))


def recorded_names(expression: str) -> set[str]:
    """Return the recorded series that an expression reads."""
    return set(re.findall(r"\b[a-z_]+:\w+:\w+", unquoted(expression)))


def samples() -> dict[str, Family]:
    """Return every sample name that the exporter can write, with its family."""
    families = [family for name in collectors.names() for family in collectors.module(name).FAMILIES]
    families += [*request_metrics.FAMILIES, *self_metrics.FAMILIES, *exporter_metrics.FAMILIES, *scrape.FAMILIES]
    families += [*descriptors.FAMILIES, *web_families.FAMILIES, *security_families.FAMILIES]
    suffixes = {"histogram": ("_bucket", "_count", "_sum")}
    return {family.name + suffix: family for family in families for suffix in suffixes.get(family.type, ("",))}
