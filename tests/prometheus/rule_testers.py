"""Programs that run the unit tests of the rules: the installed promtool, a current one, and vmalert-tool."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.prometheus.vmalert_files import convert
from tests.support.programs import DEADLINE_SECONDS, built, installed

if TYPE_CHECKING:
    from pathlib import Path

TESTERS = ("promtool", "promtool-3", "vmalert-tool")


def failures(tester: str, path: Path, folder: Path) -> str:
    """Return what a tester says of a test file in promtool's format, or nothing where every case passes.

    Skips the test where the program is not installed.
    """
    if tester == "vmalert-tool":
        converted = folder / path.name
        convert(path, converted)
        command = [built("vmalert-tool"), "unittest", "--disableAlertgroupLabel", f"--files={converted}"]
    else:
        command = [installed("promtool") if tester == "promtool" else built("promtool"), "test", "rules", str(path)]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=20 * DEADLINE_SECONDS, env={"TMPDIR": str(folder)}
    )
    return result.stdout + result.stderr if result.returncode else ""
