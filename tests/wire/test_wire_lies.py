from __future__ import annotations

import pytest

from exporter.wire import Progress

from .feeding import streamed

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    "frame",
    [
        {"choices": None},
        {"choices": {}},
        {"choices": [1]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": 1}}]},
        {"choices": [{"delta": {"content": ["a"]}}]},
        {"choices": [{"delta": {"tool_calls": "x"}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": 1}]}}]},
        {"choices": [{"finish_reason": 1}]},
        {"choices": [{"index": "0"}]},
        {"choices": [{"index": 10**9}]},
        {"choices": [{"index": -1}]},
        {"choices": [{"index": True}]},
        {"model": 1},
        {"usage": "many"},
        {"usage": {"prompt_tokens": -1}},
        {"usage": {"prompt_tokens": True}},
        {"usage": {"prompt_tokens": 10**300}},
        {"usage": {"prompt_tokens": float("nan")}},
        {"usage": {"prompt_tokens": float("inf")}},
        {"usage": {"prompt_tokens": 1.5}},
        {"usage": {"prompt_tokens": "5"}},
        {"usage": {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}}},
        {"usage": {"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 6}}},
        {"timings": {"prompt_ms": -1}},
        {"timings": {"prompt_ms": float("nan")}},
        {"timings": {"prompt_ms": 10**400}},
        {"timings": {"prompt_ms": True}},
        {"timings": [1]},
        {"metrics": "x"},
        {"stats": 1},
        [1],
        "null",
        "7",
        '"text"',
    ],
)
def test_values_that_lie_about_their_type(frame: object) -> None:
    """An absurd value is left out and counted as a shape error; nothing raises and nothing becomes 0."""
    progress, usage = streamed(CHAT, frame)
    assert progress == Progress(0, answer=False)
    assert usage.parse_errors == ("shape",)
    assert usage.input_tokens in (None, 5)
    assert usage.output_tokens in (None, 5)
    assert (usage.input_cache_hit, usage.output_reasoning, usage.prefill_seconds) == (None, None, None)


@pytest.mark.parametrize(("said", "known"), [("  m ", "m"), ("", None), (" ", None), ("x" * 300, "x" * 256)])
def test_model_names(said: str, known: str | None) -> None:
    """Model names are stripped and cut."""
    assert streamed(CHAT, {"model": said, "choices": []})[1].model == known
