from __future__ import annotations

import re

import pytest

from modelhost_exporter.config.name_filter import NameFilter, all_but


def test_without_patterns_everything_is_kept() -> None:
    """An empty selection selects all."""
    assert NameFilter().keeps("anything")
    assert NameFilter().keeps("")


def test_include_keeps_only_whole_matches() -> None:
    """A pattern must match the whole name."""
    chosen = NameFilter(include=re.compile("eth0|lo"))
    assert [name for name in ("eth0", "lo", "eth01", "xeth0", "") if chosen.keeps(name)] == ["eth0", "lo"]


def test_exclude_drops_only_whole_matches() -> None:
    """A pattern must match the whole name."""
    chosen = NameFilter(exclude=re.compile("eth0|lo"))
    assert [name for name in ("eth0", "lo", "eth01", "xeth0", "") if chosen.keeps(name)] == ["eth01", "xeth0", ""]


def test_both_is_a_mistake() -> None:
    """Include and exclude together are rejected: their precedence is not defined."""
    with pytest.raises(ValueError, match="include or exclude, not both"):
        NameFilter(include=re.compile("a"), exclude=re.compile("b"))


def test_all_but_some() -> None:
    """Each pattern must match the whole name, also one with alternatives."""
    chosen = all_but(r"a|b", r"c\d+")
    assert [name for name in ("a", "b", "c1", "ab", "c", "d", "c1x") if chosen.keeps(name)] == ["ab", "c", "d", "c1x"]
