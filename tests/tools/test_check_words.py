"""Tests of the check for retired words."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import check_words

ROOT = Path(__file__).parent.parent.parent


def test_no_retired_word_is_in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``make check`` runs."""
    monkeypatch.chdir(ROOT)
    assert [
        finding for path in check_words.tracked() for finding in check_words.find(path, check_words.read(path))
    ] == []


@pytest.mark.parametrize(
    ("text", "word", "replacement"),
    [
        ("class Surroundings:", "Surroundings", "…Dependencies"),
        ("rate(modelhost_usage_source_total[5m])", "modelhost_usage_source_total", "requests_by_usage_source_total"),
        ('value("requests_finished_total")', "requests_finished_total", "choices_finished_total"),
        ("_MOST_SEGMENTS = 3", "_MOST_SEGMENTS", "_MAX_…"),
        ("    stuck_after: 500ms", "stuck_after", "timeout"),
    ],
)
def test_a_retired_word_is_found(text: str, word: str, replacement: str) -> None:
    """With its line, and with what replaced it."""
    assert list(check_words.find("a.py", f"\n{text}\n")) == [("a.py", 2, word, replacement)]


@pytest.mark.parametrize(
    "text",
    [
        "modelhost_engine_requests_finished_total",
        "modelhost_requests_by_usage_source_total",
        "modelhost_sensor_fan_rpm",
        "MySurroundings2",
        "at MOST_ one",
    ],
)
def test_part_of_another_word_is_no_retired_word(text: str) -> None:
    """Names that replaced an old one may contain it."""
    assert list(check_words.find("a.py", text)) == []


def test_every_word_that_comes_back_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check prints file and line of each and fails; exempt and binary files may hold any of them."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    Path("CHANGELOG.md").write_text("stuck_after is now timeout")
    Path("picture.png").write_bytes(b"\x89PNG Surroundings \xff")
    assert check_words.main() == 0
    Path("a.py").write_text("import x\nclass Asker:  # has Surroundings\n")
    assert check_words.main() == 1
    assert [line.partition(" was")[0] for line in capsys.readouterr().err.splitlines()] == [
        "a.py:2: Asker",
        "a.py:2: Surroundings",
    ]
