"""Documents cannot go stale: their generated parts and their tables are compared with the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter import __version__, collectors
from modelhost_exporter.config import flags
from modelhost_exporter.process import descriptors
from modelhost_exporter.proxy import self_metrics
from modelhost_exporter.requests import metrics as request_metrics
from modelhost_exporter.web import families as web_families
from tools import generate_docs

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "prometheus/runbook.md"]
ENGINES = (ROOT / "docs/engines.md").read_text()
METRICS = (ROOT / "docs/metrics.md").read_text()
LIVE_API = (ROOT / "docs/live-api.md").read_text()
RUNBOOK = (ROOT / "prometheus/runbook.md").read_text()


def test_the_generated_tables_are_up_to_date() -> None:
    """The metrics, flags, engine kinds and XIDs in the documents are those of the code."""
    assert generate_docs.filled(CONFIGURATION) == CONFIGURATION
    assert generate_docs.filled(ENGINES) == ENGINES
    assert generate_docs.filled(METRICS) == METRICS
    assert generate_docs.filled(LIVE_API) == LIVE_API
    assert generate_docs.filled(RUNBOOK) == RUNBOOK


def test_check_fails_when_a_table_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--check fails for a document that is out of date and does not change it; without --check it is rewritten."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "prometheus").mkdir()
    stale = METRICS.replace("`modelhost_load1`", "`modelhost_load_one`")
    assert stale != METRICS
    Path("docs/configuration.md").write_text(CONFIGURATION)
    Path("docs/engines.md").write_text(ENGINES)
    Path("docs/live-api.md").write_text(LIVE_API)
    Path("prometheus/runbook.md").write_text(RUNBOOK)
    Path("docs/metrics.md").write_text(stale)
    assert generate_docs.main(["--check"]) == 1
    assert Path("docs/metrics.md").read_text() == stale
    assert generate_docs.main([]) == 0
    assert Path("docs/metrics.md").read_text() == METRICS
    assert generate_docs.main(["--check"]) == 0


def test_every_metric_and_flag_is_documented() -> None:
    """Every metric of a collector and every flag is in a document."""
    for name in collectors.names():
        for family in collectors.module(name).FAMILIES:
            assert f"`{family.name}`" in METRICS
    for family in (*request_metrics.FAMILIES, *self_metrics.FAMILIES, *descriptors.FAMILIES, *web_families.FAMILIES):
        assert f"`{family.name}`" in METRICS
    for action in flags.parser()._actions:
        for option in action.option_strings:
            assert option in ("-h", "--help") or f"`{option}`" in CONFIGURATION


def test_the_example_collector_is_the_real_one() -> None:
    """Each line of the collector in CONTRIBUTING.md is in the file that it is said to be from."""
    example = re.search(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert example is not None
    source = (ROOT / "exporter/modelhost_exporter/collectors/load.py").read_text().splitlines()
    assert [line for line in example[1].splitlines() if line and line not in source] == []


def test_the_files_to_change_exist() -> None:
    """Every path in the first column of CONTRIBUTING.md's tables exists, except names to be chosen."""
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    paths = [path for row in rows for path in re.findall(r"`(\w[\w./*-]*/[\w./*-]*)`", row)]
    named = [path for path in paths if not re.search(r"\b(NAME|SERVER)\b|_NAME", path)]
    assert len(named) > 20
    assert [path for path in named if not any(ROOT.glob(path))] == []


def test_the_table_of_threads_is_complete() -> None:
    """docs/architecture.md lists each thread by its name in the code, and no other."""
    table = (ROOT / "docs/architecture.md").read_text().partition("| thread | does |")[2].partition("\n\n")[0]
    listed = {name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z-]+)[A-Z]*`", row.split("|")[1])}
    assert listed == set(_thread_names())


def _thread_names() -> Iterator[str]:
    """Yield the names of threads, without the suffix for a collector, server or GPU."""
    position = {"start": 1, "Thread": 1, "Worker": 1, "Pool": 0, "PeriodicThread": 2, "schedule": 3, "_schedule": 3}
    for file in (ROOT / "exporter").rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
            place = position.get(getattr(call.func, "id", getattr(call.func, "attr", "")), len(call.args))
            for argument in call.args[place : place + 1]:
                first = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield first.value


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_exist(page: Path) -> None:
    """Every relative link points to a file, and to a heading where it names one."""
    for path, _, heading in _links(page):
        target = page.parent / path if path else page
        assert target.exists(), path
        if heading:
            assert heading in _headings(target), f"{path}#{heading}"


def test_every_page_is_reached_from_the_readme() -> None:
    """No document is hidden, and the README stays short."""
    reached = {(ROOT / path).resolve() for path, _, _ in _links(ROOT / "README.md")}
    assert {page.resolve() for page in PAGES} - reached == {(ROOT / "README.md").resolve()}
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def _links(page: Path) -> list[tuple[str, str, str]]:
    """Return the relative links of a page: path, #, heading."""
    found = re.findall(r"\]\((?!\w+:)([^)\s]+)\)", page.read_text())
    return [link.partition("#") for link in found]


def _headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    titles = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_changelog_knows_this_version() -> None:
    """The version that the package has is in the CHANGELOG."""
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
