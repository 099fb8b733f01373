from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.label_rules import rules_of
from modelhost_exporter.engines.metrics_page import EnginePage, parse_labels
from tests.support.pages import PREFIXES, SERVERS, pages

if TYPE_CHECKING:
    from modelhost_exporter.engines.label_rules import LabelRules

PATHS = ("/metrics", "/prometheus/metrics")
VALUES = {"cache_config_info"}
"""Metrics whose labels are values."""


def rules(kind: str) -> LabelRules | None:
    """Return a kind's table; None for one that reads no page of metrics with labels."""
    found: LabelRules | None = getattr(importlib.import_module(f"{kinds.__name__}.{kind}"), "_RULES", None)
    return found


def measured() -> list[str]:
    """Return the folders of captured servers with a page of metrics whose kinds have tables."""
    return [f for f, kind in SERVERS.items() if rules(kind) is not None and any(p.startswith(PATHS) for p in pages(f))]


@pytest.mark.parametrize("folder", measured())
def test_every_label_that_splits_a_metric_is_decided(folder: str) -> None:
    """What the series of a metric mean together is written down for each label of each metric that is read."""
    table = rules(SERVERS[folder])
    assert table is not None
    page = next(body for path, body in pages(folder).items() if path.startswith(PATHS))
    read = EnginePage(page, *PREFIXES, rules=table)._series
    assert read
    for name, series in EnginePage(page, *PREFIXES)._series.items():
        decided = rules_of(name, table)
        if decided is not None and name not in VALUES:
            for labels in series:
                assert parse_labels(labels).keys() - {"le"} <= decided.keys(), f"{name}{{{labels}}}"
