"""Chat and text completions, frame by frame."""

from __future__ import annotations

from typing import Any

import pytest

from modelhost_exporter.dialects import Progress

from .feeding import JSON, SSE, events, feed, reply, streamed, whole

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
NONE = Progress(0, answer=False)
THOUGHT = Progress(1, answer=False)
ANSWER = Progress(1, answer=True)


def delta(*, index: int = 0, finish: object = None, **fields: object) -> dict[str, Any]:
    """Return a chat frame with one choice."""
    return {"model": "m", "choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def usage_frame(**usage: object) -> dict[str, Any]:
    """Return the frame with which a stream tells its usage."""
    return {"model": "m", "choices": [], "usage": usage}


def tool(**function: object) -> list[dict[str, Any]]:
    """Return the tool_calls of a frame."""
    return [{"index": 0, "id": "call_1", "type": "function", "function": function}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"role": "assistant"}, NONE),
        ({"role": "assistant", "content": None}, NONE),
        ({"role": "assistant", "content": ""}, NONE),
        ({}, NONE),
        ({"content": "a"}, ANSWER),
        ({"content": " "}, ANSWER),
        ({"content": None, "tool_calls": None}, NONE),
        ({"reasoning_content": "hm"}, THOUGHT),
        ({"reasoning": "hm", "content": ""}, THOUGHT),
        ({"reasoning": "hm", "content": "so"}, ANSWER),
        ({"reasoning_content": "", "reasoning": None}, NONE),
        ({"tool_calls": tool(name="f", arguments="")}, ANSWER),
        ({"tool_calls": tool(arguments='{"')}, ANSWER),
        ({"tool_calls": tool(arguments="")}, NONE),
        ({"tool_calls": []}, NONE),
        ({"function_call": {"name": "f"}}, ANSWER),
        ({"function_call": {"arguments": ""}}, NONE),
        ({"tool_calls": [{"type": "custom", "custom": {"name": "f", "input": ""}}]}, ANSWER),
        ({"tool_calls": [{"custom": {"input": "a"}}]}, ANSWER),
        ({"tool_calls": [{"type": "custom", "custom": {"input": ""}}]}, NONE),
        ({"images": [{"type": "image_url", "image_url": {"url": "data:"}}]}, ANSWER),
        ({"images": []}, NONE),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}, THOUGHT),
        ({"content": [{"type": "thinking", "thinking": "hm"}]}, THOUGHT),
        ({"content": [{"type": "thinking", "thinking": []}]}, NONE),
        ({"content": [{"type": "text", "text": "a"}]}, ANSWER),
        ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]}, ANSWER),
        ({"content": [{"type": "text", "text": ""}, {"type": "reference", "reference_ids": [1]}]}, NONE),
        ({"content": []}, NONE),
        ({"refusal": "no"}, ANSWER),
        ({"audio": {"data": "UklGRg=="}}, ANSWER),
        ({"audio": {"transcript": "a"}}, ANSWER),
        ({"audio": {"id": "audio_1"}}, NONE),
    ],
)
def test_which_deltas_are_tokens(fields: dict[str, Any], expected: Progress) -> None:
    """A frame with a token of any type counts; only content, refusals and tool calls are answer tokens."""
    progress, usage = streamed(CHAT, delta(**fields))
    assert progress == expected
    assert usage.parse_errors == ()


def test_reasoning_comes_before_the_answer() -> None:
    """The first token may be reasoning; the first answer token is detected later."""
    watching = reply(CHAT, SSE)
    frames = [delta(role="assistant"), delta(reasoning="a"), delta(reasoning="b"), delta(content="c")]
    assert [watching.feed(events(frame)) for frame in frames] == [NONE, THOUGHT, THOUGHT, ANSWER]


def test_several_frames_in_one_piece() -> None:
    """Frames that arrive together are counted separately, and one answer token sets the flag."""
    assert reply(CHAT, SSE).feed(events(delta(reasoning="a"), delta(content="b"), delta(role="x"))) == (2, True)


def test_usage_with_details() -> None:
    """Cached tokens are a part of the input and reasoning a part of the output."""
    usage = streamed(
        CHAT,
        delta(content="a"),
        delta(finish="stop"),
        usage_frame(
            prompt_tokens=100,
            completion_tokens=30,
            prompt_tokens_details={"cached_tokens": 64, "audio_tokens": 0},
            completion_tokens_details={"reasoning_tokens": 20},
        ),
        "[DONE]",
    )[1]
    assert (usage.input_tokens, usage.input_cache_hit, usage.input_cache_write) == (100, 64, None)
    assert (usage.output_tokens, usage.output_reasoning) == (30, 20)
    assert (usage.source, usage.complete, usage.parse_errors) == ("usage", True, ())


def test_usage_without_details() -> None:
    """A count that the server does not report is unknown, not 0."""
    usage = streamed(CHAT, usage_frame(prompt_tokens=1, completion_tokens=2, prompt_tokens_details=None))[1]
    assert (usage.input_cache_hit, usage.output_reasoning) == (None, None)


def test_usage_with_details_beside_it() -> None:
    """DeepSeek and SGLang report the parts next to the totals."""
    counts = {"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "completion_tokens": 7, "reasoning_tokens": 3}
    usage = streamed(CHAT, usage_frame(**counts))[1]
    assert (usage.input_cache_hit, usage.output_reasoning) == (4, 3)


def test_usage_in_every_frame() -> None:
    """Of usage in each frame the last one is used, also if the stream is truncated."""
    frames = [delta(content="a") | {"usage": {"prompt_tokens": 5, "completion_tokens": n}} for n in (1, 2)]
    usage = streamed(CHAT, *frames)[1]
    assert (usage.input_tokens, usage.output_tokens, usage.complete) == (5, 2, False)


def test_no_usage() -> None:
    """A stream without usage has no counts."""
    usage = streamed(CHAT, delta(content="a"), delta(finish="stop") | {"usage": None}, "[DONE]")[1]
    assert (usage.source, usage.input_tokens, usage.output_tokens) == ("none", None, None)


def test_a_finish_without_done_is_complete() -> None:
    """Without [DONE] a stream is complete once every choice has finished; before that it was truncated."""
    assert streamed(CHAT, delta(content="a"), delta(finish="stop"))[1].complete
    assert not streamed(CHAT, delta(content="a"), delta(index=1, content="b"), delta(finish="stop"))[1].complete
    assert not streamed(CHAT, delta(content="a"))[1].complete


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("eos_token", "stop"),
        ("abort", "other"),
    ],
)
def test_finish_reasons(said: str, meant: str) -> None:
    """Finish reasons are mapped to the common ones."""
    assert streamed(CHAT, delta(finish=said))[1].finish_reasons == (meant,)


def test_several_choices() -> None:
    """Each choice has its own finish reason, in the order of the index."""
    usage = streamed(
        CHAT, delta(index=1, content="b"), delta(content="a"), delta(index=1, finish="length"), delta(finish="stop")
    )[1]
    assert (usage.choices, usage.finish_reasons) == (2, ("stop", "length"))


def timings(output: int, **more: object) -> dict[str, object]:
    """Return llama.cpp's timings."""
    return {"prompt_n": 5, "prompt_ms": 46.0, "predicted_n": output, "predicted_ms": 250.0, **more}


def test_llamacpp_usage_of_several_choices() -> None:
    """llama.cpp sends usage for each choice: outputs are summed, and the prompt counts once."""
    each = [usage_frame(prompt_tokens=27, completion_tokens=n) | {"timings": timings(n, cache_n=22)} for n in (8, 9)]
    usage = streamed(CHAT, delta(content="a"), delta(index=1, content="b"), *each, "[DONE]")[1]
    assert (usage.input_tokens, usage.output_tokens, usage.choices) == (27, 17, 2)


def test_timings_with_every_frame() -> None:
    """With timings_per_token the last timings are used."""
    usage = streamed(CHAT, *(delta(content="a") | {"timings": timings(n, cache_n=0)} for n in (1, 2, 3)))[1]
    assert (usage.input_tokens, usage.input_cache_hit, usage.output_tokens, usage.source) == (5, 0, 3, "timings")
    assert (usage.prefill_seconds, usage.decode_seconds) == (0.046, 0.25)


def test_timings_that_do_not_know_the_cache() -> None:
    """Without cache_n the computed tokens are not the whole input, which is unknown."""
    usage = streamed(CHAT, delta(finish="stop") | {"timings": timings(3)})[1]
    assert (usage.input_tokens, usage.input_cache_hit, usage.output_tokens) == (None, None, 3)


def test_timings_tell_the_cache_that_usage_does_not() -> None:
    """Usage without details is completed from timings that agree with it."""
    frame = usage_frame(prompt_tokens=27, completion_tokens=3) | {"timings": timings(3, cache_n=22)}
    usage = streamed(CHAT, delta(content="a"), frame)[1]
    assert (usage.source, usage.input_tokens, usage.input_cache_hit) == ("usage", 27, 22)


def test_per_request_metrics_of_vllm() -> None:
    """Metrics of vLLM have queue, prefill and decode times."""
    metrics = {"time_to_first_token_ms": 85.0, "generation_time_ms": 1240.0, "queue_time_ms": 12.0, "mean_itl_ms": None}
    usage = streamed(CHAT, usage_frame(prompt_tokens=1, completion_tokens=2) | {"metrics": metrics})[1]
    assert (usage.queue_seconds, usage.prefill_seconds, usage.decode_seconds) == (0.012, 0.085, 1.24)


@pytest.mark.parametrize("place", ["usage", "x_groq"])
def test_times_of_groq(place: str) -> None:
    """Groq has its times in usage, and that of a stream in an extension of the last frame."""
    usage = {"queue_time": 0.04, "prompt_tokens": 9, "prompt_time": 0.01, "completion_tokens": 5}
    usage |= {"completion_time": 0.2, "total_time": 0.21}
    last = delta(finish="stop") | ({"usage": usage} if place == "usage" else {"x_groq": {"id": "r", "usage": usage}})
    known = streamed(CHAT, delta(content="a") | {"x_groq": {"id": "r"}}, last, "[DONE]")[1]
    assert (known.input_tokens, known.output_tokens, known.source, known.parse_errors) == (9, 5, "usage", ())
    assert (known.queue_seconds, known.prefill_seconds, known.decode_seconds) == (0.04, 0.01, 0.2)
    assert streamed(CHAT, {"x_groq": {"error": "over capacity"}})[1].failed


def test_times_of_mistral_rs() -> None:
    """mistral.rs has its times in usage too, under other names."""
    times = {"total_time_sec": 0.75, "total_prompt_time_sec": 0.25, "total_completion_time_sec": 0.5}
    usage = whole(CHAT, usage_frame(prompt_tokens=9, completion_tokens=5, avg_tok_per_sec=18.7, **times))
    assert (usage.queue_seconds, usage.prefill_seconds, usage.decode_seconds) == (None, 0.25, 0.5)
    assert (usage.input_tokens, usage.output_tokens, usage.parse_errors) == (9, 5, ())


def test_conversations_in_a_batch() -> None:
    """VLLM's batch has a choice for each conversation, and the usage of all."""
    body = {"choices": [{"index": n, "message": {"content": "a"}, "finish_reason": "stop"} for n in range(2)]}
    usage = whole(f"{CHAT}/batch", body | {"usage": {"prompt_tokens": 9, "completion_tokens": 5}})
    assert (usage.input_tokens, usage.output_tokens, usage.choices) == (9, 5, 2)


def test_stats_of_lm_studio() -> None:
    """LM Studio's stats have prefill and decode times; its counts are in usage."""
    body = {
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "a"}}],
        "usage": {"prompt_tokens": 24, "completion_tokens": 53},
        "stats": {"time_to_first_token": 0.111, "generation_time": 0.954, "stop_reason": "eosFound"},
    }
    usage = whole("/api/v0/chat/completions", body)
    assert (usage.source, usage.prefill_seconds, usage.decode_seconds) == ("usage", 0.111, 0.954)


@pytest.mark.parametrize(
    "frame",
    [
        {"error": {"message": "out of memory", "code": 500}},
        {"error": "out of memory"},
        {"object": "error", "message": "out of memory"},
    ],
)
def test_an_error_inside_a_stream(frame: dict[str, object]) -> None:
    """An error frame makes the response a failure, whatever its status is."""
    usage = streamed(CHAT, delta(content="a"), frame, "[DONE]")[1]
    assert usage.failed


@pytest.mark.parametrize("event", ["event: error\ndata: {}\n\n", 'error: {"code":500}\n\n'])
def test_an_error_in_the_framing(event: str) -> None:
    """An event named error, and older llama.cpp's error field, are failures."""
    assert feed(reply(CHAT, SSE), [events(delta(content="a")) + event.encode()])[1].failed


def test_a_refusal_in_json() -> None:
    """The response to a stream request may be one JSON document."""
    usage = whole(CHAT, {"error": {"message": "no such model", "code": 404}})
    assert (usage.failed, usage.complete, usage.parse_errors) == (True, True, ())


@pytest.mark.parametrize("kind", ["text/html", "audio/mpeg", "", "text/plain; charset=utf-8"])
def test_other_replies_say_nothing(kind: str) -> None:
    """HTML and audio are not parsed, and are no parse errors."""
    usage = feed(reply(CHAT, kind), [b"<html>Bad gateway</html>"])[1]
    assert (usage.complete, usage.failed, usage.source, usage.parse_errors) == (True, False, "none", ())


def test_the_model_is_known_early() -> None:
    """The model is known from the first frame that names it."""
    watching = reply(CHAT, SSE)
    assert watching.model is None
    watching.feed(events(delta(role="assistant")))
    assert watching.model == "m"


def test_half_a_character_is_a_token() -> None:
    """A frame with content that is not UTF-8 is still parsed."""
    data = b'data: {"choices":[{"index":0,"delta":{"content":"\xf0\x9f"}}]}\n\n'
    assert reply(CHAT, SSE).feed(data) == ANSWER


@pytest.mark.parametrize("data", ["[" * 100_000, '{"a":' * 100_000, "{]", "nope"])
def test_what_is_not_json(data: str) -> None:
    """Text that cannot be parsed, or is nested too deeply, is a json error."""
    assert streamed(CHAT, data)[1].parse_errors == ("json",)
    assert feed(reply(CHAT, JSON), [data.encode() + (b"]" if data[0] == "[" else b"}")])[1].parse_errors == ("json",)


def test_text_completions() -> None:
    """A text completion's token is its text; several prompts are several choices."""
    frames = [{"choices": [{"index": n, "text": text}]} for n, text in ((0, ""), (0, "a"), (1, "b"))]
    progress, usage = streamed(TEXT, *frames)
    assert (progress, usage.choices) == ((2, True), 2)
