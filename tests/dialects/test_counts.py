"""Counts that servers write without counting, and the parts of input and output under the names that servers use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .feeding import streamed, whole

if TYPE_CHECKING:
    from modelhost_exporter.dialects import Usage

CHAT, TEXT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def parts(usage: Usage) -> tuple[int | None, ...]:
    """Return the input, what of it was read from and written to a cache, the output, and its reasoning."""
    return (
        usage.input_tokens,
        usage.input_cache_hit,
        usage.input_cache_write,
        usage.output_tokens,
        usage.output_reasoning,
    )


def said(**fields: object) -> dict[str, Any]:
    """Return a chat frame."""
    return {"choices": [{"index": 0, "delta": fields}]}


def counted(prompt: int, completion: int, **more: object) -> dict[str, Any]:
    """Return a frame with usage only."""
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, **more}}


@pytest.mark.parametrize(
    ("usage", "known"),
    [
        (streamed(TEXT, {"choices": [{"index": 0, "text": "a"}], "usage": ZEROS}, "[DONE]")[1], None),
        (streamed(CHAT, said(content="a"), {"choices": [], "usage": ZEROS}, "[DONE]")[1], None),
        (whole(CHAT, {"choices": [{"message": {"content": "a"}}], "usage": ZEROS}), None),
        (whole(TEXT, {"choices": [{"text": "a"}], "usage": ZEROS}), None),
        (streamed(CHAT, said(role="assistant"), {"choices": [], "usage": ZEROS}, "[DONE]")[1], 0),
        (whole(CHAT, {"choices": [{"message": {"content": ""}}], "usage": ZEROS}), 0),
        (whole(CHAT, {"choices": [], "usage": ZEROS}), 0),
    ],
    ids=["text frames", "chat frames", "a chat", "a text", "frames without text", "an empty chat", "no choice"],
)
def test_zeros_beside_text_are_unknown(usage: Usage, known: int | None) -> None:
    """LiteLLM writes 0 tokens into each frame of a text completion; without any text 0 may be true."""
    assert parts(usage) == (known, None, None, known, None)
    assert usage.source == ("none" if known is None else "usage")


def test_zeros_in_a_body_that_is_too_long_to_keep() -> None:
    """Of which the output is not read: it is what makes it long."""
    body = {"choices": [{"message": {"content": "a" * (600 << 10)}}], "usage": ZEROS}
    assert parts(whole(CHAT, body)) == (None,) * 5


def test_one_zero_beside_text() -> None:
    """A server may count the one and not the other: Ollama's input is 0 where the whole prompt was cached."""
    assert parts(streamed(CHAT, said(content="a"), counted(0, 5))[1]) == (None, None, None, 5, None)
    usage = streamed(CHAT, said(content="a"), counted(7, 0))[1]
    assert (parts(usage), usage.source) == ((7, None, None, None, None), "usage")


NO_REASONING = {"completion_tokens_details": {"reasoning_tokens": 0}}


@pytest.mark.parametrize(
    ("usage", "known"),
    [
        (streamed(CHAT, said(reasoning="hm"), said(content="a"), counted(9, 5, **NO_REASONING))[1], None),
        (streamed(CHAT, said(reasoning_content="hm", content="a"), counted(9, 5, **NO_REASONING))[1], None),
        (whole(CHAT, {"choices": [{"message": {"reasoning": "hm"}}]} | counted(9, 5, **NO_REASONING)), 0),
        (whole(CHAT, counted(9, 5, **NO_REASONING) | {"choices": [{"message": {"reasoning": "hm"}}]}), None),
        (streamed(CHAT, said(content="a"), counted(9, 5, **NO_REASONING))[1], 0),
    ],
    ids=["before", "in one frame", "no choices", "whole", "none"],
)
def test_no_reasoning_tokens_beside_reasoning_are_unknown(usage: Usage, known: int | None) -> None:
    """A server that does not count reasoning writes 0; without any reasoning 0 is true."""
    assert parts(usage) == (9, None, None, 5, known)


def test_no_reasoning_tokens_in_other_dialects() -> None:
    """The same of Anthropic's and OpenAI's newer events, and of LM Studio's."""
    hm = {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}}
    end = {"output_tokens": 5, "output_tokens_details": {"thinking_tokens": 0}}
    assert parts(streamed(MESSAGES, hm, {"type": "message_delta", "usage": end})[1])[4] is None
    usage = {"input_tokens": 9, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 0}}
    thinks = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    for output, known in (([thinks], None), ([{"type": "reasoning", "summary": []}], 0), ([], 0), (None, 0)):
        assert parts(whole(RESPONSES, {"output": output, "usage": usage}))[4] == known
    stats = {"input_tokens": 9, "total_output_tokens": 5, "reasoning_output_tokens": 0}
    result = {"output": [{"type": "reasoning", "content": "hm"}], "stats": stats}
    assert parts(whole("/api/v1/chat", result)) == (9, None, None, 5, None)


@pytest.mark.parametrize("name", ["cache_write_tokens", "created_cache_tokens", "cache_creation_tokens"])
def test_tokens_written_to_a_cache(name: str) -> None:
    """OpenAI, vLLM and LiteLLM have a name each for them; they are a part of the input."""
    usage = counted(2006, 300, prompt_tokens_details={"cached_tokens": 0, name: 1920})
    assert parts(streamed(CHAT, said(content="a"), usage)[1]) == (2006, 0, 1920, 300, None)
    more_than_all = counted(2006, 300, prompt_tokens_details={"cached_tokens": 100, name: 1920})
    assert parts(streamed(CHAT, more_than_all)[1])[:3] == (2006, None, None)


def test_tokens_that_a_response_wrote_to_a_cache() -> None:
    """OpenAI's responses name them as its chats do."""
    details = {"cached_tokens": 0, "cache_write_tokens": 1920}
    usage = {"input_tokens": 2006, "input_tokens_details": details, "output_tokens": 300}
    assert parts(whole(RESPONSES, {"status": "completed", "usage": usage})) == (2006, 0, 1920, 300, None)


def start(**usage: object) -> dict[str, Any]:
    """Return the frame that begins an Anthropic message."""
    return {"type": "message_start", "message": {"model": "m", "usage": usage}}


def end(**usage: object) -> dict[str, Any]:
    """Return the frame that ends an Anthropic message but for message_stop."""
    return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}


def test_anthropic_thinking() -> None:
    """Its thinking tokens are a part of the output."""
    usage = {"input_tokens": 9, "output_tokens": 50, "output_tokens_details": {"thinking_tokens": 30}}
    assert parts(streamed(MESSAGES, start(input_tokens=9), end(**usage))[1]) == (9, None, None, 50, 30)
    assert parts(whole(MESSAGES, {"usage": usage})) == (9, None, None, 50, 30)


@pytest.mark.parametrize(
    ("first", "last", "known"),
    [
        ((5, 20, 3), (5, None, None), (28, 20, 3)),
        ((5, 20, 3), (None, None, None), (28, 20, 3)),
        ((5, 20, 3), (0, 0, 0), (28, 20, 3)),
        ((5, 20, 3), (4, 21, 3), (28, 21, 3)),
        ((30, None, None), (4, 26, 0), (30, 26, 0)),
        ((30, None, None), (0, 30, None), (30, 30, None)),
        ((0, 0, 0), (56, None, None), (56, None, None)),
        ((0, 0, 0), (0, None, None), (None, None, None)),
    ],
    ids=["no cache", "nothing", "zeros", "other", "now with a cache", "all cached", "from zeros", "only zeros"],
)
def test_anthropic_counts_come_twice(
    first: tuple[int | None, ...], last: tuple[int | None, ...], known: tuple[int | None, ...]
) -> None:
    """What the last event leaves out stays as the first had it, and nothing but zeros is a placeholder."""
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    begin, stop = ({k: v for k, v in zip(names, values, strict=True) if v is not None} for values in (first, last))
    assert parts(streamed(MESSAGES, start(**begin), end(**stop, output_tokens=7))[1]) == (*known, 7, None)
