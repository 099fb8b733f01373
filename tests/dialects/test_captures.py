from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.dialects import Progress, Usage

from .feeding import JSON, LLAMA_SERVER, NDJSON, SSE, feed, reply, rounded, split, split_at, unhurried

if TYPE_CHECKING:
    from modelhost_exporter.dialects import Reply

MODEL = "gemma-3-270m"
CHAT = Usage(
    model=MODEL,
    input_tokens=27,
    input_cache_hit=22,
    output_tokens=24,
    finish_reasons=("length",),
    complete=True,
    source="usage",
)
TEXT = replace(CHAT, input_tokens=4, input_cache_hit=1, output_tokens=12)
SHORT = replace(CHAT, output_tokens=16)
# llama.cpp reports the tokens of the first choice as those of all
OF_ONE_CHOICE = Usage(model=MODEL, finish_reasons=("length", "length"), choices=2, complete=True)
REFUSED = Usage(complete=True, failed=True)

# capture → (request path, what is counted on the way, what is known at the end)
EXPECTED: dict[str, tuple[str, Progress, Usage]] = {
    "anthropic-messages-stream.sse": ("/v1/messages", Progress(16, answer=True), SHORT),
    "anthropic-messages.json": ("/v1/messages", Progress(0, answer=False), SHORT),
    "chat-stream-n2.sse": (
        "/v1/chat/completions",
        Progress(16, answer=True),
        replace(
            SHORT,
            finish_reasons=("length", "length"),
            choices=2,
            source="timings",
            prefill_seconds=0.050164,
            decode_seconds=0.247204,
        ),
    ),
    "chat-n2.json": (
        "/v1/chat/completions",
        Progress(0, answer=False),
        replace(OF_ONE_CHOICE, prefill_seconds=11.495563, decode_seconds=2.28097),
    ),
    "completions-2prompts.json": (
        "/v1/completions",
        Progress(0, answer=False),
        replace(OF_ONE_CHOICE, prefill_seconds=0.351538, decode_seconds=2.694383),
    ),
    "completions-2prompts-stream.sse": (
        "/v1/completions",
        Progress(8, answer=True),
        Usage(
            model=MODEL,
            input_tokens=3 + 6,
            input_cache_hit=1 + 1,
            output_tokens=4 + 4,
            finish_reasons=("length", "length"),
            choices=2,
            complete=True,
            source="usage",
            prefill_seconds=1.631071,
            decode_seconds=8.064253,
        ),
    ),
    "chat-stream-usage.sse": (
        "/v1/chat/completions",
        Progress(24, answer=True),
        replace(CHAT, prefill_seconds=0.045865, decode_seconds=0.57757),
    ),
    "chat-stream.sse": (
        "/v1/chat/completions",
        Progress(24, answer=True),
        replace(CHAT, source="timings", prefill_seconds=0.04599, decode_seconds=0.579583),
    ),
    "chat.json": (
        "/v1/chat/completions",
        Progress(0, answer=False),
        replace(CHAT, input_cache_hit=1, prefill_seconds=0.128812, decode_seconds=0.586096),
    ),
    "completions-stream.sse": (
        "/v1/completions",
        Progress(12, answer=True),
        replace(TEXT, prefill_seconds=0.033756, decode_seconds=0.267553),
    ),
    "completions.json": (
        "/v1/completions",
        Progress(0, answer=False),
        replace(TEXT, prefill_seconds=0.031232, decode_seconds=0.261505),
    ),
    "error-bad-json.json": ("/v1/chat/completions", Progress(0, answer=False), REFUSED),
    "error-context.json": ("/v1/chat/completions", Progress(0, answer=False), REFUSED),
    "error-embeddings.json": ("/v1/embeddings", Progress(0, answer=False), REFUSED),
    "error-not-found.json": ("/v1/rerank", Progress(0, answer=False), REFUSED),
    "native-completion-stream.sse": (
        "/completion",
        Progress(12, answer=True),
        replace(TEXT, source="timings", prefill_seconds=0.035764, decode_seconds=0.28093),
    ),
    "native-completion.json": (
        "/completions",
        Progress(0, answer=False),
        replace(TEXT, source="timings", prefill_seconds=0.037212, decode_seconds=0.284522),
    ),
    "ollama-chat.json": ("/api/chat", Progress(0, answer=False), REFUSED),
    # the server says "completed" although the answer was cut at its limit
    "responses-stream.sse": (
        "/v1/responses",
        Progress(16, answer=True),
        replace(SHORT, finish_reasons=("stop",), prefill_seconds=0.047909, decode_seconds=0.379291),
    ),
    "responses.json": ("/v1/responses", Progress(0, answer=False), replace(SHORT, finish_reasons=("stop",))),
}
ALL_PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/audio/transcriptions",
    "/api/chat",
    "/api/embed",
    "/api/v1/chat",
    "/completion",
)
names = st.sampled_from(sorted(EXPECTED))


def content_type(name: str) -> str:
    """Return the Content-Type that the server sent with a capture."""
    head = (LLAMA_SERVER / f"{name}.headers").read_text()
    return next(line.partition(":")[2] for line in head.splitlines() if line.lower().startswith("content-type:"))


def watched(name: str) -> tuple[Reply, bytes]:
    """Return a Reply for a capture, and its bytes."""
    return reply(EXPECTED[name][0], content_type(name)), (LLAMA_SERVER / name).read_bytes()


def test_every_capture_is_expected_to_say_something() -> None:
    """No capture lies about unread."""
    assert {path.name for path in LLAMA_SERVER.iterdir() if path.suffix != ".headers"} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
def test_a_capture_says_what_the_server_counted(name: str, size: int) -> None:
    """The progress and usage of a capture are exact for any chunk size."""
    watching, data = watched(name)
    progress, usage = feed(watching, split(data, size))
    assert (progress, rounded(usage)) == EXPECTED[name][1:]


@unhurried
@given(names, st.lists(st.integers(0, 10_000), max_size=8))
def test_pieces_do_not_matter(name: str, places: list[int]) -> None:
    """The usage of a capture is the same wherever it is split."""
    watching, data = watched(name)
    progress, usage = feed(watching, split_at(data, places))
    assert (progress, rounded(usage)) == EXPECTED[name][1:]


@unhurried
@given(names, st.integers(0, 10_000))
def test_a_cut_reply_is_incomplete_or_the_same(name: str, place: int) -> None:
    """A truncated response counts nothing that is not in it, and the end is no parse error."""
    watching, data = watched(name)
    progress, usage = feed(watching, [data[: place % len(data)]])
    _, expected_progress, expected = EXPECTED[name]
    assert progress.chunks <= expected_progress.chunks
    assert usage.parse_errors == () or name.endswith(".json")
    for field in ("model", "input_tokens", "output_tokens"):
        assert getattr(usage, field) in (None, getattr(expected, field), 8)  # 8: one of two choices
    if not usage.complete:
        assert usage.model in (None, MODEL)
    else:
        assert usage.finish_reasons == expected.finish_reasons


@unhurried
@given(names, st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=4))
def test_corrupt_bytes_never_raise(name: str, flips: list[tuple[int, int]]) -> None:
    """Corrupt bytes do not raise, and parts never exceed their totals."""
    watching, data = watched(name)
    corrupt = bytearray(data)
    for place, mask in flips:
        corrupt[place % len(data)] ^= mask
    _, usage = feed(watching, split(bytes(corrupt), 50))
    assert set(usage.parse_errors) <= {"json", "framing", "shape", "too_long"}
    assert (usage.input_cache_hit or 0) <= (usage.input_tokens or 0)
    assert (usage.output_reasoning or 0) <= (usage.output_tokens or 0)


@unhurried
@given(names, st.sampled_from(ALL_PATHS), st.sampled_from([SSE, JSON, NDJSON, "text/html", "", "audio/mpeg"]))
def test_any_reply_to_any_dialect(name: str, path: str, kind: str) -> None:
    """A response that does not match its path or Content-Type does not raise."""
    watching = reply(path, kind)
    _, usage = feed(watching, split((LLAMA_SERVER / name).read_bytes(), 100))
    assert usage == watching.finish()
    assert watching.feed(b"more") == (0, False)
    assert usage.model == watching.model


@unhurried
@given(st.sampled_from(ALL_PATHS), st.sampled_from([SSE, JSON, NDJSON]), st.lists(st.binary(max_size=60)))
def test_noise_never_raises(path: str, kind: str, pieces: list[bytes]) -> None:
    """Random bytes do not raise and contain no token."""
    progress, usage = feed(reply(path, kind), pieces)
    assert progress.chunks == 0
    assert usage.input_tokens is None


def test_a_changed_byte_inside_a_frame_is_counted() -> None:
    """A frame that cannot be parsed is counted as an error, and the other frames are parsed."""
    watching, data = watched("chat-stream.sse")
    progress, usage = feed(watching, [data.replace(b'{"content":" three"}', b'{"content":" three"]', 1)])
    assert progress == (23, True)
    assert usage.parse_errors == ("json",)
    assert usage.output_tokens == 24
