"""The table of timeouts and limits has every key of the configuration that is one, and its values are the code's."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

import modelhost_exporter
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.size import Bytes
from tools import limits

LISTED = [limit.source for all_ in limits.PARTS.values() for limit in all_]

OTHER_KEYS = {"live.history_length"}
"""Keys with a duration or a number that limit nothing."""

_ASSIGNED = re.compile(r"(?m)^(_?[A-Z][A-Z_]+(?:, _?[A-Z][A-Z_]+)*) = ")
INTERNAL = {
    "proxy.downstream:_REQUEST_TIMEOUT": "a status",
    "web.routes:_SHARE_OF_TIMEOUT": "of the scraper, for collectors",
    "proxy.headers:MAX_LENGTH": "the largest number that a length may be",
    "proxy.headers:_MAX_TEMPLATE_BYTES": "a longer head is parsed each time",
    "proxy.reachability:_MAX_LINES": "lines of the log in a minute",
    "proxy.server:_MAX_ACCEPTED_HOSTS": "names that need not be checked again",
    "proxy.server:_MAX_CLIENT_LENGTH": "characters of a client's name that are shown",
    "proxy.balancing:_MAX_FAILED_SHARE": "described with the ejection of replicas",
    "proxy.balancing:_MAX_EJECTED_SHARE": "likewise",
    "proxy.balancing:_MAX_LOAD": "likewise",
    "proxy.settings:_MAX_HEADER_BYTES": "the highest value of a key",
    "web.connection:_MAX_FROM_VIEWER_BYTES": "one read, not one message",
    "web.origin_check:_MAX_NAME_LENGTH": "characters of a name that are shown",
    "web.routes:_MIN_TIMEOUT_SECONDS": "the shortest deadline that a scraper can ask for",
}
"""Constants of the listeners that look like limits, and why users need not know them."""


def test_each_source_is_listed_once() -> None:
    """And each can be read."""
    assert len(set(LISTED)) == len(LISTED)
    assert all(limits.value(source) for source in LISTED)


@pytest.mark.parametrize("section", limits.SECTIONS)
def test_every_timeout_of_the_configuration_is_listed(section: str) -> None:
    """Keys that are a duration or a size, and those that begin with max_."""
    hints = get_type_hints(limits.SECTIONS[section])
    found = {
        f"{section}.{field.name}"
        for field in fields(limits.SECTIONS[section])
        if field.name.startswith("max_") or any(kind.__name__ in str(hints[field.name]) for kind in (Seconds, Bytes))
    }
    assert found <= {*LISTED, *OTHER_KEYS}


@pytest.mark.parametrize("package", ["web", "proxy"])
def test_every_limit_of_the_listeners_is_listed(package: str) -> None:
    """Constants named MAX or TIMEOUT are in the table, or have a reason not to be; no reason is left over."""
    folder = Path(modelhost_exporter.__file__).parent / package
    names = [
        f"{package}.{file.stem}:{name}"
        for file in folder.glob("*.py")
        for line in _ASSIGNED.findall(file.read_text(encoding="utf-8"))
        for name in line.split(", ")
    ]
    found = {source for source in names if "MAX" in source.partition(":")[2] or "TIMEOUT" in source.partition(":")[2]}
    assert found - {*LISTED, *INTERNAL} == set()
    assert {source for source in INTERNAL if source.startswith(f"{package}.")} <= found


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("web.header_timeout", "10 s"),
        ("servers[].proxy.idle_timeout", "none"),
        ("servers[].proxy.max_inspected_body_bytes", "1 MiB"),
        ("proxy.exchange:_RETRY_SECONDS", "50 ms"),
        ("proxy.max_connections", "5,000"),
        ("web.max_header_bytes", "32 KiB"),
    ],
)
def test_values_have_units(source: str, shown: str) -> None:
    """Seconds, milliseconds, binary sizes, and numbers."""
    assert limits.value(source) == shown
