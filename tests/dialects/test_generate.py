"""Native text generation: SGLang, TGI, Triton, and vLLM from token to token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelhost_exporter.dialects import Call, Progress, find

from .feeding import JSON, feed, reply, streamed, whole

GENERATE, STREAM, TRITON = "/generate", "/generate_stream", "/v2/models/m/generate_stream"
NONE = Progress(0, answer=False)
ANSWER = Progress(1, answer=True)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (GENERATE, {"text": "a", "stream": True}, Call(None, stream=True)),
        (GENERATE, {"inputs": "a", "model": "m"}, Call("m", stream=False)),
        (STREAM, {"inputs": "a"}, Call(None, stream=True)),
        ("/v2/models/m/versions/1/generate", {"text_input": "a"}, Call(None, stream=False)),
        (TRITON, {"text_input": "a", "stream": False}, Call(None, stream=True)),
    ],
)
def test_requests(path: str, body: dict[str, Any], expected: Call) -> None:
    """A stream is requested by the path, or in the body."""
    found = find(path)
    assert found is not None
    assert (found[0].call(json.dumps(body).encode()), found[1]) == (expected, "generate")
    assert found[0].call(b"[]") is None


def sglang(tokens: int, *, index: int = 0, reason: dict[str, object] | None = None, **more: object) -> dict[str, Any]:
    """Return SGLang's output after some tokens: as in ``_handle_batch_output``, with the text so far."""
    meta = {"id": "r", "finish_reason": reason, "prompt_tokens": 9, "cached_tokens": 4, "completion_tokens": tokens}
    return {"index": index, "text": "a" * tokens, "output_ids": [1] * tokens, "meta_info": meta | more}


STOP = {"type": "stop", "matched": 2}


def test_sglang_stream() -> None:
    """Its frames repeat the text so far: one without a further token is no chunk."""
    frames = [sglang(1), sglang(3), sglang(3, reason=STOP, reasoning_tokens=2)]
    progress, usage = streamed(GENERATE, *frames, "[DONE]")
    assert (progress, usage.complete, usage.finish_reasons, usage.source) == ((2, True), True, ("stop",), "usage")
    assert (usage.input_tokens, usage.input_cache_hit, usage.output_tokens, usage.output_reasoning) == (9, 4, 3, 2)
    assert not streamed(GENERATE, sglang(1))[1].complete


def test_sglang_whole() -> None:
    """A body, and an array of them for several prompts."""
    usage = whole(GENERATE, sglang(5, reason={"type": "length", "length": 5}))
    assert (usage.input_tokens, usage.output_tokens, usage.finish_reasons, usage.complete) == (9, 5, ("length",), True)
    bodies = [sglang(n, reason=STOP) for n in (5, 6)]
    for body in bodies:
        del body["index"]
    usage = whole(GENERATE, bodies)
    assert (usage.input_tokens, usage.input_cache_hit, usage.output_tokens, usage.choices) == (18, 8, 11, 2)
    assert usage.finish_reasons == ("stop", "stop")


@pytest.mark.parametrize("meta", [{}, {"cached_tokens": 5}, {"prompt_tokens": -1, "completion_tokens": "9"}])
def test_sglang_without_counts(meta: dict[str, object]) -> None:
    """A part of an unknown whole is unknown too."""
    usage = whole(GENERATE, {"text": "a", "meta_info": meta})
    assert (usage.source, usage.input_tokens, usage.input_cache_hit, usage.output_tokens) == ("none", None, None, None)


def test_sglang_failures() -> None:
    """An abort inside a stream, and an error."""
    assert streamed(GENERATE, sglang(1), sglang(1, reason={"type": "abort", "message": "no"}))[1].failed
    assert streamed(GENERATE, sglang(1), {"error": {"message": "no"}}, "[DONE]")[1].failed


def tgi(text: str, *, special: bool = False, **last: object) -> dict[str, Any]:
    """Return a frame of TGI: router/src/lib.rs, StreamResponse."""
    token = {"id": 1, "text": text, "logprob": -0.5, "special": special}
    return {"index": 1, "token": token, "generated_text": None, "details": None} | last


def test_tgi_stream() -> None:
    """Each frame is a token; the last has the whole text, and details where they were requested."""
    details = {"finish_reason": "eos_token", "generated_tokens": 3, "seed": None, "input_length": 7}
    last = tgi("</s>", special=True, generated_text="a b", details=details)
    progress, usage = streamed(STREAM, tgi("a"), tgi(" b"), last)
    assert (progress, usage.complete, usage.finish_reasons) == ((2, True), True, ("stop",))
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (7, 3, "usage")
    usage = streamed(STREAM, tgi("a"), tgi(" b", generated_text="a b"))[1]
    assert (usage.complete, usage.finish_reasons, usage.source) == (True, (), "none")
    assert not streamed(STREAM, tgi("a"))[1].complete
    assert streamed(STREAM, tgi("a"), {"error": "no", "error_type": "generation"})[1].failed


def test_tgi_whole() -> None:
    """Its input is known where the tokens of the prompt were requested."""
    details = {"finish_reason": "length", "generated_tokens": 3, "prefill": [], "tokens": []}
    usage = whole(GENERATE, {"generated_text": "a b c", "details": details})
    assert (usage.input_tokens, usage.output_tokens, usage.finish_reasons) == (None, 3, ("length",))
    details["prefill"] = [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]
    assert whole(GENERATE, {"generated_text": "a b c", "details": details}).input_tokens == 2
    usage = whole(GENERATE, {"generated_text": "a b c"})
    assert (usage.complete, usage.source, usage.parse_errors) == (True, "none", ())


def triton(text: object, **more: object) -> dict[str, Any]:
    """Return a response of Triton: docs/protocol/extension_generate.md."""
    return {"model_name": "m", "model_version": "1", "text_output": text} | more


def test_triton_stream() -> None:
    """Nothing but HTTP ends its stream; its vLLM backend counts the tokens of each response, if requested."""
    first, second = (triton(text, num_input_tokens=7, num_output_tokens=2) for text in ("a", ["b"]))
    last = triton("", finish_reason="stop", num_input_tokens=7, num_output_tokens=1)
    progress, usage = streamed(TRITON, first, second, last)
    assert (progress, usage.complete, usage.model, usage.finish_reasons) == ((2, True), True, "m", ("stop",))
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (7, 5, "usage")
    progress, usage = streamed(TRITON, triton("a"), triton([]), triton([""]))
    assert (progress, usage.source, usage.parse_errors) == (ANSWER, "none", ())
    assert streamed(TRITON, triton("a"), {"error": "no"})[1].failed
    assert whole("/v2/models/m/generate", triton("a")).model == "m"


def test_koboldcpp() -> None:
    """A body has one result with its counts; a stream has tokens and no counts."""
    result = {"text": "a", "finish_reason": "length", "prompt_tokens": 7, "completion_tokens": 3, "tool_calls": []}
    usage = whole("/api/v1/generate", {"results": [result]})
    assert (usage.input_tokens, usage.output_tokens, usage.finish_reasons) == (7, 3, ("length",))
    assert whole("/api/v1/generate", {"results": [{"text": "a"}]}).source == "none"
    frames = [{"token": "a", "finish_reason": None}, {"token": "", "finish_reason": "stop"}]
    progress, usage = streamed("/api/extra/generate/stream", *frames)
    assert (progress, usage.complete, usage.finish_reasons, usage.parse_errors) == (ANSWER, True, ("stop",), ())


def test_other_servers() -> None:
    """A response of a server with another format has nothing that counts."""
    progress, usage = streamed(GENERATE, {"text": ["a"]}, "[DONE]")
    assert (progress, usage.source, usage.complete, usage.parse_errors) == (NONE, "none", True, ())
    assert feed(reply(GENERATE, JSON), [b"[1, 2]"])[1].parse_errors == ("shape",)
