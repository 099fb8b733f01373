"""promtool accepts settings and rules."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.prometheus.rules import FOLDER, RULES, read
from tests.support.programs import DEADLINE_SECONDS, installed

if TYPE_CHECKING:
    from pathlib import Path

MIMIR_RULES_OF_A_GROUP = 20


def _promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installed("promtool"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=6 * DEADLINE_SECONDS,
    )


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus.live.yml", "prometheus.demo.yml"])
def test_settings_are_accepted(name: str) -> None:
    """Each profile's settings are valid, and so are the rule files they name."""
    result = _promtool("check", "config", FOLDER / name)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"SUCCESS: {len(RULES)} rule files found" in result.stdout


def test_rules_are_accepted_without_lint() -> None:
    """No rule is there twice, none is malformed."""
    result = _promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_groups_fit_into_mimir(path: Path) -> None:
    """No group has more rules than Mimir's default limit, and group names are unique."""
    groups = read(path)["groups"]
    assert {
        group["name"]: len(group["rules"]) for group in groups if len(group["rules"]) > MIMIR_RULES_OF_A_GROUP
    } == {}
    assert len({group["name"] for group in groups}) == len(groups)
