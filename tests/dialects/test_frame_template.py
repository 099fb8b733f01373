"""Frames that differ from an earlier one only in a token's text are not parsed, with the same results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelhost_exporter.dialects import openai_chat
from modelhost_exporter.dialects.contract import NOTHING, Progress
from modelhost_exporter.dialects.frame_template import FrameTemplates
from modelhost_exporter.dialects.replies import StreamReply
from modelhost_exporter.dialects.sse import EventStream

if TYPE_CHECKING:
    from modelhost_exporter.dialects import Usage

TEXTS = st.one_of(
    st.none(),
    st.just(""),
    st.text(max_size=4),
    st.sampled_from(["a", "b", '"', "\\", "\n", "é", "null", '"content":"', "},{"]),
)
DELTAS = st.dictionaries(
    st.sampled_from(["content", "reasoning_content", "role", "refusal", "text"]), TEXTS, max_size=2
)
CHOICES = st.fixed_dictionaries(
    {"index": st.integers(0, 1), "delta": DELTAS, "finish_reason": st.sampled_from([None, None, None, "stop", 5])}
)
FRAMES = st.fixed_dictionaries(
    {"model": st.sampled_from(["m", "n"]), "choices": st.lists(CHOICES, max_size=2)},
    optional={
        "usage": st.sampled_from([None, {"prompt_tokens": 3, "completion_tokens": 4}]),
        "text": TEXTS,
        "error": st.just("x"),
    },
)


class _Never(FrameTemplates):
    """Parses every frame."""

    def progress(self, data: bytes) -> Progress | None:  # noqa: ARG002 - looks at nothing
        return None

    def event_progress(self, event: bytes) -> Progress | None:  # noqa: ARG002 - likewise
        return None


class _Counting(FrameTemplates):
    """Counts the frames that matched a template."""

    def __init__(self) -> None:
        super().__init__()
        self.recognised = 0

    def progress(self, data: bytes) -> Progress | None:
        known = super().progress(data)
        self.recognised += known is not None
        return known

    def event_progress(self, event: bytes) -> Progress | None:
        known = super().event_progress(event)
        self.recognised += known is not None
        return known


def _reply(repeats: FrameTemplates) -> StreamReply:
    watched = openai_chat.reply("text/event-stream")
    assert isinstance(watched, StreamReply)
    return StreamReply(EventStream(), watched._reader, repeats)


def _read(reply: StreamReply, events: list[bytes]) -> tuple[list[Progress], Usage]:
    return [reply.feed(event) for event in events], reply.finish()


def _event(frame: Any, *, ascii_only: bool = True) -> bytes:
    return b"data: " + json.dumps(frame, ensure_ascii=ascii_only, separators=(",", ":")).encode() + b"\n\n"


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(FRAMES, st.booleans()), max_size=12), st.data())
def test_nobody_can_tell(frames: list[tuple[Any, bool]], data: st.DataObject) -> None:
    """Progress and usage of any frames, many of them similar, are those of parsing each frame."""
    events = [_event(frame, ascii_only=plain) for frame, plain in frames]
    repeated = [event for event in events for _ in range(data.draw(st.integers(1, 3)))]
    assert _read(_reply(FrameTemplates()), repeated) == _read(_reply(_Never()), repeated)


@given(st.lists(st.text(max_size=6), min_size=2, max_size=8))
def test_only_the_token_differs(texts: list[str]) -> None:
    """Frames that differ only in their token's text have the same results, whatever the text is."""
    events = [
        _event({"choices": [{"index": 0, "delta": {"content": text}}]}, ascii_only=False)
        for text in ("first", *texts, "last")
    ]
    assert _read(_reply(FrameTemplates()), events) == _read(_reply(_Never()), events)


def test_a_plain_stream_is_hardly_parsed() -> None:
    """Of a hundred frames with one word each only the first is parsed."""
    counting = _Counting()
    reply = _reply(counting)
    events = [_event({"model": "m", "choices": [{"index": 0, "delta": {"content": f"w{n}"}}]}) for n in range(100)]
    assert [reply.feed(event).chunks for event in events] == [1] * 100
    assert counting.recognised == 99
    assert reply.model == "m"


def test_lines_of_one_frame() -> None:
    """A frame in several lines matches in the same lines; where the field's name is missing, its line is no data."""
    event = b'data: {"choices":\ndata: [{"delta": {"content": "%b"}}]}\n\n'
    events = [event % b"a", event % b"b", event.replace(b"\ndata: ", b"\n") % b"c"]
    counting = _Counting()
    assert _read(_reply(counting), events) == _read(_reply(_Never()), events)
    assert counting.recognised == 1


def test_an_empty_token_is_parsed() -> None:
    """A frame that matches but has empty content has no token."""
    reply = _reply(FrameTemplates())
    assert reply.feed(_event({"choices": [{"delta": {"content": "a"}}]})).chunks == 1
    assert reply.feed(_event({"choices": [{"delta": {"content": ""}}]})) == NOTHING


def test_streams_whose_frames_all_differ_are_given_up() -> None:
    """After many frames without repetition no template is kept, and all frames are still parsed."""
    counting = _Counting()
    reply = _reply(counting)
    events = [_event({"created": n, "choices": [{"delta": {"content": "a"}}]}) for n in range(40)]
    assert sum(reply.feed(event).chunks for event in events) == 40
    reply.feed(events[-1])
    assert counting.recognised == 0


def test_a_large_frame_is_no_template() -> None:
    """It would stay in memory twice for as long as the stream."""
    templates = FrameTemplates()
    for size in (100, 1 << 20):
        frame = b'{"pad":"' + b"x" * size + b'","choices":[{"index":0,"delta":{"content":"a"}}]}'
        templates.learn(frame, Progress(1, answer=True))
        assert (templates.progress(frame) is not None) is (size == 100)
