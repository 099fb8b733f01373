"""Times are true: compared with what the upstream itself measured, on the same clock."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING

from tests.proxy.client import request
from tests.proxy.dialects import DONE, EVENT_STREAM, ask_stream, finish, token, usage
from tests.proxy.upstream import CHUNKED, LAST_CHUNK, Call, chunk, head, reply

if TYPE_CHECKING:
    from tests.proxy.conftest import StartProxied

CHAT = {"model": "m", "operation": "chat"}
TOLERANCE_SECONDS = 0.002
# when each token is sent after the request's head came; the longest silence is between the third and the fourth
SCHEDULE = (0.100, 0.120, 0.140, 0.220, 0.240, 0.260, 0.280)
ANSWER = 2  # from this one on it is the answer, before that reasoning
TOKENS = 25  # as the server counts them: a chunk is not a token
ATTEMPTS = 20  # another program may have the processor for a while; the best of these counts


async def _measure(start_proxied: StartProxied) -> dict[str, float]:
    """Return by how much each time differs from what the upstream measured."""
    sent: list[float] = []

    async def script(call: Call) -> None:
        await call.body()
        if call.target == "/":
            return await call.send(reply())
        loop = asyncio.get_running_loop()
        began, origin = loop.time(), perf_counter()
        await call.send(head(EVENT_STREAM, CHUNKED))
        for number, after in enumerate(SCHEDULE):
            due = loop.create_future()
            loop.call_at(began + after, due.set_result, None)
            await due
            sent.append(perf_counter() - origin)
            await call.send(chunk(token(key="content" if number >= ANSWER else "reasoning_content")))
        await call.send(chunk(finish() + usage(completion_tokens=TOKENS) + DONE), LAST_CHUNK)
        return None

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/"))  # opens the connections: that is no part of what the upstream measures
        await client.reply()
        await client.send(request(body=ask_stream()))
        await client.reply()
    await proxied.observed(2)
    true = {
        "request_time_to_first_token_seconds": sent[0],
        "request_time_to_first_answer_token_seconds": sent[ANSWER],
        "request_time_per_output_token_seconds": (sent[-1] - sent[0]) / (TOKENS - 1),
        "request_stream_max_gap_seconds": max(after - before for before, after in pairwise(sent)),
    }
    assert all(proxied.value(f"{name}_count", **CHAT) == 1 for name in true)
    return {name: (proxied.value(f"{name}_sum", **CHAT) or 0.0) - seconds for name, seconds in true.items()}


async def test_times_are_within_two_milliseconds(start_proxied: StartProxied) -> None:
    """First token, first answer token, time per token and longest gap are within 2 ms of the upstream's own."""
    errors: dict[str, float] = {}
    for _ in range(ATTEMPTS):
        errors = await _measure(start_proxied)
        if all(abs(error) < TOLERANCE_SECONDS for error in errors.values()):
            return
    raise AssertionError(errors)
