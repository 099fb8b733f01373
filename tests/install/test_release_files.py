"""The scripts and workflows that build, sign and install a release, checked by static tools."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.programs import DEADLINE_SECONDS

ROOT = Path(__file__).parent.parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SCRIPTS = ("install.sh", "deploy/debian/build", ".ci/debian-root")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_valid(script: str) -> None:
    """Sh can parse it, and shellcheck, where it is installed, has no remark."""
    subprocess.run(["sh", "-n", ROOT / script], check=True, timeout=DEADLINE_SECONDS)
    try:
        result = subprocess.run(
            ["shellcheck", ROOT / script], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
        )
    except FileNotFoundError:
        pytest.skip("shellcheck is not installed: `make test-install` installs it")
    assert result.stdout == ""


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_have_few_rights(workflow: Path) -> None:
    """Each action is named by a commit's hash, with its version; rights are read-only unless a job has its own."""
    text = workflow.read_text()
    uses = re.findall(r"^\s+(?:- )?uses: (.*)$", text, re.MULTILINE)
    assert uses
    for used in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used
    content = yaml.safe_load(text)
    assert content["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in content["jobs"].values())


def test_every_python_of_the_metadata_is_tested() -> None:
    """The matrix of the workflow has the Pythons that pyproject.toml names."""
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    matrix = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["wheel"]["strategy"]["matrix"]
    assert matrix["python"] == named
