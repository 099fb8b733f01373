"""The live feed over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from prometheus_client.metrics_core import Metric

from modelhost_exporter.live.broadcaster import Broadcaster
from modelhost_exporter.live.models import all_models
from modelhost_exporter.live.settings import AllowedHost, AllowedOrigin, LiveOptions
from modelhost_exporter.scraping.scrape import Scrape
from tests.live.client import Connection, check_message, check_model_numbers, data_of, get
from tests.live.machine import Machine
from tests.proxy.frames import CLOSE, PING, PONG, TEXT, UPGRADE, frame
from tests.proxy.upstream import DEADLINE_SECONDS
from tests.support.fakes import Fixed, Hanging, Raising, family

if TYPE_CHECKING:
    from modelhost_exporter.live.message import LiveMessage
    from tests.live.conftest import Serve, Served

EVIL = "Origin: http://evil.example"


async def _until_measured(served: Served, times: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while served.measured < times:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0.01)


async def _until_measured_no_more(served: Served) -> int:
    """Wait until nothing was measured for a few intervals, and return the number of measurements."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            before = served.measured
            await asyncio.sleep(0.3)
            if served.measured == before:
                return before


async def test_a_websocket_on_the_metrics_path_gets_messages(serve: Serve) -> None:
    """The first one right after connecting, then one after each interval, all with the documented fields."""
    served = await serve()
    async with Connection(served.address) as viewer:
        await viewer.watch()
        times = []
        for _ in range(4):
            message = await viewer.message()
            check_message(message)
            assert message["loadAverage"] == 1.5
            times.append(message["timestamp"])
    assert times == sorted(set(times))


async def test_events_are_the_same(serve: Serve) -> None:
    """Server-sent events carry the same messages as a WebSocket, measured once for both."""
    served = await serve()
    async with Connection(served.address) as viewer, Connection(served.address) as listener:
        await viewer.watch()
        await listener.listen()
        seen = [await viewer.message() for _ in range(6)]
        heard = [await listener.event() for _ in range(4)]
    check_message(heard[0])
    by_time = {message["timestamp"]: message for message in seen}
    shared = [message for message in heard if message["timestamp"] in by_time]
    assert len(shared) >= 2
    assert all(by_time[message["timestamp"]] == message for message in shared)


async def test_events_over_http_1_0_have_no_chunks(serve: Serve) -> None:
    """A client without chunked encoding receives plain events until the connection ends."""
    served = await serve()
    async with Connection(served.address) as listener:
        status, head = await listener.ask("/api/live", version="1.0")
        assert status == 200
        assert "chunked" not in head
        for _ in range(2):
            check_message(data_of((await listener.reader.readuntil(b"\n\n")).decode()))


async def test_a_late_subscriber_receives_the_newest_message_at_once(serve: Serve) -> None:
    """It does not wait for the next message."""
    served = await serve(interval=3600.0)
    async with Connection(served.address) as first, Connection(served.address) as second:
        message = await (await first.watch()).message()
        assert await (await second.watch()).message() == message
        async with Connection(served.address) as third:
            assert await (await third.listen()).event() == message
    assert served.measured == 1


async def test_nothing_is_measured_without_subscribers(serve: Serve) -> None:
    """Measuring starts with the first subscriber, runs once for all of them, and stops with the last."""
    served = await serve()
    assert await _until_measured_no_more(served) == 0
    async with AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(Connection(served.address)) for _ in range(10)]
        for viewer in viewers:
            await viewer.watch()
        for viewer in viewers:
            await viewer.message()
    await _until_measured_no_more(served)


async def test_history_is_measured_without_subscribers(serve: Serve) -> None:
    """With the history on, it has rows before the first subscriber connects."""
    served = await serve(live=LiveOptions(history=True))
    await _until_measured(served, 3)
    status, history = await get(served.address, "/api/history")
    assert status == 200
    assert len(history["timestamps"]) >= 2
    assert set(map(len, history["series"].values())) == {len(history["timestamps"])}


async def test_history_is_compressed_for_clients_that_accept_it(serve: Serve) -> None:
    """The same rows, in fewer bytes; not with a quality of 0."""
    served = await serve(live=LiveOptions(history=True))
    await _until_measured(served, 3)
    for field in ("Accept-Encoding: gzip, br", "Accept-Encoding: gzip;q=0, br", "Accept-Encoding:"):
        async with Connection(served.address) as connection:
            _, head = await connection.ask("/api/history", field)
            body = await connection.body(head)
        assert ("Content-Encoding: gzip" in head) == (field == "Accept-Encoding: gzip, br")
        history = json.loads(gzip.decompress(body) if "Content-Encoding" in head else body)
        assert len(history["timestamps"]) >= 2


async def test_history_follows_the_configuration(serve: Serve) -> None:
    """A reload turns the history on without subscribers; turning it off deletes it."""
    served = await serve()
    source = served.source

    async def rows() -> int:
        return len((await get(served.address, "/api/history"))[1]["timestamps"])

    assert await rows() == 0
    source.config = replace(source.config, live=LiveOptions(history=True))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await rows() < 2:
            pass
    source.config = replace(source.config, live=LiveOptions(history=False))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await rows():
            pass
    await _until_measured_no_more(served)


async def test_a_cancelled_request_does_not_cancel_the_shared_history(serve: Serve) -> None:
    """Requests between two messages share one encoding; cancelling one of them does not affect the others."""
    feed = Broadcaster((await serve()).source, 3600.0)
    first, second = (asyncio.ensure_future(feed.history()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).startswith(b'{"interval":')
    assert first.cancelled()


async def test_a_machine_without_threads_returns_503(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The response has the reason; the feed continues when threads are available again."""

    def no_thread(_function: object) -> None:
        raise RuntimeError("can't start new thread")

    served = await serve()
    with monkeypatch.context() as patch:
        patch.setattr("modelhost_exporter.threads.call", no_thread)
        assert await get(served.address, "/api/history") == (503, {"error": "can't start new thread"})
    async with Connection(served.address) as viewer:
        check_message(await (await viewer.watch()).message())


async def test_a_replaced_scrape_is_measured_from_then_on(serve: Serve) -> None:
    """After a reload the feed uses the new collectors."""
    served = await serve()
    async with Connection(served.address) as viewer:
        await viewer.watch()
        assert (await viewer.message())["loadAverage"] == 1.5
        old = served.source.scrape
        served.source.scrape = Scrape({"load": Fixed(family("modelhost_load1", 7.0))}, 5.0, previous=old)
        old.close(served.source.scrape)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await viewer.message())["loadAverage"] != 7.0:
                pass


async def test_the_number_of_connections_is_limited(serve: Serve) -> None:
    """More connections of either kind receive a 503; a closed connection makes room for another."""
    served = await serve(live=LiveOptions(history=False, max_viewers=2))
    async with Connection(served.address) as first, Connection(served.address) as second:
        await (await first.watch()).message()
        await (await second.listen()).event()
        for path, fields in (("/metrics", UPGRADE), ("/api/live", ())):
            status, told = await get(served.address, path, *fields)
            assert (status, told) == (
                503,
                {"error": "too many connections to the live feed: the limit is 2 (live.max_viewers)"},
            )
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            async with Connection(served.address) as third:
                status, _ = await third.ask("/metrics", *UPGRADE)
                if status == 101:
                    check_message(await third.message())
                    return


@pytest.mark.parametrize("fields", [(EVIL,), ("Host: evil.example",), ("Sec-Fetch-Site: cross-site",)])
@pytest.mark.parametrize(
    "path", ["/metrics", "/api/live", "/api/models", "/api/models/metrics?model=m", "/api/history", "/api/requests"]
)
async def test_other_origins_are_rejected(serve: Serve, path: str, fields: tuple[str, ...]) -> None:
    """Feed and /api return 403 for an Origin or Host that is not allowed, and nothing is measured."""
    served = await serve()
    status, told = await get(served.address, path, *fields, *(UPGRADE if path == "/metrics" else ()))
    assert status == 403
    assert list(told) == ["error"]
    assert served.measured == 0


async def test_listed_origins_and_hosts_are_allowed(serve: Serve) -> None:
    """The response has the header that lets a page of that origin read it."""
    served = await serve()
    allowed = replace(
        served.source.config.web,
        allowed_origins=(AllowedOrigin.from_text("http://evil.example"),),
        allowed_hosts=(AllowedHost.from_text("evil.example"),),
    )
    served.source.config = replace(served.source.config, web=allowed)
    async with Connection(served.address) as viewer:
        check_message(await (await viewer.watch("/metrics", EVIL, "Host: evil.example")).message())
    async with Connection(served.address) as listener:
        status, head = await listener.ask("/api/models", EVIL)
        assert status == 200
        assert "Access-Control-Allow-Origin: http://evil.example" in head


async def test_models_are_listed_and_found(serve: Serve) -> None:
    """By id, or by name where only one server has it; a request without subscribers measures at once."""
    served = await serve(interval=3600.0)
    for server, model in (("a", "one"), ("a", "both"), ("b", "both"), ("b", "org/two")):
        served.source.request(server, model)
    status, told = await get(served.address, "/api/models")
    assert status == 200
    assert [model["id"] for model in told["models"]] == ["a/both", "a/one", "b/both", "b/org/two"]
    assert {model["totalRequests"] for model in told["models"]} == {1}
    for asked, found in {"a/one": "a/one", "one": "a/one", "b/both": "b/both", "org/two": "b/org/two"}.items():
        status, model = await get(served.address, f"/api/models/metrics?model={asked}")
        assert (status, model["id"]) == (200, found)
    for wrong in ("both", "three", "a/"):
        status, told = await get(served.address, f"/api/models/metrics?model={wrong}")
        assert (status, list(told)) == (404, ["error"])


async def test_without_a_name_all_models_are_summed(serve: Serve) -> None:
    """Before any request too: a number wherever a view formats it."""
    served = await serve(interval=3600.0)
    status, nothing = await get(served.address, "/api/models/metrics")
    assert status == 200
    check_model_numbers(nothing)
    assert (nothing["totalRequests"], nothing["successRate"], nothing["memoryUsage"], nothing["inFlight"]) == (
        *(0, 0, 0),
        None,
    )


def test_the_sum_of_all_models() -> None:
    """What can be added is; rates, means and shares are those of all requests."""
    machine = Machine()
    machine.set("model_memory_bytes", 3e9, server="s", model="a", type="vram")
    machine.set("model_memory_bytes", 1e9, server="s", model="b", type="vram")
    machine.set("model_loaded", 1, server="s", model="b")
    machine.read()
    machine.request("a", seconds=0.2, output_tokens=50)
    machine.request("b", seconds=0.4, output_tokens=30, outcome="server_error")
    message = machine.read()
    found: dict[str, Any] = {**all_models(cast("LiveMessage", message))}
    check_model_numbers(found)
    assert found.keys() == message["models"][0].keys()
    assert (found["memoryUsage"], found["loaded"], found["totalRequests"]) == (4e9, True, 2)
    assert (found["requestsPerSecond"], found["avgResponseTime"]) == (pytest.approx(1), pytest.approx(300))
    assert (found["successRate"], found["tokensPerSecond"]) == (50, pytest.approx(40))


async def test_a_page_of_a_development_server_is_let_in(serve: Serve) -> None:
    """By default, with the port of Vite."""
    served = await serve()
    origin = "Origin: http://localhost:5173"
    async with Connection(served.address) as viewer:
        check_message(await (await viewer.watch("/metrics", origin)).message())
    async with Connection(served.address) as reader:
        status, head = await reader.ask("/api/models/metrics", origin)
        assert (status, "Access-Control-Allow-Origin: http://localhost:5173" in head) == (200, True)


async def test_a_second_request_has_rates(serve: Serve) -> None:
    """Measuring continues for a while after a request, so that the next one has rates."""
    served = await serve()
    served.source.request("s", "m")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (await get(served.address, "/api/models"))[1]["models"][0]["requestsPerSecond"]:
            served.source.request("s", "m")
    assert served.measured >= 2


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/nothing"), ("POST", "/api/models"), ("GET", "/api/")])
async def test_unknown_paths_return_json(serve: Serve, method: str, path: str) -> None:
    """The 404 names the method and the path."""
    served = await serve()
    assert await get(served.address, path, method=method) == (404, {"error": f"Not Found: {method} {path}"})


@pytest.mark.parametrize("spoiled", ["Sec-WebSocket-Version: 12", "Sec-WebSocket-Key: short"])
async def test_an_invalid_handshake_is_rejected(serve: Serve, spoiled: str) -> None:
    """The 400 has the reason."""
    served = await serve()
    name = spoiled.partition(":")[0]
    fields = [spoiled if field.startswith(name) else field for field in UPGRADE]
    status, told = await get(served.address, "/metrics", *fields)
    assert (status, told) == (400, {"error": "invalid WebSocket handshake (version 13 is required)"})


async def test_pings_are_answered_and_messages_ignored(serve: Serve) -> None:
    """A pong carries the payload of the ping; text, binary and pong frames are ignored; a close is confirmed."""
    served = await serve(interval=3600.0)
    async with Connection(served.address) as viewer:
        await viewer.watch()
        await viewer.message()
        for opcode in (1, 2, PONG):
            viewer.writer.write(frame(opcode, b"hello", masked=True))
        viewer.writer.write(frame(PING, b"here?", masked=True))
        assert await viewer.frame() == (PONG, b"here?")
        viewer.writer.write(frame(CLOSE, b"\x03\xe8", masked=True))
        assert (await viewer.frame()).opcode == CLOSE


async def test_a_subprotocol_is_accepted(serve: Serve) -> None:
    """Any subprotocol that a client offers is accepted; browsers close the connection otherwise."""
    served = await serve()
    async with Connection(served.address) as viewer:
        status, head = await viewer.ask("/metrics", *UPGRADE, "Sec-WebSocket-Protocol: dashboard, other")
        assert status == 101
        assert "Sec-WebSocket-Protocol: dashboard" in head
        check_message(await viewer.message())


async def test_compression_is_not_offered(serve: Serve) -> None:
    """All subscribers receive the same bytes."""
    served = await serve()
    async with Connection(served.address) as viewer:
        _, head = await viewer.ask("/metrics", *UPGRADE, "Sec-WebSocket-Extensions: permessage-deflate")
        assert "permessage-deflate" not in head
        assert (await viewer.frame()).opcode == TEXT


async def test_collectors_that_fail_or_hang_lose_only_their_own_numbers(serve: Serve) -> None:
    """The numbers of other collectors are in every message."""
    hanging = Hanging()
    served = await serve(cpu=Raising(RuntimeError("broken")), memory=hanging)
    async with Connection(served.address) as viewer:
        message = await (await viewer.watch()).message()
        check_message(message)
        assert message["loadAverage"] == 1.5
        assert message["cpuUsage"] is message["memoryUsed"] is None
        await viewer.message()
    assert hanging.runs == 1
    hanging.release.set()


async def test_a_failed_measurement_skips_a_message_and_is_logged_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The feed continues when the failure is over."""

    class Broken:
        broken = True

        def describe(self) -> list[Metric]:
            return [Metric("modelhost_broken", "", "gauge")]

        def collect(self) -> list[Metric]:
            if self.broken:
                raise RuntimeError("broken")
            return []

    served = await serve()
    registry, breaking = served.source.registry, Broken()
    registry.register(breaking)
    restricted = registry.restricted_registry
    registry.restricted_registry = lambda names: restricted([*names, "modelhost_broken"])  # type: ignore[method-assign]
    async with Connection(served.address) as viewer:
        await viewer.watch()
        await _until_measured(served, 4)
        breaking.broken = False
        check_message(await viewer.message())
    assert [record.getMessage() for record in caplog.records] == ["the live feed cannot be measured"]
