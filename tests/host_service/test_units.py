"""The systemd units that ``service install`` writes, checked by systemd's own tools."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.export import shipped
from modelhost_exporter.host_service import systemd, systemd_unit
from tests.support.programs import DEADLINE_SECONDS, installed

if TYPE_CHECKING:
    from pathlib import Path

SHIPPED = shipped.text(systemd.SHIPPED)
COMMAND = (sys.executable, "-m", "modelhost_exporter", "--proxy=auto")
UNITS = {
    "system": systemd_unit.for_system(SHIPPED, COMMAND, dynamic_user=False),
    "dynamic": systemd_unit.for_system(SHIPPED, COMMAND, dynamic_user=True),
    "user": systemd_unit.for_user(SHIPPED, COMMAND),
}
MAX_EXPOSURE = 5.0
"""Of 10; the rest is what measuring needs, which the unit's comments list."""


def analyze(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    return subprocess.run(
        [installed("systemd-analyze"), *words],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},  # which the check of a user's unit needs
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def settings(text: str) -> dict[str, str]:
    """Return the last value of each setting."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


@pytest.mark.parametrize("kind", UNITS)
def test_systemd_accepts_the_unit(kind: str, tmp_path: Path) -> None:
    """Verify reports nothing: no unknown setting, no missing program."""
    unit = tmp_path / systemd.UNIT
    unit.write_text(UNITS[kind])
    result = analyze(tmp_path, "verify", "--man=no", *(["--user"] if kind == "user" else []), str(unit))
    assert (result.returncode, [line for line in result.stderr.splitlines() if unit.name in line]) == (0, [])


@pytest.mark.parametrize("kind", ["system", "dynamic"])
def test_the_unit_is_restricted(kind: str, tmp_path: Path) -> None:
    """The exposure that systemd computes stays low."""
    unit = tmp_path / systemd.UNIT
    unit.write_text(UNITS[kind])
    result = analyze(
        tmp_path, "security", "--offline=true", f"--threshold={MAX_EXPOSURE * 10:.0f}", "--no-pager", str(unit)
    )
    assert result.returncode == 0, result.stdout[-300:] + result.stderr


def test_a_system_unit_is_the_shipped_one_with_its_command() -> None:
    """Only the command differs from the shipped file, so that there is one source of the unit."""
    shipped_settings = settings(SHIPPED)
    command = " ".join(COMMAND)
    assert settings(UNITS["system"]) == {**shipped_settings, "ExecStart": command}
    assert settings(UNITS["dynamic"]) == {**shipped_settings, "ExecStart": command, "DynamicUser": "yes"}


def test_a_user_unit_starts_with_the_users_manager() -> None:
    """It has no user and no target that exist only for the machine."""
    found = settings(UNITS["user"])
    assert found["WantedBy"] == "default.target"
    assert not {"User", "Group", "After", "Wants", "ProtectControlGroups"} & found.keys()
    assert found["NoNewPrivileges"] == "yes"


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("--proxy=auto", "--proxy=auto"),
        ("/srv/a folder/x.yaml", '"/srv/a folder/x.yaml"'),
        ("50%", '"50%%"'),
        ("$HOME", '"$$HOME"'),
        ('say "hi"', r'"say \"hi\""'),
        ("a\\b", r'"a\\b"'),
        ("it's", '"it\'s"'),
        ("two\nlines", r'"two\nlines"'),
        ("", '""'),
    ],
)
def test_words_are_quoted_for_systemd(word: str, written: str) -> None:
    """No word ends the command's line, is split, or is replaced by a specifier or variable."""
    assert settings(systemd_unit.for_system(SHIPPED, ["/bin/x", word], dynamic_user=False))["ExecStart"] == (
        f"/bin/x {written}"
    )
