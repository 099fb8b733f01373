"""Strict parsing: every error is one line with the path of the key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.parsing import ConfigError, parse


@dataclass(frozen=True)
class _Inner:
    pattern: re.Pattern[str] | None = None
    path: Path = Path("/")


@dataclass(frozen=True)
class _Outer:
    name: str
    count: int = 1
    share: float = 0.5
    wait: Seconds = Seconds(1)
    on: bool = False
    level: Literal["low", "high"] = "low"
    items: tuple[int, ...] = ()
    inner: _Inner = field(default_factory=_Inner)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count must not be negative")


def test_every_kind_of_value_is_parsed() -> None:
    """Each supported type is parsed to its Python value."""
    raw = {
        "name": "a",
        "count": 3,
        "share": 1,
        "wait": "1m30s",
        "on": True,
        "level": "high",
        "items": [1, 2],
        "inner": {"pattern": "a.*", "path": "/x"},
    }
    assert parse(_Outer, raw, "") == _Outer(
        "a", 3, 1.0, Seconds(90), True, "high", (1, 2), _Inner(re.compile("a.*"), Path("/x"))
    )


def test_what_is_not_given_has_its_default() -> None:
    """Missing keys, empty sections and null for an optional value are the defaults."""
    assert parse(_Outer, {"name": "a", "inner": None}, "") == _Outer("a")
    assert parse(_Inner, {"pattern": None}, "") == _Inner()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "top: name is missing"),
        ([], "top: must be a mapping, not a list"),
        ("x", "top: must be a mapping, not 'x'"),
        ({"name": "a", "nmae": 1}, "top: unknown key 'nmae'; known: name, count, share, wait, on, level, items, inner"),
        ({"name": "a", 3: 1}, "top: unknown key 3; known: name, count, share, wait, on, level, items, inner"),
        ({"name": 5}, "top.name: must be text, not 5"),
        ({"name": None}, "top.name: must be text, not nothing"),
        ({"name": "a", "count": "3"}, "top.count: must be a whole number, not '3'"),
        ({"name": "a", "count": True}, "top.count: must be a whole number, not True"),
        ({"name": "a", "count": -1}, "top: count must not be negative"),
        ({"name": "a", "share": {}}, "top.share: must be a number, not a mapping"),
        ({"name": "a", "on": "yes"}, "top.on: must be true or false, not 'yes'"),
        ({"name": "a", "on": 1}, "top.on: must be true or false, not 1"),
        ({"name": "a", "level": "mid"}, "top.level: must be one of low, high, not 'mid'"),
        ({"name": "a", "level": []}, "top.level: must be one of low, high, not a list"),
        ({"name": "a", "items": 3}, "top.items: must be a list, not 3"),
        ({"name": "a", "items": [1, "b"]}, "top.items[1]: must be a whole number, not 'b'"),
        ({"name": "a", "wait": "soon"}, "top.wait: 'soon' is not a duration such as 5s, 500ms or 1m30s"),
        ({"name": "a", "wait": 0}, "top.wait: 0 is not a duration greater than zero"),
        ({"name": "a", "inner": {"pattern": "("}}, "top.inner.pattern: '(' is not a regular expression: "),
        ({"name": "a", "inner": {"pattern": "a{9999999999}"}}, "top.inner.pattern: 'a{9999999999}' is not a regular"),
    ],
)
def test_a_mistake_is_named_by_its_path(raw: object, message: str) -> None:
    """The message contains the whole path and the expected value."""
    with pytest.raises(ConfigError) as caught:
        parse(_Outer, raw, "top")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
