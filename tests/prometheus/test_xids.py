"""The alerts on XIDs follow NVIDIA's catalogue, prometheus/xids.yml."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.prometheus.rules import ALERTS, FOLDER
from tools.xids import xids

SEVERITIES = ("critical", "warning", "info", "none")
CODES = {severity: {each.code for each in xids() if each.severity == severity} for severity in SEVERITIES}


def _codes(severity: str) -> set[int]:
    """Return the codes that the matchers of the alert of a severity list."""
    (rule,) = [r for r in ALERTS if r["alert"] == "GpuXidError" and r["labels"]["severity"] == severity]
    lists = re.findall(r'xid[!=]~?"([^"]+)"', rule["expr"])
    return {int(code) for codes in lists for code in codes.split("|")}


def test_pages_are_for_what_requires_a_reset() -> None:
    """The critical alert lists the codes of that severity; 94 is there because it makes a ticket of 48."""
    assert _codes("critical") == CODES["critical"] | {94}


def test_tickets_are_for_what_requires_a_person() -> None:
    """The warning lists the codes of that severity."""
    assert _codes("warning") == CODES["warning"]


def test_everything_else_is_shown() -> None:
    """The info lists what it leaves out: pages, tickets and what is to be ignored."""
    assert _codes("info") == CODES["critical"] | CODES["warning"] | CODES["none"]


def test_codes_are_in_order_and_described() -> None:
    """Each code occurs once, in ascending order, with NVIDIA's name for it and our description."""
    codes = [each.code for each in xids()]
    assert codes == sorted(set(codes))
    for each in xids():
        assert re.fullmatch(r"[A-Z0-9_]+", each.name)
        assert each.meaning
        assert each.severity in SEVERITIES


@pytest.mark.parametrize(
    "entry", yaml.safe_load((FOLDER / "xids.yml").read_text())["xids"], ids=lambda e: str(e["xid"])
)
def test_another_severity_has_a_reason(entry: dict[str, str]) -> None:
    """A severity that is not that of the action says why."""
    assert ("severity" in entry) == ("why" in entry)
    assert entry.keys() <= {"xid", "name", "action", "meaning", "severity", "why"}


@pytest.mark.parametrize(
    ("severity", "codes"),
    [
        ("critical", {48, 79, 95, 119, 140, 150}),
        ("warning", {94, 144, 145, 146, 149}),
        ("info", {13, 31, 39}),
        ("none", {43, 45, 63, 147, 148, 154}),
    ],
)
def test_well_known_codes(severity: str, codes: set[int]) -> None:
    """A program's fault is no ticket, a contained error no page; for NVLink of Blackwell the sub-codes decide."""
    assert codes <= CODES[severity]
