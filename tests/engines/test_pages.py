"""Reading untrusted JSON of an engine: sizes, numbers and texts have limits."""

from __future__ import annotations

import json
import math

import pytest

from modelhost_exporter.engines.pages import MAX_JSON_BYTES, UnexpectedContent, listed_models, read_json
from modelhost_exporter.untrusted_json import MAX_OBJECTS, MAX_TEXT, number, objects, text, texts


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
        b'"' + b"a" * MAX_JSON_BYTES + b'"',
        b"[" + b"[]," * MAX_JSON_BYTES,
        b"\xff",
        b"",
        b"nul",
    ],
)
def test_invalid_or_excessive_json_is_an_error(body: bytes) -> None:
    """Deep nesting, an integer of 5,000 digits, a page above the size limit, and invalid documents."""
    with pytest.raises(UnexpectedContent):
        read_json({"/": body}.__getitem__, "/")


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 1e101, 10**400, 1e308, True, "1", None, [], {}])
def test_absurd_numbers_are_none(value: object) -> None:
    """The numbers that remain may be added and multiplied without an overflow."""
    assert number(value) is None


def test_numbers() -> None:
    """Large integers become floats."""
    assert number(10**99) == 1e99
    assert number(0) == 0.0


def test_texts_and_lists_are_cut() -> None:
    """Texts become labels, and lists may be read several times: both have a maximum length."""
    assert text("a" * MAX_TEXT) == "a" * MAX_TEXT
    assert {len(text("a" * 10_000)), len(text("a" * 10_001))} == {MAX_TEXT}
    assert text("a" * 10_000) != text("a" * 10_001)
    assert len(texts(["a"] * 10_000)) == MAX_OBJECTS
    assert len(list(objects([{}] * 10_000))) == MAX_OBJECTS
    body = json.dumps({"data": [{"id": "m" * 1000}, {"id": ""}, {"id": 5}]}).encode()
    assert listed_models({"/v1/models": body}.__getitem__) == [{"id": text("m" * 1000)}]
