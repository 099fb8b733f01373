"""The other dialects, frame by frame: Anthropic, Ollama, llama.cpp, LM Studio, audio, embeddings, reranking."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from modelhost_exporter.dialects import Progress

from .feeding import JSON, SSE, feed, lined, reply, split, streamed, whole

MESSAGES = "/v1/messages"
NONE = Progress(0, answer=False)
THOUGHT = Progress(1, answer=False)
ANSWER = Progress(1, answer=True)


def block(kind: str, **fields: object) -> dict[str, Any]:
    """Return an Anthropic frame with a piece of a content block."""
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **fields}}


def start(**usage: object) -> dict[str, Any]:
    """Return the frame that begins an Anthropic message."""
    return {"type": "message_start", "message": {"model": "m", "usage": usage}}


def end(reason: str = "end_turn", **usage: object) -> dict[str, Any]:
    """Return the frame that ends an Anthropic message but for message_stop."""
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


STOP = {"type": "message_stop"}


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (block("text_delta", text="a"), ANSWER),
        (block("text_delta", text=""), NONE),
        (block("input_json_delta", partial_json='{"'), ANSWER),
        (block("input_json_delta", partial_json=""), NONE),
        (block("thinking_delta", thinking="hm"), THOUGHT),
        (block("signature_delta", signature="x"), NONE),
        ({"type": "ping"}, NONE),
        ({"type": "content_block_start", "content_block": {"type": "text", "text": ""}}, NONE),
        ({"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f", "input": {}}}, ANSWER),
        ({"type": "content_block_start", "content_block": {"type": "server_tool_use", "name": "f"}}, ANSWER),
        ({"type": "content_block_start", "content_block": {"type": "mcp_tool_use", "name": "f"}}, ANSWER),
        ({"type": "content_block_start", "content_block": {"type": "redacted_thinking", "data": "x"}}, THOUGHT),
        ({"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}}, NONE),
        ({"type": "content_block_start", "content_block": {"type": "web_search_tool_result"}}, NONE),
        ({"type": "content_block_start", "content_block": {"type": []}}, NONE),
        ({"type": "content_block_stop", "index": 0}, NONE),
        (start(input_tokens=1), NONE),
        (end(output_tokens=1), NONE),
        (STOP, NONE),
        ({"type": "content_block_delta", "delta": {"type": []}}, NONE),
    ],
)
def test_which_anthropic_events_are_tokens(frame: dict[str, Any], expected: Progress) -> None:
    """Only deltas with text, thoughts or tool input are tokens; pings and brackets are not."""
    progress, usage = streamed(MESSAGES, frame)
    assert (progress, usage.parse_errors) == (expected, ())


def test_anthropic_thought_without_its_text() -> None:
    """Where thoughts are left out, the signature is all that shows of them; after thoughts it is no token."""
    begin = {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": "", "signature": ""}}
    signature = block("signature_delta", signature="x")
    assert streamed(MESSAGES, begin, signature, signature)[0] == THOUGHT
    assert streamed(MESSAGES, begin, block("thinking_delta", thinking="hm"), signature)[0] == THOUGHT
    usage = {"output_tokens": 5, "output_tokens_details": {"thinking_tokens": 0}}
    body = {"content": [{"type": "thinking", "thinking": "", "signature": "x"}], "usage": usage}
    assert (whole(MESSAGES, body).output_tokens, whole(MESSAGES, body).output_reasoning) == (5, None)


def test_anthropic_cache_stands_beside_the_input() -> None:
    """Tokens read from and written to the cache are added, so that the input is the whole input."""
    usage = streamed(
        MESSAGES,
        start(input_tokens=5, cache_read_input_tokens=20, cache_creation_input_tokens=3, output_tokens=1),
        end(output_tokens=7),
        end(output_tokens=9),
        STOP,
    )[1]
    assert (usage.input_tokens, usage.input_cache_hit, usage.input_cache_write) == (28, 20, 3)
    assert (usage.output_tokens, usage.complete, usage.finish_reasons) == (9, True, ("stop",))


def test_anthropic_input_of_the_end_wins() -> None:
    """The start may contain an estimate; values of the end replace it, except zeros."""
    later = streamed(MESSAGES, start(input_tokens=30), end(input_tokens=4, cache_read_input_tokens=20))[1]
    assert (later.input_tokens, later.input_cache_hit) == (24, 20)
    zeros = streamed(MESSAGES, start(input_tokens=30), end(input_tokens=0, output_tokens=2))[1]
    assert (zeros.input_tokens, zeros.output_tokens) == (30, 2)


def test_anthropic_cut_stream() -> None:
    """A truncated message has input tokens; the output_tokens of its start are a placeholder."""
    usage = streamed(MESSAGES, start(input_tokens=30, output_tokens=1), block("text_delta", text="a"))[1]
    assert (usage.input_tokens, usage.output_tokens, usage.complete) == (30, None, False)


def test_anthropic_error_inside_a_200() -> None:
    """An error event makes the reply a failure."""
    assert streamed(MESSAGES, start(input_tokens=3), {"type": "error", "error": {"type": "overloaded_error"}})[1].failed


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
    ],
)
def test_anthropic_stop_reasons(said: str, meant: str) -> None:
    """Stop reasons are mapped to the common finish reasons."""
    assert streamed(MESSAGES, end(said))[1].finish_reasons == (meant,)


FINAL = {
    "model": "m",
    "done": True,
    "done_reason": "stop",
    "total_duration": 5_000_000_000,
    "load_duration": 1_000_000_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 500_000_000,
    "eval_count": 290,
    "eval_duration": 3_000_000_000,
}


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"message": {"role": "assistant", "content": "a"}}, ANSWER),
        ({"message": {"role": "assistant", "content": ""}}, NONE),
        ({"message": {"content": "", "thinking": "hm"}}, THOUGHT),
        ({"message": {"content": "", "tool_calls": [{"function": {"name": "f"}}]}}, ANSWER),
        ({"message": {"content": "", "tool_calls": []}}, NONE),
        ({"response": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}, ANSWER),
        ({"response": "", "tool_calls": []}, NONE),
        ({"response": "a"}, ANSWER),
        ({"response": "", "thinking": "hm"}, THOUGHT),
        ({"response": ""}, NONE),
    ],
)
def test_which_ollama_lines_are_tokens(frame: dict[str, Any], expected: Progress) -> None:
    """A line with text, reasoning or a tool call counts as a chunk with tokens."""
    progress, usage = lined("/api/chat", {"model": "m", "done": False} | frame)
    assert (progress, usage.parse_errors, usage.complete) == (expected, (), False)


def test_ollama_final_line() -> None:
    """The final line holds the counts, and durations in nanoseconds."""
    usage = lined("/api/chat", {"model": "m", "message": {"content": "a"}, "done": False}, FINAL)[1]
    assert (usage.source, usage.input_tokens, usage.input_cache_hit, usage.output_tokens) == ("ollama", 26, None, 290)
    assert (usage.load_seconds, usage.prefill_seconds, usage.decode_seconds) == (1.0, 0.5, 3.0)
    assert (usage.complete, usage.finish_reasons, usage.is_inference) == (True, ("stop",), True)
    assert whole("/api/generate", {"response": "a"} | FINAL) == usage


@pytest.mark.parametrize("nanoseconds", [0, 1])
def test_durations_that_imitate_ollama(nanoseconds: int) -> None:
    """KoboldCpp writes 1 ns for each duration of Ollama's format: it has not measured them."""
    names = ("load_duration", "prompt_eval_duration", "eval_duration")
    usage = lined("/api/chat", FINAL | dict.fromkeys(names, nanoseconds))[1]
    assert (usage.load_seconds, usage.prefill_seconds, usage.decode_seconds) == (None, None, None)
    assert (usage.input_tokens, usage.output_tokens, usage.parse_errors) == (26, 290, ())


def test_ollama_without_prompt_count() -> None:
    """Older versions omit the prompt's count if the whole prompt was cached: it is unknown."""
    usage = lined("/api/generate", {key: value for key, value in FINAL.items() if key != "prompt_eval_count"})[1]
    assert (usage.source, usage.input_tokens, usage.output_tokens) == ("ollama", None, 290)


def test_ollama_tool_call_is_a_finish_reason() -> None:
    """Ollama reports 'stop' for a tool call; the call itself shows the reason."""
    call = {"message": {"content": "", "tool_calls": [{"function": {"name": "f"}}]}, "done": False}
    assert lined("/api/chat", call, FINAL)[1].finish_reasons == ("tool_calls",)
    generated = {"response": "", "tool_calls": [{"function": {"name": "f"}}]}
    assert whole("/api/generate", FINAL | generated).finish_reasons == ("tool_calls",)


@pytest.mark.parametrize("reason", ["load", "unload"])
def test_ollama_load_is_no_inference(reason: str) -> None:
    """A response that only loads or unloads a model is no inference and has no finish reason."""
    usage = lined("/api/generate", {"model": "m", "response": "", "done": True, "done_reason": reason})[1]
    assert (usage.is_inference, usage.complete, usage.finish_reasons, usage.source) == (False, True, (), "none")


def test_ollama_error_line() -> None:
    """An error line after valid lines makes the stream a failure."""
    usage = lined("/api/chat", {"message": {"content": "a"}, "done": False}, {"error": "runner has terminated"})[1]
    assert (usage.failed, usage.complete) == (True, False)


def test_ollama_embeddings() -> None:
    """Embeddings have input tokens at Ollama's current path, and no counts at the older one."""
    usage = whole("/api/embed", {"model": "m", "embeddings": [[0.1]], "load_duration": 10**9, "prompt_eval_count": 8})
    assert (usage.source, usage.input_tokens, usage.output_tokens, usage.load_seconds) == ("ollama", 8, None, 1.0)
    assert whole("/api/embeddings", {"embedding": [0.1]}).source == "none"


def native(content: str, *, index: int = 0, **more: object) -> dict[str, Any]:
    """Return a frame of llama.cpp's own completion."""
    return {"index": index, "content": content, "stop": False} | more


def test_llamacpp_comments_are_nothing() -> None:
    """Pings of llama.cpp are comments and neither tokens nor errors."""
    assert feed(reply("/completion", SSE), [b":\n\n: ping\n\n"])[0] == NONE


def test_llamacpp_without_timings() -> None:
    """Servers whose timings lack cache_n report the whole prompt in tokens_evaluated."""
    final = native("", stop=True, stop_type="eos", tokens_predicted=3, tokens_evaluated=9)
    progress, usage = streamed("/infill", native("a"), native(""), final)
    assert (progress, usage.complete, usage.finish_reasons) == (ANSWER, True, ("stop",))
    assert (usage.source, usage.input_tokens, usage.input_cache_hit, usage.output_tokens) == ("timings", 9, None, 3)


def test_llamacpp_several_prompts() -> None:
    """The response to several prompts is an array: input and output are summed."""
    timings = {"cache_n": 1, "prompt_n": 3, "prompt_ms": 10.0, "predicted_n": 2, "predicted_ms": 20.0}
    bodies = [native("a", index=n, model="m", stop_type="limit", timings=timings) for n in range(3)]
    usage = whole("/completion", bodies)
    assert (usage.choices, usage.input_tokens, usage.input_cache_hit, usage.output_tokens) == (3, 12, 3, 6)
    assert (usage.finish_reasons, usage.prefill_seconds) == (("length",) * 3, 0.01)


def test_openai_dialect_at_a_bare_path() -> None:
    """/completions with OpenAI's format is parsed as well."""
    frame = {"model": "m", "choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}
    progress, usage = streamed("/completions", frame, "[DONE]")
    assert (progress, usage.complete, usage.finish_reasons, usage.parse_errors) == (ANSWER, True, ("stop",), ())
    assert whole("/completions", frame | {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}).input_tokens == 3


def test_llamacpp_error() -> None:
    """An error frame is a failure."""
    assert streamed("/completion", native("a"), {"error": {"code": 500}})[1].failed


def test_lm_studio_chat() -> None:
    """LM Studio's own chat reports counts and times in the stats of its last event."""
    stats = {
        "input_tokens": 329,
        "total_output_tokens": 268,
        "reasoning_output_tokens": 5,
        "time_to_first_token_seconds": 0.5,
        "model_load_time_seconds": 2.5,
    }
    result = {"model_instance_id": "m", "output": [], "stats": stats}
    progress, usage = streamed(
        "/api/v1/chat",
        {"type": "chat.start", "model_instance_id": "m"},
        {"type": "reasoning.delta", "content": "hm"},
        {"type": "tool_call.arguments", "tool": "f", "arguments": {}},
        {"type": "message.delta", "content": "a"},
        {"type": "message.delta", "content": ""},
        {"type": "chat.end", "result": result},
    )
    assert progress == (3, True)
    assert (usage.source, usage.input_tokens, usage.output_tokens, usage.output_reasoning) == ("stats", 329, 268, 5)
    assert (usage.prefill_seconds, usage.load_seconds, usage.model, usage.complete) == (0.5, 2.5, "m", True)
    assert whole("/api/v1/chat", result) == usage
    del stats["model_load_time_seconds"]  # of a model that is loaded for this chat, an event has it
    loaded = {"type": "model_load.end", "model_instance_id": "m", "load_time_seconds": 3.5}
    assert streamed("/api/v1/chat", loaded, {"type": "chat.end", "result": result})[1].load_seconds == 3.5
    assert streamed("/api/v1/chat", {"type": "error", "error": {"type": "unknown"}})[1].failed


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        ("/v1/embeddings", {"model": "m", "usage": {"prompt_tokens": 8, "total_tokens": 8, "completion_tokens": 0}}, 8),
        ("/v1/rerank", {"model": "m", "results": [], "usage": {"total_tokens": 70}}, 70),
        ("/v2/rerank", {"results": [], "meta": {"tokens": {"input_tokens": 12}}}, 12),
        ("/score", {"usage": {"prompt_tokens": 3}}, 3),
        ("/v1/embeddings", {"usage": {"prompt_tokens": 0, "total_tokens": 0}}, None),
        ("/v2/embed", {"meta": {"billed_units": {"input_tokens": 3.0, "image_tokens": 2.0}}}, 5),
        ("/v2/embed", {"meta": {"billed_units": {"input_tokens": 3}, "tokens": {"input_tokens": 4}}}, 4),
        ("/v2/rerank", {"results": [], "meta": {"billed_units": {"search_units": 1}}}, None),
        ("/pooling", {"data": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}, 3),
        ("/classify", {"data": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}, 3),
        ("/encode", {"embedding": [0.1], "meta_info": {"prompt_tokens": 4}}, 4),
        ("/classify", [{"embedding": [0.1], "meta_info": {"prompt_tokens": n}} for n in (4, 5)], 9),
        ("/classify", [{"embedding": [0.1], "meta_info": {}}], None),
        ("/embed", [[0.1, 0.2]], None),
        ("/rerank", [{"index": 0, "score": 0.9}], None),
    ],
)
def test_inputs_only(path: str, body: object, tokens: int | None) -> None:
    """Embeddings and reranking report input tokens or nothing, and never output tokens."""
    usage = whole(path, body)
    assert (usage.input_tokens, usage.output_tokens, usage.complete) == (tokens, None, True)
    assert usage.source == ("none" if tokens is None else "usage")


def test_long_embeddings_are_read_at_their_ends() -> None:
    """Of a body that is too large to parse, values at either end are read, but not from strings that look like them."""
    numbers = b",".join(b"0.123456789" for _ in range(20_000))
    trap = rb'"text":"\"usage\":{\"prompt_tokens\":1}"'
    front = b'{"model":"m","usage":{"prompt_tokens":8,"total_tokens":8},' + trap + b',"data":[' + numbers + b"]}"
    back = b"{" + trap + b',"data":[' + numbers + b'],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}'
    for body, size in itertools.product((front, back), (5000, 1_000_000)):
        usage = feed(reply("/v1/embeddings", JSON), split(body, size))[1]
        assert (usage.model, usage.input_tokens, usage.complete, usage.parse_errors) == ("m", 8, True, ())
        assert not feed(reply("/v1/embeddings", JSON), split(body[:-30], size))[1].complete
    nothing = feed(reply("/v1/embeddings", JSON), [b'{"data":[' + numbers + b"]}"])[1]
    assert (nothing.input_tokens, nothing.parse_errors) == (None, ("too_long",))


def test_transcriptions() -> None:
    """Transcriptions count tokens or seconds; only tokens are counts."""
    path = "/v1/audio/transcriptions"
    usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 45}
    assert whole(path, {"text": "a", "usage": usage}).input_tokens == 14
    assert whole(path, {"text": "a", "usage": {"type": "duration", "seconds": 3}}).source == "none"
    done = {"type": "transcript.text.done", "text": "a", "usage": usage}
    progress, known = streamed(path, {"type": "transcript.text.delta", "delta": "a"}, done)
    assert (progress, known.output_tokens, known.complete) == (ANSWER, 45, True)
    chunk = {"object": "transcription.chunk", "model": "m", "choices": [{"delta": {"content": "a"}}]}
    assert streamed(path, chunk, "[DONE]")[0] == ANSWER
