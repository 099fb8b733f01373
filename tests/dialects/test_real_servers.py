"""What vLLM and LiteLLM sent, through their dialects: every value was worked out from the bytes by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest

from modelhost_exporter.dialects import Progress, Usage, find

from .feeding import CAPTURES, feed, reply, rounded, split

FOLDERS = ("vllm-0.32", "litellm-1.95")
WHOLE = Progress(0, answer=False)


def thoughts(chunks: int) -> Progress:
    """Return the progress of chunks that are all reasoning."""
    return Progress(chunks, answer=False)


def answers(chunks: int) -> Progress:
    """Return the progress of chunks of which some are an answer."""
    return Progress(chunks, answer=True)


ENDED = Usage(finish_reasons=("length",), complete=True)
TINY = replace(ENDED, model="tiny", source="usage")
NEW = replace(TINY, input_cache_hit=0, input_cache_write=0)
"""With a cache that had and got nothing of the prompt."""
CHAT = replace(NEW, input_tokens=123, output_tokens=12)
MESSAGES = replace(NEW, input_tokens=52, output_tokens=12)
RESPONSES = replace(NEW, input_tokens=3, output_tokens=16)
CACHED = replace(NEW, input_tokens=92, output_tokens=4, output_reasoning=0)
POOLED = replace(TINY, finish_reasons=())
TOKENS = replace(TINY, input_tokens=3, output_tokens=5)
GEMMA = replace(ENDED, model="gemma", input_tokens=56, output_tokens=12, source="usage")
GEMMA_MESSAGES = replace(GEMMA, output_tokens=16, finish_reasons=("stop",))
GEMMA_RESPONSES = replace(GEMMA, input_tokens=25, output_tokens=16, finish_reasons=("stop",))
REFUSED = Usage(complete=True, failed=True)

EXPECTED: dict[str, tuple[Progress, Usage]] = {
    "vllm-0.32/anth": (WHOLE, MESSAGES),
    "vllm-0.32/anth-stream": (thoughts(9), MESSAGES),  # and a signature, which is no token
    "vllm-0.32/batch": (
        WHOLE,
        replace(TINY, input_tokens=246, output_tokens=8, choices=2, finish_reasons=("length", "length")),
    ),
    "vllm-0.32/chat": (WHOLE, replace(CHAT, output_reasoning=4)),
    "vllm-0.32/chat-stream": (thoughts(6), replace(ENDED, model="tiny")),
    "vllm-0.32/chat-stream-cont": (thoughts(7), replace(CHAT, output_reasoning=7)),
    "vllm-0.32/chat-stream-n3": (
        thoughts(20),
        replace(CHAT, output_tokens=36, output_reasoning=20, choices=3, finish_reasons=("length",) * 3),
    ),
    "vllm-0.32/compl-2prompts": (
        WHOLE,
        replace(
            TINY,
            input_tokens=3,
            input_cache_hit=0,
            output_tokens=18,
            choices=2,
            finish_reasons=("length", "length"),
        ),
    ),
    "vllm-0.32/compl-stream": (answers(3), replace(TINY, input_tokens=2, input_cache_hit=0, output_tokens=9)),
    "vllm-0.32/chat-cache-write": (
        WHOLE,
        replace(
            CACHED,
            input_cache_write=64,
            output_reasoning=4,
            prefill_seconds=0.023690163,
            decode_seconds=0.020067157,
            queue_seconds=0.000128858,
        ),
    ),
    "vllm-0.32/chat-cache-hit": (
        WHOLE,
        replace(
            CACHED,
            input_cache_hit=64,
            prefill_seconds=0.011911225,
            decode_seconds=0.015919396,
            queue_seconds=0.000034706,
        ),
    ),
    "vllm-0.32/chat-metrics": (
        thoughts(3),
        replace(
            NEW,
            input_tokens=4,
            output_tokens=4,
            output_reasoning=3,
            prefill_seconds=0.012730501,
            decode_seconds=0.021801198,
            queue_seconds=0.00003247,
        ),
    ),
    "vllm-0.32/anth-cache-hit": (WHOLE, replace(NEW, input_tokens=92, input_cache_hit=64, output_tokens=4)),
    "vllm-0.32/classify": (WHOLE, replace(POOLED, input_tokens=3)),
    "vllm-0.32/embed": (WHOLE, replace(POOLED, input_tokens=3)),
    "vllm-0.32/embed-cohere": (WHOLE, replace(POOLED, model=None, input_tokens=3)),
    "vllm-0.32/pooling": (WHOLE, replace(POOLED, input_tokens=3)),
    "vllm-0.32/rerank": (WHOLE, replace(POOLED, input_tokens=4)),
    "vllm-0.32/score": (WHOLE, replace(POOLED, input_tokens=4)),
    "vllm-0.32/tokens": (WHOLE, replace(TOKENS, input_cache_hit=0)),
    "vllm-0.32/tokens-error": (WHOLE, REFUSED),
    "vllm-0.32/tokens-stream": (answers(4), ENDED),
    "vllm-0.32/tokens-stream-u": (answers(4), replace(TOKENS, model=None, input_cache_hit=0)),
    "vllm-0.32/tokens-text-stream": (answers(3), ENDED),
    "vllm-0.32/err-context": (WHOLE, REFUSED),
    "vllm-0.32/err-model": (WHOLE, REFUSED),
    "vllm-0.32/tito": (WHOLE, REFUSED),
    "vllm-0.32/resp": (WHOLE, replace(RESPONSES, output_reasoning=16)),
    "vllm-0.32/resp-stream": (thoughts(9), replace(RESPONSES, output_reasoning=13)),
    "litellm-1.95/anth": (WHOLE, GEMMA_MESSAGES),
    # it begins with zeros for all counts, and names its backend's model
    "litellm-1.95/anth-stream": (answers(16), replace(GEMMA_MESSAGES, model="gemma-3-270m")),
    "litellm-1.95/chat": (
        WHOLE,
        replace(GEMMA, input_cache_hit=0, prefill_seconds=1.264351, decode_seconds=0.584411),
    ),
    "litellm-1.95/chat-stream": (
        answers(12),
        replace(GEMMA, input_cache_hit=51, source="timings", prefill_seconds=0.67982, decode_seconds=3.409067),
    ),
    "litellm-1.95/chat-stream-u": (answers(12), replace(GEMMA, input_cache_hit=51, output_reasoning=0)),
    "litellm-1.95/compl-stream": (answers(9), replace(ENDED, model="gemma")),  # 0 tokens in every frame: not counted
    "litellm-1.95/err-embed": (WHOLE, REFUSED),
    "litellm-1.95/err-model": (WHOLE, REFUSED),
    "litellm-1.95/resp": (WHOLE, replace(GEMMA_RESPONSES, input_cache_hit=20)),
    "litellm-1.95/resp-stream": (
        answers(16),
        replace(
            GEMMA_RESPONSES,
            model="gemma-3-270m",
            input_cache_hit=0,
            prefill_seconds=0.502713,
            decode_seconds=1.466608,
        ),
    ),
}
NO_INFERENCE = {"vllm-0.32/anth-count", "vllm-0.32/render", "vllm-0.32/tokenize"}


class Capture(NamedTuple):
    """A response of a real server."""

    path: str
    content_type: str
    body: bytes


def capture(name: str) -> Capture:
    """Return a capture; its file beside the body has status, path and Content-Type."""
    file = CAPTURES / name
    _status, path, content_type = file.with_name(f"{file.name}.ct").read_text().strip().split(" ", 2)
    return Capture(path, content_type, file.with_name(f"{file.name}.raw").read_bytes())


def test_every_capture_is_expected() -> None:
    """No capture lies about unread, and those that are not in the table are of paths without a dialect."""
    found = {f"{folder}/{path.stem}" for folder in FOLDERS for path in (CAPTURES / folder).glob("*.raw")}
    assert found == set(EXPECTED) | NO_INFERENCE
    assert [name for name in NO_INFERENCE if find(capture(name).path)] == []


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_what_a_real_server_sent(name: str, size: int) -> None:
    """Tokens by part, choices, finish reasons, times, model, chunks and the end are exact for any chunk size."""
    path, content_type, body = capture(name)
    progress, usage = feed(reply(path, content_type), split(body, size))
    assert (progress, rounded(usage)) == EXPECTED[name]
