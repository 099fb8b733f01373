"""Output tokens per second: even throughout a long stream, and exact once usage is known."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from modelhost_exporter.live.message_builder import RATE_SECONDS
from modelhost_exporter.live.token_progress import TokenProgress
from modelhost_exporter.requests.observation import RequestLabels, RequestObservation, ServerSeconds, Tokens
from tests.live.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = RequestLabels("s", "m", "chat")
TOKENS, SECONDS = 300, 33.0


def _finish(machine: Machine, seconds: float, tokens: int, chunks: int, **observed: Any) -> None:
    machine.request(
        stream=True, seconds=seconds, output_tokens=tokens, chunks=chunks, decode_seconds=seconds, **observed
    )


def _rates(machine: Machine, tokens_per_chunk: int, until: float) -> Iterator[float | None]:
    """Yield the rate every 2 s while a stream of 300 tokens in 33 s runs and after it, up to a time."""
    chunks, start = TOKENS // tokens_per_chunk, machine.monotonic
    sent = 0
    in_progress = machine.metrics.in_flight(LABELS, "streaming")
    in_progress.inc()
    while machine.monotonic < start + until:
        passed = machine.monotonic + 2 - start
        arrived = int(min(1.0, passed / SECONDS) * chunks)
        machine.metrics.chunks(LABELS).inc(arrived - sent)
        sent = arrived
        if passed - 2 < SECONDS <= passed:
            machine.monotonic = start + SECONDS
            in_progress.dec()
            _finish(machine, SECONDS, TOKENS, chunks)
            machine.monotonic = start + passed - 2
        yield machine.read()["models"][0]["tokensPerSecond"]


def test_a_long_stream_has_its_rate_throughout() -> None:
    """About 9 tokens/s from 10 s on until its end, then less and less; never a jump."""
    machine = Machine()
    machine.read()
    rates = [rate or 0.0 for rate in _rates(machine, 1, SECONDS + RATE_SECONDS + 3)]
    during = rates[5:16]
    assert during == [pytest.approx(TOKENS / SECONDS, rel=0.06)] * 11
    assert all(after < before for before, after in pairwise(rates[17:22]))
    assert rates[-1] == 0


def test_chunks_of_several_tokens_are_learned_from_the_first_stream() -> None:
    """The first stream's rate is that of its chunks, and the second one's that of its tokens, from its begin."""
    machine = Machine()
    machine.read()
    first = [rate or 0.0 for rate in _rates(machine, 3, SECONDS + RATE_SECONDS + 3)]
    assert first[8] == pytest.approx(TOKENS / 3 / SECONDS, rel=0.15)
    assert first[16] == pytest.approx(TOKENS / SECONDS, rel=0.1)  # it has just ended
    second = [rate or 0.0 for rate in _rates(machine, 3, SECONDS)]
    assert second[5:15] == [pytest.approx(TOKENS / SECONDS, rel=0.15)] * 10


def test_the_tokens_shown_are_those_of_usage() -> None:
    """Rates times two seconds add up to the tokens of a hundred streams of all lengths, at most a second of one off."""
    machine = Machine()
    machine.read()
    shown = 0.0
    for number in range(100):
        tokens, seconds = 10 + 7 * (number % 9), 0.3 + (number % 4)
        machine.metrics.chunks(LABELS).inc(tokens)
        _finish(machine, seconds, tokens, tokens)
        shown += (machine.read()["models"][0]["tokensPerSecond"] or 0.0) * 2
    for _ in range(6):
        shown += (machine.read()["models"][0]["tokensPerSecond"] or 0.0) * 2
    assert shown == pytest.approx(sum(10 + 7 * (number % 9) for number in range(100)), rel=0.03)


def test_a_whole_response_is_spread_over_its_duration() -> None:
    """It generated for 30 s, of which the last ten count: no tooth of 30 tokens/s after it."""
    machine = Machine()
    machine.read()
    machine.request(seconds=30.0, output_tokens=300)
    for _ in range(4):
        message = machine.read()
    assert message["models"][0]["tokensPerSecond"] <= 10


@pytest.mark.parametrize(
    ("observed", "speed"),
    [
        ({"time_per_output_token": 0.02}, 50.0),
        ({"time_per_output_token": 0.02, "server_seconds": ServerSeconds(decode=5.0)}, 20.0),
        ({"time_per_output_token": 0.02, "server_seconds": ServerSeconds(decode=1e-320)}, 50.0),
        ({"server_seconds": ServerSeconds(decode=1e-320)}, None),
        ({"outcome": "stream_error", "time_per_output_token": 0.02}, None),
        ({}, None),
    ],
)
def test_the_speed_of_the_last_stream(observed: dict[str, Any], speed: float | None) -> None:
    """By the server's own decode time, unless that is none, else by the time between tokens; only of a success."""
    machine = Machine()
    machine.read()
    machine.metrics.chunks(LABELS).inc(100)
    _finish(machine, 10.0, 100, 100, **observed)
    assert machine.read()["models"][0]["lastStreamTokensPerSecond"] == speed


def test_a_removed_model_begins_again() -> None:
    """Its counters restart below what they were; the rate is that of the new requests."""
    machine = Machine()
    machine.read()
    machine.metrics.chunks(LABELS).inc(500)
    _finish(machine, 1.0, 500, 500)
    machine.read()
    assert machine.metrics.remove_model("s", "m")
    machine.metrics.chunks(LABELS).inc(20)
    _finish(machine, 1.0, 20, 20)
    assert machine.read()["models"][0]["tokensPerSecond"] == pytest.approx(20 / 4)


def test_memory_is_bounded() -> None:
    """Of 20,000 long requests 10,000 are kept, and none once they are older than any rate."""
    now = 0.0
    progress = TokenProgress(lambda: now)
    observed = RequestObservation(LABELS, stream=False, outcome="ok", code="200", duration=3.0, tokens=Tokens(output=5))
    for _ in range(20_000):
        progress.add(observed)
    assert len(progress.read({}).generations["s", "m"]) == 10_000
    now = 31.0
    assert not progress.read({}).generations
