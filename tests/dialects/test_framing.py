"""Framing of event streams, JSON lines and whole bodies."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelhost_exporter.dialects.ndjson import Lines
from modelhost_exporter.dialects.sse import EventStream
from modelhost_exporter.dialects.whole_body import WholeBody

from .feeding import split, split_at, unhurried

LIMIT = 40


def read(stream: EventStream | Lines, *pieces: bytes) -> list[bytes]:
    """Return all frames, those that the end leaves open included."""
    return [frame for piece in pieces for frame in stream.feed(piece)] + stream.flush()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": ping\n\n:\n\ndata: a\n: ping\n\n", [b"a"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"event: x\n\n", []),
        (b"\n\n\n", []),
        (b"data: a", [b"a"]),
        (b"data: a\n", [b"a"]),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_events(data: bytes, expected: list[bytes], size: int) -> None:
    """An event's data is extracted for every line end, comment and split."""
    stream = EventStream()
    assert read(stream, *split(data, size)) == expected
    assert stream.errors == set()


STREAMS = st.lists(
    st.sampled_from([b"data: a", b"data:" + b"b" * 30, b"d" * 50, b": c", b"event: e", b"\n", b"\r", b"\r\n", b"x"]),
    max_size=30,
).map(b"".join)


@unhurried
@given(STREAMS, st.lists(st.integers(0, 1000), max_size=10))
@example(b"data: a\r\n\r\n", [8])
def test_splits_do_not_change_events(data: bytes, places: list[int]) -> None:
    """Events and errors are the same for any split, also with long lines."""
    together, apart = EventStream(LIMIT), EventStream(LIMIT)
    assert read(apart, *split_at(data, places)) == read(together, data)
    assert apart.errors == together.errors


@unhurried
@given(STREAMS.filter(lambda data: b"\r" not in data), st.lists(st.integers(0, 1000), max_size=10))
def test_splits_do_not_change_lines(data: bytes, places: list[int]) -> None:
    """Lines and errors are the same for any split."""
    together, apart = Lines(LIMIT), Lines(LIMIT)
    assert read(apart, *split_at(data, places)) == read(together, data)
    assert apart.errors == together.errors


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    "long",
    [
        b"data: " + b"x" * 50 + b"\n",
        b"data: " + b"x" * 20 + b"\ndata: " + b"x" * 20 + b"\n",
        b"z" * 50 + b"\ndata: b\n",
    ],
)
def test_long_events_are_dropped(long: bytes, size: int) -> None:
    """An event over the limit is counted as an error, and the next one is parsed."""
    stream = EventStream(LIMIT)
    assert read(stream, *split(b"data: a\n\n" + long + b"\ndata: c\n\n", size)) == [b"a", b"c"]
    assert stream.errors == {"too_long"}


def test_little_is_held() -> None:
    """A line without an end is not buffered."""
    stream, lines, body = EventStream(LIMIT), Lines(LIMIT), WholeBody(100_000)
    for _ in range(5000):
        stream.feed(b"data: " + b"x" * 100)
        lines.feed(b"x" * 100)
        body.add(b"x" * 100)
    assert len(stream._line) <= LIMIT
    assert len(lines._line) <= LIMIT
    assert len(body._kept) <= 100_000


def test_many_comments_are_no_long_event() -> None:
    """Pings without blank lines do not accumulate to an event over the limit."""
    assert read(EventStream(LIMIT), b": ping\n" * 100 + b"data: a\n\n") == [b"a"]


@pytest.mark.parametrize("field", [b"dbta: {}", b"<html>", b"data {}"])
def test_unknown_fields(field: bytes) -> None:
    """A line that is no field of an event stream is a framing error."""
    stream = EventStream()
    assert read(stream, field + b"\n\ndata: a\n\n") == [b"a"]
    assert stream.errors == {"framing"}


@pytest.mark.parametrize("size", [1, 3, 100])
def test_lines(size: int) -> None:
    """Lines end in LF or CRLF, blank lines are ignored, and the last line needs no end."""
    assert read(Lines(), *split(b"{}\n\n{1}\r\n \n{2}", size)) == [b"{}", b"{1}", b"{2}"]


def test_long_lines_are_dropped() -> None:
    """A line over the limit is skipped and counted as an error."""
    lines = Lines(LIMIT)
    assert read(lines, b"a\n" + b"x" * 30, b"x" * 30, b"x\nb\n") == [b"a", b"b"]
    assert lines.errors == {"too_long"}


@pytest.mark.parametrize(
    ("body", "cut"),
    [(b"", True), (b" ", True), (b"{", True), (b"[1}", True), (b'{"a":1}\n', False), (b"[]", False), (b"<p>", False)],
)
def test_cut_bodies(body: bytes, cut: bool) -> None:
    """A body that starts like JSON but does not end like JSON was truncated; other bodies are not JSON."""
    whole = WholeBody()
    whole.add(body)
    assert whole.cut is cut


def test_an_excerpt_has_what_stands_at_both_ends() -> None:
    """The last value of a top-level key is used; nested keys, and values after a truncated one, are ignored."""
    body = WholeBody(100)
    body.add(b'{"model": "m", "stats": {"usage": 1}, "error":null, "usage": {"model": "n", "x": "' + b"x" * 40_000)
    assert body.excerpt(("model", "usage", "stats", "error")) == {"model": "m", "stats": {"usage": 1}, "error": None}
    body.add(b'"}, "y": "a \\"model\\": \\"n\\"", "usage" : {"prompt_tokens": 5}}')
    assert body.excerpt(("model", "usage")) == {"model": "m", "usage": {"prompt_tokens": 5}}
