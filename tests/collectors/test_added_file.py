"""A collector is one file: nothing else has to be changed for it to be found."""

from __future__ import annotations

import importlib
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter import collectors
from modelhost_exporter.config import flags
from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.demo.host import DemoHost
from modelhost_exporter.metrics.exposition import TEXT
from modelhost_exporter.service import Service
from tests.support.fakes import of_collector, samples
from tools import generate_docs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from modelhost_exporter.config.model import Config

_SOURCE = '''
"""Widgets on the shelf."""

from dataclasses import dataclass

from modelhost_exporter.collector import CollectorOptions
from modelhost_exporter.metrics.families import gauge

WIDGETS = gauge("widgets", "Widgets on the shelf.")
FAMILIES = (WIDGETS,)


@dataclass(frozen=True)
class WidgetOptions(CollectorOptions):
    """How many there are."""

    count: int = 3


OPTIONS = WidgetOptions


class WidgetsCollector:
    def __init__(self, count):
        self._count = count

    def collect(self):
        return WIDGETS.of(self._count)


def create(options, context):
    return WidgetsCollector(options.count)
'''
_SIMULATED = """

def create_simulated(options, context, host):
    return WidgetsCollector(host.page_bytes)
"""
_VALUE = ("modelhost_widgets", ())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder whose files are collectors as well."""
    monkeypatch.setattr(collectors, "__path__", [*collectors.__path__, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("modelhost_exporter.collectors.widgets", None)
    vars(collectors).pop("widgets", None)
    collectors.names.cache_clear()


def add(folder: Path, source: str) -> None:
    """Write the collector's file."""
    (folder / "widgets.py").write_text(source)
    importlib.invalidate_caches()
    collectors.names.cache_clear()


def only_widgets(count: int | None = None) -> Config:
    """Return a configuration of this collector alone."""
    options = {"enabled": True} | ({} if count is None else {"count": count})
    return configuration.read({"collectors": {"disable_defaults": True, "widgets": options}})


def test_an_added_file_is_in_flags_and_documents(folder: Path) -> None:
    """Its name and first line are in --help and the table of flags, its families in the table of metrics."""
    add(folder, _SOURCE)
    flag = "--collector.widgets"
    assert flag in flags.parser().format_help()
    assert flags.parse(["--no-collector.widgets"]).overrides == {"collectors.widgets.enabled": False}
    assert f"`{flag}`" in generate_docs.flags_table()
    assert "Widgets on the shelf. Default enabled." in generate_docs.flags_table()
    assert "**Collector `widgets`**" in generate_docs.metrics_tables()
    assert "| `modelhost_widgets` | gauge |  | Widgets on the shelf. |" in generate_docs.metrics_tables()


def test_an_added_file_is_in_the_configuration(folder: Path) -> None:
    """Its options have their defaults, are parsed, and a mistake in them is reported."""
    add(folder, _SOURCE)
    assert asdict(configuration.read({}).collectors["widgets"]) == {"enabled": None, "count": 3}
    assert asdict(only_widgets(5).collectors["widgets"]) == {"enabled": True, "count": 5}
    with pytest.raises(ConfigError, match="unknown key 'cuont'; known: enabled, count"):
        configuration.read({"collectors": {"widgets": {"cuont": 5}}})


def test_an_added_file_is_measured(folder: Path) -> None:
    """Its families are on the page of /metrics, and its name in the label collector."""
    add(folder, _SOURCE)
    service = Service(lambda: only_widgets(5), only_widgets(5))
    page = service.scrape.page(TEXT)
    service.scrape.close()
    assert samples(page)[_VALUE] == 5
    assert of_collector(page, "success", "widgets") == 1


@pytest.mark.parametrize(("source", "value"), [(_SOURCE + _SIMULATED, 4096), (_SOURCE, None)])
def test_an_added_file_is_in_the_demo(folder: Path, source: str, value: int | None) -> None:
    """The demo shows the simulated values; a collector without create_simulated is unavailable there."""
    add(folder, source)
    host = DemoHost(1.8e9, load=only_widgets)
    page = host.page(1.8e9 + 5)
    host.close()
    assert samples(page).get(_VALUE) == value
    assert of_collector(page, "available", "widgets") == (value is not None)
