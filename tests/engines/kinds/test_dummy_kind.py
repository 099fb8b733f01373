from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.config.parsing import parse
from modelhost_exporter.config.servers import Server, kind_names
from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.discovery import usual_ports
from tests.support.pages import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DUMMY = '''"""A dummy engine: /dummy."""

from modelhost_exporter.engines.snapshot import ServerSnapshot

TITLE = "Dummy"
PAGES = "`/dummy`"
PORTS = (4711,)
PROGRAMS = ("dummyd",)
PRIORITY = 5
ACCEPTS_INCLUDE_USAGE = True


def detect(fetch):
    try:
        return fetch("/dummy") == b"dummy"
    except LookupError:
        return False


def snapshot(fetch, policy=None):
    return ServerSnapshot("dummy")
'''


@pytest.fixture
def _dummy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "dummy.py").write_text(_DUMMY, encoding="utf-8")
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    yield
    sys.modules.pop("modelhost_exporter.engines.kinds.dummy", None)
    vars(kinds).pop("dummy", None)
    kinds.accepts_include_usage.cache_clear()


@pytest.mark.usefixtures("_dummy")
def test_one_file_adds_a_kind() -> None:
    """One new file is enough: configuration, detection, discovery and proxy use the kind."""
    server = {"name": "a", "url": "http://h:1", "kind": "dummy", "proxy": {"listen": ":1"}}
    assert parse(Server, server, "servers[0]").kind == "dummy"
    fetch = Recording("openai")
    fetch.pages["/dummy"] = b"dummy"
    assert kinds.detect(fetch) == "dummy"
    assert 4711 in usual_ports()
    assert kinds.accepts_include_usage("dummy")


def test_without_the_file_the_kind_is_unknown() -> None:
    """The list of kinds is computed from the files alone."""
    assert "dummy" not in kind_names()
    assert not kinds.accepts_include_usage("dummy")
    assert not kinds.accepts_include_usage("auto")
