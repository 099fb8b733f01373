"""The arithmetic of the request metrics, over the wire and on plain observations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.requests.metrics import RequestMetrics, input_parts, output_parts
from modelhost_exporter.requests.observation import RequestLabels, RequestObservation, Tokens
from modelhost_exporter.requests.slo import Objective, Objectives
from modelhost_exporter.requests.stream_clock import StreamClock
from tests.proxy.client import request
from tests.proxy.dialects import DONE, JSON, ask, ask_stream, completion, event, finish, stream, token, usage
from tests.proxy.upstream import always, reply

if TYPE_CHECKING:
    from modelhost_exporter.requests.observation import Outcome
    from tests.proxy.conftest import Proxied, StartProxied

CHAT = {"model": "m", "operation": "chat"}
STREAM_TIMES = (
    "request_time_to_first_token_seconds",
    "request_time_to_first_answer_token_seconds",
    "request_time_per_output_token_seconds",
    "request_stream_max_gap_seconds",
)


async def _post(proxied: Proxied, body: bytes, path: str = "/v1/chat/completions") -> None:
    async with proxied.client() as client:
        await client.send(request(path, body))
        await client.reply()


async def test_the_answers_that_a_request_wants_are_observed(start_proxied: StartProxied) -> None:
    """``n`` of the request, with which an engine may count its prompt; 1 for one that does not have it."""
    seen: list[RequestObservation] = []
    proxied = await start_proxied(always(completion()), listeners=(seen.append,))
    await _post(proxied, ask(n=3))
    await _post(proxied, ask())
    await proxied.observed(2)
    assert [observed.choices for observed in seen] == [3, 1]


def _counts(proxied: Proxied) -> dict[str, float]:
    return {name: proxied.total(f"{name}_count") for name in STREAM_TIMES}


async def test_a_stream_counts_everything_once(start_proxied: StartProxied) -> None:
    """A stream with usage has each time, its tokens by part, its end, its source and its chunks.

    It comes in one piece, so there is no gap and no time per token.
    """
    details: dict[str, Any] = {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    events = (token("hm", key="reasoning_content"), token("a"), token("b"), finish("length"), usage(**details), DONE)
    proxied = await start_proxied(always(stream(*events)))
    await _post(proxied, ask_stream())
    await proxied.one()
    assert _counts(proxied) == {
        "request_time_to_first_token_seconds": 1,
        "request_time_to_first_answer_token_seconds": 1,
        "request_time_per_output_token_seconds": 0,
        "request_stream_max_gap_seconds": 0,
    }
    assert proxied.value("stream_chunks_total", **CHAT) == 3
    assert proxied.value("input_tokens_total", **CHAT, cache="hit") == 3
    assert proxied.value("input_tokens_total", **CHAT, cache="miss") == 4
    assert proxied.value("output_tokens_total", **CHAT, type="reasoning") == 2
    assert proxied.value("output_tokens_total", **CHAT, type="response") == 3
    assert proxied.value("request_input_tokens_sum", **CHAT) == 7
    assert proxied.value("request_output_tokens_sum", **CHAT) == 5
    assert proxied.samples("choices_finished_total") == {
        (("finish_reason", "length"), ("model", "m"), ("operation", "chat")): 1
    }
    assert proxied.samples("requests_by_usage_source_total") == {
        (("model", "m"), ("operation", "chat"), ("source", "usage")): 1
    }
    assert proxied.value("proxy_overhead_seconds_count", leg="request") == 1
    assert proxied.value("proxy_overhead_seconds_count", leg="response") == 1


async def test_a_whole_reply_has_no_stream_times(start_proxied: StartProxied) -> None:
    """Without a stream there is no first token, no time per token, no gap and no chunk; the tokens count."""
    proxied = await start_proxied(always(completion()))
    await _post(proxied, ask())
    await proxied.one()
    assert _counts(proxied) == dict.fromkeys(STREAM_TIMES, 0)
    assert proxied.total("stream_chunks_total") == 0
    assert proxied.value("input_tokens_total", **CHAT, cache="unknown") == 7
    assert proxied.value("output_tokens_total", **CHAT, type="unknown") == 3


async def test_without_usage_no_time_per_token(start_proxied: StartProxied) -> None:
    """A chunk is not a token: where the server does not count, there is no time per token and no token."""
    proxied = await start_proxied(always(stream(token("a"), token("b"), finish(), DONE)))
    await _post(proxied, ask_stream())
    await proxied.one()
    assert proxied.total("request_time_per_output_token_seconds_count") == 0
    assert proxied.total("request_time_to_first_token_seconds_count") == 1
    assert proxied.total("output_tokens_total") == 0
    assert proxied.value("requests_by_usage_source_total", **CHAT, source="none") == 1


async def test_two_answers_have_no_time_per_token(start_proxied: StartProxied) -> None:
    """With n=2 tokens of two answers mix: the first is measured, time per token is not; both ends count."""
    events = (token("a"), token("b", index=1), finish(), finish("length", index=1), usage(), DONE)
    proxied = await start_proxied(always(stream(*events)))
    await _post(proxied, ask_stream(n=2))
    await proxied.one()
    assert proxied.total("request_time_to_first_token_seconds_count") == 1
    assert proxied.total("request_time_per_output_token_seconds_count") == 0
    assert sorted(dict(labels)["finish_reason"] for labels in proxied.samples("choices_finished_total")) == [
        "length",
        "stop",
    ]


async def test_one_token_has_no_time_per_token(start_proxied: StartProxied) -> None:
    """One token has no gap and no time per token."""
    proxied = await start_proxied(always(stream(token("a"), finish(), usage(completion_tokens=1), DONE)))
    await _post(proxied, ask_stream())
    await proxied.one()
    assert proxied.total("request_time_per_output_token_seconds_count") == 0
    assert proxied.total("request_stream_max_gap_seconds_count") == 0


async def test_a_role_is_no_token(start_proxied: StartProxied) -> None:
    """A stream of a role and an empty text has no first token."""
    empty = event(model="m", choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])
    proxied = await start_proxied(always(stream(empty, finish(), DONE)))
    await _post(proxied, ask_stream())
    assert (await proxied.one())["outcome"] == "ok"
    assert _counts(proxied) == dict.fromkeys(STREAM_TIMES, 0)


async def test_ollamas_durations_are_the_servers(start_proxied: StartProxied) -> None:
    """What the server itself measured is recorded as it says, in seconds."""
    answer = {
        "model": "m",
        "message": {"role": "assistant", "content": "hi"},
        "done": True,
        "done_reason": "stop",
        "total_duration": 10**10,
        "load_duration": 2 * 10**9,
        "prompt_eval_count": 26,
        "prompt_eval_duration": 130_000_000,
        "eval_count": 290,
        "eval_duration": 4 * 10**9,
    }
    proxied = await start_proxied(always(reply(json.dumps(answer).encode(), JSON)))
    await _post(proxied, ask(stream=False), "/api/chat")
    await proxied.one()
    sums = {
        name: proxied.value(f"request_{name}_seconds_sum", **CHAT) for name in ("load", "prefill", "decode", "queue")
    }
    assert sums == {"load": 2.0, "prefill": 0.13, "decode": 4.0, "queue": None}
    assert proxied.value("requests_by_usage_source_total", **CHAT, source="ollama") == 1
    assert proxied.value("choices_finished_total", **CHAT, finish_reason="stop") == 1


async def test_objectives_count_over_the_wire(start_proxied: StartProxied) -> None:
    """A stream is judged by each objective; thresholds and ratios are shown; a model's own replace the server's."""
    hour, never = Objective(Seconds(3600.0), 0.95), Objective(Seconds(1e-9))
    proxied = await start_proxied(
        always(stream()),
        slo=Objectives(never, never, never),
        models={"m": Objectives(ttft=hour, duration=never)},
    )
    await _post(proxied, ask_stream())
    await proxied.one()
    assert proxied.value("slo_requests_total", **CHAT, slo="ttft") == 1
    assert proxied.value("slo_good_requests_total", **CHAT, slo="ttft") == 1
    assert proxied.value("slo_requests_total", **CHAT, slo="duration") == 1
    assert proxied.value("slo_good_requests_total", **CHAT, slo="duration") == 0
    assert proxied.value("slo_requests_total", **CHAT, slo="tpot") is None
    assert proxied.value("slo_threshold_seconds", **CHAT, slo="ttft") == 3600
    assert proxied.value("slo_objective_ratio", **CHAT, slo="ttft") == 0.95
    assert proxied.value("goodput_requests_total", **CHAT) == 1
    assert proxied.value("goodput_good_requests_total", **CHAT) == 0


def _observation(outcome: Outcome = "ok", *, stream: bool = True, **times: float | None) -> RequestObservation:
    return RequestObservation(RequestLabels("s", "m", "chat"), stream, outcome, "200", **{"duration": 1.0, **times})  # type: ignore[arg-type]


ALL = Objectives(Objective(Seconds(0.5)), Objective(Seconds(0.05)), Objective(Seconds(2.0)))


@pytest.mark.parametrize(
    ("observed", "verdicts"),
    [
        (_observation(time_to_first_token=0.5, time_per_output_token=0.05, duration=2.0), (True, True, True)),
        (_observation(time_to_first_token=0.51, time_per_output_token=0.051, duration=2.1), (False, False, False)),
        (_observation(time_to_first_token=0.1), (True, None, True)),
        (_observation(stream=False), (None, None, True)),
        (_observation("server_error"), (False, False, False)),
        (_observation("timeout"), (False, False, False)),
        (_observation("upstream_unreachable", stream=False), (None, None, False)),
        (_observation("stream_error", time_to_first_token=0.1), (False, False, False)),
        (_observation("client_error"), (None, None, None)),
        (_observation("client_disconnect", time_to_first_token=0.1), (None, None, None)),
    ],
    ids=[
        *("at the threshold", "above it", "one token", "whole reply", "server_error", "timeout", "unreachable"),
        *("stream_error", "client_error", "client_disconnect"),
    ],
)
def test_a_request_is_judged_exactly(observed: RequestObservation, verdicts: tuple[bool | None, ...]) -> None:
    """At the threshold is good, a failure is not; what the client spoilt or cannot be measured is left out."""
    expected = {n: good for n, good in zip(("ttft", "tpot", "duration"), verdicts, strict=True) if good is not None}
    assert ALL.verdicts(observed) == expected


async def test_a_model_that_never_answers_misses_its_objectives(start_proxied: StartProxied, dead_port: int) -> None:
    """A failure counts as not good for a model that has objectives, also when it never had a success."""
    proxied = await start_proxied(
        always(reply()), port=dead_port, models={"m": Objectives(duration=Objective(Seconds(3600.0)))}
    )
    async with proxied.client() as client:
        await client.send(request(body=ask("m")))
        assert (await client.reply()).code == 502
    assert (await proxied.one())["model"] == "m"
    labels = {"model": "m", "operation": "chat", "slo": "duration"}
    assert proxied.value("slo_requests_total", **labels) == 1
    assert proxied.value("slo_good_requests_total", **labels) == 0


def test_objectives_start_at_zero() -> None:
    """Every series of an objective is there from a server's first inference on, at 0, also if that one is left out."""
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    metrics.record(_observation("client_error"), ALL)
    common = {"server": "s", "model": "m", "operation": "chat"}
    for slo in ("ttft", "tpot", "duration"):
        for name in ("slo_requests_total", "slo_good_requests_total"):
            assert registry.get_sample_value(f"modelhost_{name}", {**common, "slo": slo}) == 0
    for name in ("goodput_requests_total", "goodput_good_requests_total"):
        assert registry.get_sample_value(f"modelhost_{name}", common) == 0


def test_goodput_needs_every_objective() -> None:
    """A request is good when it meets all that apply to it, and counted when any does."""
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    for ttft, tpot in ((0.1, 0.01), (0.1, 0.9), (0.9, 0.01)):
        metrics.record(_observation(time_to_first_token=ttft, time_per_output_token=tpot), ALL)
    metrics.record(_observation(stream=False), ALL)
    metrics.record(_observation("client_disconnect"), ALL)
    metrics.record(_observation("timeout"), ALL)
    common = {"server": "s", "model": "m", "operation": "chat"}
    assert registry.get_sample_value("modelhost_goodput_requests_total", common) == 5
    assert registry.get_sample_value("modelhost_goodput_good_requests_total", common) == 2


@pytest.mark.parametrize(
    ("tokens", "parts"),
    [
        (Tokens(), {}),
        (Tokens(input=10), {"unknown": 10}),
        (Tokens(input=10, input_cache_hit=4), {"hit": 4, "miss": 6}),
        (Tokens(input=10, input_cache_hit=0), {"miss": 10}),
        (Tokens(input=10, input_cache_hit=10), {"hit": 10}),
        (Tokens(input=10, input_cache_hit=4, input_cache_write=5), {"hit": 4, "write": 5, "miss": 1}),
        (Tokens(input=0), {"unknown": 0}),
    ],
)
def test_input_parts_sum_to_the_truth(tokens: Tokens, parts: dict[str, int]) -> None:
    """Hit, miss and write are disjoint and sum to the input; unknown stands alone."""
    assert dict(input_parts(tokens)) == parts
    assert sum(parts.values()) == (tokens.input or 0)


@pytest.mark.parametrize(
    ("tokens", "parts"),
    [
        (Tokens(), {}),
        (Tokens(output=10), {"unknown": 10}),
        (Tokens(output=10, output_reasoning=4), {"reasoning": 4, "response": 6}),
        (Tokens(output=10, output_reasoning=0), {"response": 10}),
        (Tokens(output=10, output_reasoning=10), {"reasoning": 10}),
    ],
)
def test_output_parts_sum_to_the_truth(tokens: Tokens, parts: dict[str, int]) -> None:
    """Response and reasoning are disjoint and sum to the output; unknown stands alone."""
    assert dict(output_parts(tokens)) == parts


def test_the_clock_knows_first_last_and_gap() -> None:
    """First token, first answer, longest silence and time per counted token are what the marks say."""
    clock = StreamClock()
    for at, answer in ((10.0, False), (10.5, True), (13.0, True), (13.25, False)):
        clock.chunk(at, answer=answer)
    assert (clock.first, clock.first_answer, clock.last, clock.max_gap) == (10.0, 10.5, 13.25, 2.5)
    assert clock.time_per_output_token(14) == 0.25
    assert clock.time_per_output_token(1) is None
    assert clock.time_per_output_token(None) is None
    assert StreamClock().time_per_output_token(5) is None


def test_tokens_of_one_piece_have_no_time_per_token() -> None:
    """A tool call of Ollama arrives as one frame with all of its tokens: that took no time that could be divided."""
    clock = StreamClock()
    clock.chunk(10.0, answer=True)
    clock.chunk(10.0, answer=True)
    assert clock.time_per_output_token(40) is None
