from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.dialects import FORMATS, Progress
from modelhost_exporter.untrusted_json import text

from .feeding import lined, streamed, unhurried, whole

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
        "7",
        '"text"',
    ],
)
def test_values_that_lie_about_their_type(frame: object) -> None:
    """An impossible value is left out and counted as an error; nothing raises or becomes 0."""
    progress, usage = streamed(CHAT, frame)
    assert progress == Progress(0, answer=False)
    assert usage.parse_errors == ("shape",)
    assert usage.input_tokens in (None, 5)
    assert usage.output_tokens in (None, 5)
    assert (usage.input_cache_hit, usage.output_reasoning, usage.prefill_seconds) == (None, None, None)


@pytest.mark.parametrize(
    ("said", "known"), [("  m ", "m"), ("", None), (" ", None), ("x" * 256, "x" * 256), ("x" * 300, text("x" * 300))]
)
def test_model_names(said: str, known: str | None) -> None:
    """Model names are stripped and truncated."""
    assert streamed(CHAT, {"model": said, "choices": []})[1].model == known


def test_counts_written_as_floats() -> None:
    """A whole number is accepted in each notation."""
    usage = streamed(CHAT, {"choices": [], "usage": {"prompt_tokens": 12.0}})[1]
    assert (usage.input_tokens, usage.parse_errors) == (12, ())


def test_flags_that_are_no_flags() -> None:
    """The text "true" is not true."""
    usage = lined("/api/chat", {"done": "true"})[1]
    assert (usage.complete, usage.parse_errors) == (False, ("shape",))


KNOWN_KEYS = """
    type model usage timings metrics stats error object choices delta content tool_calls function name arguments
    function_call refusal reasoning audio data transcript index finish_reason text response status output id message
    incomplete_details reason input_tokens output_tokens prompt_tokens completion_tokens prompt_tokens_details
    cached_tokens completion_tokens_details reasoning_tokens cache_n prompt_n prompt_ms predicted_n done done_reason
    eval_count prompt_eval_count load_duration thinking stop stop_type tokens_evaluated result meta tokens
    model_instance_id stop_reason cache_read_input_tokens generation_time queue_time_ms cache_write_tokens
    created_cache_tokens cache_creation_input_tokens output_tokens_details thinking_tokens signature content_block
    item command images custom input x_groq queue_time prompt_time completion_time total_prompt_time_sec
    load_time_seconds reasoning_content summary meta_info token generated_text details text_output model_name
    num_input_tokens num_output_tokens billed_units token_ids prefill generated_tokens input_length b64_json special
"""
KNOWN_WORDS = """
    message_start message_delta message_stop content_block_delta text_delta response.completed response.incomplete
    response.failed response.output_text.delta chat.end message.delta completed incomplete failed error stop load
    transcript.text.delta transcript.text.done function_call resp_1 m content_block_start thinking signature_delta
    tool_use model_load.end response.output_item.added response.shell_call_command.added reasoning
    image_generation.completed abort
"""
KEYS = st.sampled_from(KNOWN_KEYS.split())
WORDS = st.sampled_from(KNOWN_WORDS.split())
SCALARS = st.none() | st.booleans() | WORDS | st.integers(-5, 50) | st.floats() | st.just(10**30) | st.just("")
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=15
)


@unhurried
@given(
    st.sampled_from([path for format_ in FORMATS for path in format_.PATHS]),
    st.lists(st.dictionaries(KEYS, ANYTHING, max_size=8), max_size=4),
)
def test_any_json_is_survived(path: str, frames: list[dict[str, object]]) -> None:
    """Known keys with unexpected values never raise, and the resulting usage is consistent."""
    usages = [
        streamed(path, *frames)[1],
        lined(path, *frames)[1],
        whole(path, frames),
        *(whole(path, f) for f in frames),
    ]
    for usage in usages:
        assert (usage.input_cache_hit or 0) + (usage.input_cache_write or 0) <= (usage.input_tokens or 0)
        assert (usage.output_reasoning or 0) <= (usage.output_tokens or 0)
        assert (usage.source == "none") == (usage.input_tokens is None and usage.output_tokens is None)
        assert set(usage.finish_reasons) <= {"stop", "length", "tool_calls", "content_filter", "other"}
        assert set(usage.parse_errors) <= {"json", "shape"}
        assert usage.model is None or 0 < len(usage.model) <= 256


def test_very_many_choices() -> None:
    """Choices beyond the maximum are ignored."""
    _, usage = streamed(CHAT, {"choices": [{}] * 20_000})
    assert usage.parse_errors == ("shape",)
