"""Requesting usage of streams, and removing the frame that results."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.dialects.usage_request import UsageFrameFilter, ask

from .feeding import LLAMA_SERVER, split, split_at, unhurried

INCLUDE = '"stream_options":{"include_usage":true},'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"stream":true}', "{" + INCLUDE + '"stream":true}'),
        ('  { "stream" : true }\n', "  {" + INCLUDE + ' "stream" : true }\n'),
        (
            '{"stream":true,"stream_options":{}}',
            '{"stream":true,"stream_options":{"include_usage":true}}',
        ),
        (
            '{"stream_options": { "x":1},"stream":true}',
            '{"stream_options": {"include_usage":true, "x":1},"stream":true}',
        ),
        (
            '{"stream":true,"stream_options": null ,"n":1}',
            '{"stream":true,"stream_options": {"include_usage":true} ,"n":1}',
        ),
        (
            '{"messages":[{"stream_options":1}],"stream":true}',
            "{" + INCLUDE + '"messages":[{"stream_options":1}],"stream":true}',
        ),
    ],
)
def test_asking(body: str, expected: str) -> None:
    """The option is added, and every other byte is unchanged."""
    assert ask(body.encode()) == expected.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"{",
        b'{"stream":false}',
        b'{"stream":1}',
        b'{"stream":"true"}',
        b'{"stream":true',
        b'{"stream":true} x',
        b'{"stream":true,}',
        b'{"stream" true}',
        b'{"stream":true "n":1}',
        b'{1:2,"stream":true}',
        b'{"stream":true,"stream":true}',
        b'{"stream":false,"stream":true}',
        b'{"stream":true,"stream_options":{"include_usage":true}}',
        b'{"stream":true,"stream_options":{"include_usage":false}}',
        b'{"stream":true,"stream_options":{"include_usage":null}}',
        b'{"stream":true,"stream_options":{"x":1,"x":2}}',
        b'{"stream":true,"stream_options":[]}',
        b'{"stream":true,"stream_options":{},"stream_options":{}}',
        b'\xef\xbb\xbf{"stream":true}',
        b'{"stream":true,"a":"\xff"}',
        '{"stream":true}'.encode("utf-16"),
        b'{"stream":true,"a":' + b"[" * 100_000,
    ],
)
def test_not_asking(body: bytes) -> None:
    """Nothing is added if there is no stream, the client has set the option, or parsers might disagree."""
    assert ask(body) is None


texts = st.text('a"\\{}[]:, \n\u00e9\u2028\U0001f600', max_size=8)
scalars = st.none() | st.booleans() | st.integers() | texts
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(texts, scalars, max_size=3)
objects = st.dictionaries(texts | st.sampled_from(["include_usage"]), values, max_size=4)


@unhurried
@given(objects, st.none() | objects, st.booleans(), st.booleans())
def test_asking_changes_nothing_else(
    more: dict[str, object], options: dict[str, object] | None, ascii_only: bool, wide: bool
) -> None:
    """The body parses to the client's body plus the option; adding it twice has no further effect."""
    body = {**more, "stream_options": options, "stream": True}
    data = json.dumps(body, ensure_ascii=ascii_only, indent=2 if wide else None).encode("utf-8", "replace")
    asked = ask(data)
    if options is not None and "include_usage" in options:
        assert asked is None
        return
    assert asked is not None
    assert json.loads(asked) == json.loads(data) | {"stream_options": {**(options or {}), "include_usage": True}}
    assert ask(asked) is None


STREAM = (LLAMA_SERVER / "chat-stream-usage.sse").read_bytes()
USAGE = next(frame for frame in STREAM.split(b"\n\n") if b'"usage"' in frame) + b"\n\n"
FRAMES = st.lists(
    st.sampled_from(
        [
            b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}',
            b'data: {"choices":[],"usage":null}',
            b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":1}}',
            b'data: {"choices":[],"prompt_filter_results":[]}',
            b'data: {"choices":[{"delta":{"content":"\\"choices\\":[],\\"usage\\":{}"}}]}',
            b'x: y\ndata: {"choices":[],"usage":{}}',
            b'event: x\ndata: {"choices":[{}],"usage":{}}',
            b": ping",
            b"data: [DONE]",
            b'data: {"usage"',
            b"",
        ]
    ),
    max_size=8,
)


def filtered(filter_: UsageFrameFilter, pieces: list[bytes]) -> bytes:
    """Return what a client gets."""
    return b"".join([*(filter_.feed(piece) for piece in pieces), filter_.flush()])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
def test_the_usage_frame_is_taken_out(size: int) -> None:
    """Exactly the usage frame of a captured stream is removed."""
    assert STREAM.count(USAGE) == 1
    assert filtered(UsageFrameFilter(), list(split(STREAM, size))) == STREAM.replace(USAGE, b"")


@unhurried
@given(FRAMES, FRAMES, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 2000), max_size=10))
def test_all_other_bytes_pass(before: list[bytes], after: list[bytes], end: bytes, places: list[int]) -> None:
    """Bytes before and after the usage frame are unchanged, for any split and line end."""
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1}}' + end * 2
    head = b"".join(frame.replace(b"\n", end) + end * 2 for frame in before)
    tail = b"".join(frame.replace(b"\n", end) + end * 2 for frame in after)
    pieces = list(split_at(head + usage + tail, places))
    assert filtered(UsageFrameFilter(), pieces) == head + tail


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_in_two_pieces(end: bytes, size: int) -> None:
    """The usage frame is removed with its line ends, also if the last one is split."""
    head, tail = b"data: a" + end * 3, b"data: b" + end * 2
    stream = head + b'data: {"choices":[],"usage":{}}' + end * 2 + tail
    assert filtered(UsageFrameFilter(), list(split(stream, size))) == head + tail


@unhurried
@given(
    st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: x", b'data: {"usage":1}', b"y" * 30]), max_size=20),
    st.lists(st.integers(0, 500)),
    st.integers(1, 60),
)
def test_streams_without_usage_pass(parts: list[bytes], places: list[int], limit: int) -> None:
    """Without a usage frame the stream is unchanged, whatever the limit is."""
    data = b"".join(parts)
    assert filtered(UsageFrameFilter(limit), list(split_at(data, places))) == data


@unhurried
@given(st.lists(st.integers(0, 10_000), max_size=10))
def test_little_is_held_back(places: list[int]) -> None:
    """At most the one unfinished frame is held back."""
    filter_ = UsageFrameFilter()
    fed = b""
    out = 0
    for piece in split_at(STREAM.replace(USAGE, b""), places):
        fed += piece
        out += len(filter_.feed(piece))
        assert out >= fed.rfind(b"\n\n") + 2 * (b"\n\n" in fed)


OLLAMAS_ZEROS = b',"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'


def ollamas(text: bytes, usage: bytes = b"") -> bytes:
    """Return a frame of Ollama's text completions: openai.CompletionChunk as encoding/json writes it."""
    return (
        b'data: {"id":"cmpl-7","object":"text_completion","created":1795646315,"choices":[{"text":"%b","index":0,'
        b'"finish_reason":null}],"model":"m","system_fingerprint":"fp_ollama"%b}\n\n' % (text, usage)
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
def test_ollamas_zeros_are_taken_out(size: int) -> None:
    """Ollama writes zeros into every frame of a text completion once usage is requested; clients get none of it."""
    texts = (b"a", OLLAMAS_ZEROS.replace(b'"', b'\\"') + b"}", b"")
    last = ollamas(b"").replace(b'[{"text":"","index":0,"finish_reason":null}]', b"[]")
    last = last.replace(b"}\n\n", b',"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}\n\n')
    sent = b"".join(ollamas(text, OLLAMAS_ZEROS) for text in texts) + last + b"data: [DONE]\n\n"
    unasked = b"".join(ollamas(text) for text in texts) + b"data: [DONE]\n\n"
    assert filtered(UsageFrameFilter(), list(split(sent, size))) == unasked
    in_crlf = [data.replace(b"\n", b"\r\n") for data in (sent, unasked)]
    assert filtered(UsageFrameFilter(), list(split(in_crlf[0], size))) == in_crlf[1]


def test_zeros_of_other_servers_stay() -> None:
    """Where they are not known to come from the request for usage, they are the server's own."""
    other = ollamas(b"a", OLLAMAS_ZEROS).replace(b"fp_ollama", b"fp_other")
    assert filtered(UsageFrameFilter(), [other]) == other


def test_frames_too_long_to_hold_pass() -> None:
    """A frame over the limit is forwarded at once, and later frames are checked again."""
    filter_ = UsageFrameFilter(limit=100)
    long = b"data: " + b"x" * 500
    assert len(filter_.feed(long)) >= len(long) - 2
    rest = b"\n\ndata: a\n\n" + USAGE + b"data: b\n\n"
    assert filter_.feed(rest).endswith(b"x\n\ndata: a\n\ndata: b\n\n")
    assert filter_.flush() == b""


def test_a_usage_frame_that_the_end_leaves_open() -> None:
    """The last frame is checked even without a blank line; an incomplete frame is forwarded."""
    assert filtered(UsageFrameFilter(), [b"data: a\n\n" + USAGE.rstrip()]) == b"data: a\n\n"
    assert filtered(UsageFrameFilter(), [USAGE[:-30]]) == USAGE[:-30]


@pytest.mark.parametrize(("keys", "is_asked"), [(900, True), (1100, False)])
def test_very_many_keys(keys: int, *, is_asked: bool) -> None:
    """A body with more keys than any client sends is not changed, since each key takes time."""
    body = b'{"stream":true,' + b",".join(b'"%d":0' % number for number in range(keys)) + b"}"
    assert (ask(body) is not None) == is_asked
