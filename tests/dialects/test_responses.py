from __future__ import annotations

import pytest

from modelhost_exporter.dialects import Progress

from .feeding import streamed

RESPONSES = "/v1/responses"
NONE = Progress(0, answer=False)
THOUGHT = Progress(1, answer=False)
ANSWER = Progress(1, answer=True)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("response.output_text.delta", ANSWER),
        ("response.function_call_arguments.delta", ANSWER),
        ("response.refusal.delta", ANSWER),
        ("response.reasoning_text.delta", THOUGHT),
        ("response.reasoning_summary_text.delta", THOUGHT),
        ("response.output_text.done", NONE),
        ("response.something_new.delta", NONE),
    ],
)
def test_which_response_events_are_tokens(kind: str, expected: Progress) -> None:
    """Deltas with text are tokens, other events are not."""
    assert streamed(RESPONSES, {"type": kind, "delta": "x"})[0] == expected
    assert streamed(RESPONSES, {"type": kind, "delta": ""})[0] == NONE


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"type": "response.shell_call_command.added", "command": "ls"}, ANSWER),
        ({"type": "response.shell_call_command.added", "command": ""}, NONE),
        ({"type": "response.shell_call_command.delta", "delta": " -l"}, ANSWER),
        ({"type": "response.shell_call_output_content.delta", "delta": {"stdout": "a"}}, NONE),
        ({"type": "response.image_generation_call.partial_image", "partial_image_b64": "iVBO"}, ANSWER),
        ({"type": "response.image_generation_call.generating"}, NONE),
        ({"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}}, ANSWER),
        ({"type": "response.output_item.added", "item": {"type": "custom_tool_call", "name": "f"}}, ANSWER),
        ({"type": "response.output_item.added", "item": {"type": "message", "content": []}}, NONE),
        ({"type": "response.output_item.added", "item": {"type": []}}, NONE),
    ],
)
def test_which_other_response_events_are_tokens(frame: dict[str, object], expected: Progress) -> None:
    """Commands, images and the name of a call are part of the output; what a tool writes is not."""
    progress, usage = streamed(RESPONSES, frame)
    assert (progress, usage.parse_errors) == (expected, ())


def response(status: str, **more: object) -> dict[str, object]:
    """Return the event that ends a response."""
    usage = {
        "input_tokens": 10,
        "output_tokens": 4,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    body = {"id": "resp_ab12", "status": status, "model": "m", "usage": usage, **more}
    return {"type": f"response.{status}", "response": body}


def test_response_completed() -> None:
    """The completed event ends a response, and its zeros are real zeros."""
    usage = streamed(RESPONSES, response("completed"))[1]
    assert (usage.complete, usage.failed, usage.finish_reasons, usage.model) == (True, False, ("stop",), "m")
    assert (usage.input_tokens, usage.input_cache_hit, usage.output_tokens, usage.output_reasoning) == (10, 0, 4, 0)


def test_response_of_ollama() -> None:
    """Ollama always reports 0 cached and 0 reasoning tokens without counting them: unknown."""
    usage = streamed(RESPONSES, response("completed", id="resp_123456"))[1]
    assert (usage.input_tokens, usage.input_cache_hit, usage.output_tokens, usage.output_reasoning) == (
        10,
        None,
        4,
        None,
    )


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"incomplete_details": None}, "other"),
    ],
)
def test_response_incomplete(more: dict[str, object], reason: str) -> None:
    """An incomplete response has ended, for the reason that it contains."""
    usage = streamed(RESPONSES, response("incomplete", **more))[1]
    assert (usage.complete, usage.failed, usage.finish_reasons) == (True, False, (reason,))


def test_response_with_a_call() -> None:
    """A response whose output contains a function call has finished for that reason."""
    output = [{"type": "reasoning"}, {"type": "function_call", "name": "f"}, {"type": []}]
    assert streamed(RESPONSES, response("completed", output=output))[1].finish_reasons == ("tool_calls",)


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        (["shell_call"], "tool_calls"),
        (["shell_call", "shell_call_output", "message"], "stop"),
        (["local_shell_call"], "tool_calls"),
        (["apply_patch_call"], "tool_calls"),
        (["computer_call"], "tool_calls"),
        (["custom_tool_call"], "tool_calls"),
        (["web_search_call", "message"], "stop"),
    ],
)
def test_response_with_calls_of_tools(kinds: list[str], reason: str) -> None:
    """The client carries out the calls that have no output yet; the others ran on the server."""
    output = [{"type": kind} for kind in kinds]
    assert streamed(RESPONSES, response("completed", output=output))[1].finish_reasons == (reason,)


def test_response_cancelled() -> None:
    """A cancelled response has ended, with a finish reason of its own."""
    usage = streamed(RESPONSES, response("cancelled"))[1]
    assert (usage.complete, usage.finish_reasons) == (True, ("other",))


def test_response_failed() -> None:
    """A failed response is a failure, and so is an error event."""
    usage = streamed(RESPONSES, response("failed", error={"code": "server_error"}, usage=None))[1]
    assert (usage.complete, usage.failed, usage.finish_reasons) == (True, True, ())
    assert streamed(RESPONSES, {"type": "error", "message": "no"})[1].failed


def test_response_cut() -> None:
    """A response without its last event was truncated."""
    usage = streamed(RESPONSES, {"type": "response.created", "response": {"model": "m", "status": "in_progress"}})[1]
    assert (usage.complete, usage.model, usage.source) == (False, "m", "none")
