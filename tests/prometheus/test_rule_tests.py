"""The unit tests of the rules pass in each program that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.prometheus.rule_testers import TESTERS, failures
from tests.prometheus.rules import TESTS, read
from tests.prometheus.vmalert_files import EXCEPTIONS, subject

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("tester", TESTERS)
def test_rules_pass_their_unit_tests(tester: str, path: Path, tmp_path: Path) -> None:
    """Alerts fire or do not fire as expected, and recorded values are those calculated by hand."""
    said = failures(tester, path, tmp_path)
    assert not said, said


def test_exceptions_of_vmalert_are_cases() -> None:
    """Each exception names a case of a test file."""
    cases = set()
    for test in (test for path in TESTS for test in read(path)["tests"]):
        named = [(case, case["alertname"]) for case in test.get("alert_rule_test", ())]
        named += [(case, subject(case["expr"])) for case in test.get("promql_expr_test", ())]
        cases |= {(test["name"], name, case["eval_time"]) for case, name in named}
    assert set(EXCEPTIONS) <= cases
