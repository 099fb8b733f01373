"""The unit tests of the rules pass in each program that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.prometheus.rule_testers import TESTERS, failures
from tests.prometheus.rules import TESTS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("tester", TESTERS)
def test_rules_pass_their_unit_tests(tester: str, path: Path, tmp_path: Path) -> None:
    """Alerts fire or do not fire as expected, and recorded values are those calculated by hand."""
    assert failures(tester, path, tmp_path) == ""
