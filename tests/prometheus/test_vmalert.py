"""VictoriaMetrics' vmalert accepts the rules unchanged."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.prometheus.rules import RULES
from tests.support.programs import DEADLINE_SECONDS

if TYPE_CHECKING:
    from pathlib import Path


def _dry_run(vmalert: str, paths: list[Path]) -> subprocess.CompletedProcess[str]:
    command = [vmalert, "-dryRun", *(f"-rule={path}" for path in paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)


def test_vmalert_accepts_the_rules(tmp_path: Path) -> None:
    """Expressions are MetricsQL and templates are known; releases before keep_firing_for get the rules without it."""
    vmalert = shutil.which("vmalert")
    if vmalert is None:
        pytest.skip("vmalert is not installed")
    result = _dry_run(vmalert, RULES)
    if "keep_firing_for" in result.stderr:
        copies = [tmp_path / path.name for path in RULES]
        for path, copy in zip(RULES, copies, strict=True):
            lines = path.read_text().splitlines(keepends=True)
            copy.write_text("".join(line for line in lines if "keep_firing_for:" not in line))
        result = _dry_run(vmalert, copies)
    assert result.returncode == 0, result.stderr
