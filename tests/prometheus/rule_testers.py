"""Programs that run the unit tests of the rules: the installed promtool, and a current one."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.support.programs import DEADLINE_SECONDS, built, installed

if TYPE_CHECKING:
    from pathlib import Path

TESTERS = ("promtool", "promtool-3")


def failures(tester: str, path: Path, folder: Path) -> str:
    """Return what a tester says of a test file in promtool's format, or nothing where every case passes.

    Skips the test where the program is not installed.
    """
    program = installed("promtool") if tester == "promtool" else built("promtool")
    command = [program, "test", "rules", str(path)]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=20 * DEADLINE_SECONDS, env={"TMPDIR": str(folder)}
    )
    return result.stdout + result.stderr if result.returncode else ""
