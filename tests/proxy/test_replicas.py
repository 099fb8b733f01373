"""Several upstreams of one server, on real sockets: which of them a request reaches, and what the proxy counts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl, upstream_labels
from modelhost_exporter.proxy.server import Proxy, ProxyEnvironment
from modelhost_exporter.proxy.settings import ProxiedServer
from tests.proxy.client import Client, request
from tests.proxy.conftest import SERVER
from tests.proxy.dialects import ask, ask_stream, stream
from tests.proxy.upstream import (
    CHUNKED,
    DEADLINE_SECONDS,
    Call,
    Script,
    Upstream,
    always,
    chunk,
    head,
    never,
    refusing_port,
    reply,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.proxy.client import Reply

BROKEN = reply(b"broken", status="503 Service Unavailable")


class Balanced:
    """A proxy in front of several scripted upstreams, on a clock that the test moves."""

    def __init__(self, upstreams: Sequence[Upstream], dead_ports: Sequence[int], **settings: Any) -> None:
        self.upstreams = upstreams
        self.now = 1000.0
        self.registry = CollectorRegistry()
        self.proxy = Proxy(self.registry, environment=ProxyEnvironment(now=lambda: self.now))
        self.ports = [*(upstream.port for upstream in upstreams), *dead_ports]
        urls = tuple(ServerUrl.from_text(f"http://127.0.0.1:{port}") for port in self.ports)
        self.server = ProxiedServer(
            SERVER, Address("127.0.0.1", 0), urls, **{"allowed_hosts": frozenset("*"), **settings}
        )
        self.port = 0

    async def get(self, data: bytes = request("/"), host: str = "127.0.0.1") -> Reply:
        """Send one request on a connection of its own and return the response."""
        async with Client(self.port, host=host) as client:
            await client.send(data)
            return await client.reply()

    def counts(self) -> list[int]:
        """Return the number of requests that each upstream was sent."""
        return [len(upstream.calls) for upstream in self.upstreams]

    def value(self, name: str, upstream: int, **labels: str) -> float | None:
        """Return a metric of one upstream."""
        labels |= {"server": SERVER, "upstream": f"127.0.0.1:{self.ports[upstream]}"}
        return self.registry.get_sample_value(f"modelhost_proxy_upstream_{name}", labels)

    def outcomes(self, upstream: int) -> dict[str, float]:
        """Return the attempts at one upstream by outcome."""
        name = f"127.0.0.1:{self.ports[upstream]}"
        return {
            sample.labels["outcome"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "modelhost_proxy_upstream_requests_total" and sample.labels["upstream"] == name
        }

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so that has no event."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110 - a metric has no event
                await asyncio.sleep(0.001)

    async def until_value(self, name: str, upstream: int, value: float) -> None:
        """Wait until a metric of one upstream has a value; one that is absent is 0."""
        await self.until(lambda: (self.value(name, upstream) or 0) == value)

    async def until_sent(self, count: int) -> None:
        """Wait until the upstreams together were sent so many requests."""
        await self.until(lambda: sum(self.counts()) == count)

    async def eject(self, upstream: int) -> None:
        """Let one upstream fail until it is ejected, and work again."""
        before, self.upstreams[upstream].script = self.upstreams[upstream].script, always(BROKEN)
        while self.value("up", upstream):
            await self.get()
        self.upstreams[upstream].script = before


class StartBalanced:
    """Starts proxies in front of several upstreams; all stop when the test ends."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack
        self.started: list[Balanced] = []

    async def __call__(self, *scripts: Script, dead: int = 0, **settings: Any) -> Balanced:
        """Start one with an upstream for each script, and so many that refuse connections."""
        upstreams = [await self._stack.enter_async_context(Upstream(script)) for script in scripts]
        ports = [self._stack.enter_context(refusing_port()) for _ in range(dead)]
        balanced = Balanced(upstreams, ports, **settings)
        self._stack.push_async_callback(balanced.proxy.close)
        balanced.port = await balanced.proxy.listen(balanced.server)
        self.started.append(balanced)
        return balanced


@pytest_asyncio.fixture
async def balance() -> AsyncIterator[StartBalanced]:
    """Give a function that starts them; afterwards no request may be in flight at any upstream."""
    async with contextlib.AsyncExitStack() as stack:
        start = StartBalanced(stack)
        yield start
        for each in start.started:
            for number in range(len(each.ports)):
                await each.until_value("requests_in_flight", number, 0)


def held(release: asyncio.Event) -> Script:
    """Return a script that responds after an event."""

    async def script(call: Call) -> None:
        await call.body()
        await release.wait()
        await call.send(reply(b"held"))

    return script


async def test_a_busy_upstream_gets_fewer(balance: StartBalanced) -> None:
    """While one upstream holds a request, the others share those that follow."""
    release = asyncio.Event()
    balanced = await balance(held(release), always(reply()), always(reply()))
    async with asyncio.TaskGroup() as group:
        group.create_task(balanced.get())
        await balanced.until(lambda: bool(balanced.upstreams[0].calls))
        before = balanced.counts()
        for _ in range(10):
            await balanced.get()
        assert [now - then for now, then in zip(balanced.counts(), before, strict=True)] == [0, 5, 5]
        assert balanced.value("requests_in_flight", 0) == 1
        release.set()


async def test_a_long_prompt_counts_for_more(balance: StartBalanced) -> None:
    """Several short requests go past an upstream that works on a long one; its length is in its header."""
    release = asyncio.Event()
    balanced = await balance(held(release), held(release))
    async with asyncio.TaskGroup() as group:
        group.create_task(balanced.get(request(body=ask().ljust(40_000))))
        await balanced.until_sent(1)
        long = balanced.counts().index(1)
        for number in range(5):
            group.create_task(balanced.get(request(body=ask())))
            await balanced.until_sent(number + 2)
        release.set()
    assert balanced.counts()[long] == 1


async def test_equal_prompts_go_to_one_upstream(balance: StartBalanced) -> None:
    """The first 1,024 bytes decide, also where a body is received in parts; prompts spread over all."""
    balanced = await balance(*[always(reply())] * 3, balance="prefix_hash")
    places = []
    for number in range(24):
        start = f"prompt {number}".encode().ljust(1024)
        before = balanced.counts()
        await balanced.get(request(body=start + b"one"))
        async with Client(balanced.port) as client:
            whole = request("/v1/chat/completions", start + b"another end", "Expect: 100-continue")
            headers = whole.index(b"\r\n\r\n") + 4
            await client.send(whole[:headers])
            assert (await client.head()).code == 100, "the request has begun without its body"
            await client.send(whole[headers:])
            await client.reply()
        (place,) = [i for i, (now, then) in enumerate(zip(balanced.counts(), before, strict=True)) if now == then + 2]
        places.append(place)
    assert set(places) == {0, 1, 2}


async def test_a_body_is_forwarded_before_it_is_complete(balance: StartBalanced) -> None:
    """With prefix_hash only the first 1,024 bytes are waited for."""
    balanced = await balance(*[always(reply())] * 2, balance="prefix_hash")
    async with Client(balanced.port) as client:
        whole = request(body=b"x" * 1500)
        await client.send(whole[:-400])
        await balanced.until_sent(1)
        await client.send(whole[-400:])
        assert (await client.reply()).code == 200


async def test_equal_values_of_a_header_go_to_one_upstream(balance: StartBalanced) -> None:
    """The header's name is found in any case; requests without it go anywhere."""
    balanced = await balance(*[always(reply())] * 3, balance="header:X-Session-Id")
    places = set()
    for number in range(24):
        before = balanced.counts()
        for name in ("x-session-id", "X-SESSION-ID"):
            await balanced.get(request("/", None, f"{name}: {number}"))
        changes = [now - then for now, then in zip(balanced.counts(), before, strict=True)]
        assert sorted(changes) == [0, 0, 2]
        places.add(changes.index(2))
    assert places == {0, 1, 2}
    before = balanced.counts()
    for _ in range(3):
        await balanced.get()
    assert [now - then for now, then in zip(balanced.counts(), before, strict=True)] == [1, 1, 1]


async def test_a_refused_connection_tries_another(balance: StartBalanced) -> None:
    """No client notices two of three upstreams that refuse; each attempt is counted where it was made."""
    balanced = await balance(always(reply(b"alive")), dead=2)
    for _ in range(12):
        assert (await balanced.get(request(body=ask()))).body == b"alive"
    assert balanced.outcomes(0) == {"ok": 12} or balanced.outcomes(0) == {"stream_error": 12}
    assert sum(balanced.outcomes(1).values()) + sum(balanced.outcomes(2).values()) >= 4
    assert {*balanced.outcomes(1), *balanced.outcomes(2)} == {"upstream_unreachable"}
    assert [balanced.value("up", number) for number in range(3)].count(0) == 1
    assert balanced.value("up", 0) == 1


async def test_a_long_body_is_sent_whole_to_another(balance: StartBalanced) -> None:
    """What was received while a connection was refused is sent to the next upstream."""

    async def count(call: Call) -> None:
        await call.send(reply(b"%d" % len(await call.body())))

    balanced = await balance(count, dead=1)
    for _ in range(4):
        assert (await balanced.get(request(body=b"x" * 300_000))).body == b"300000"


async def test_all_down(balance: StartBalanced) -> None:
    """The client gets 502 after one attempt at each, for as long as it lasts."""
    balanced = await balance(dead=3)
    for count in range(1, 6):
        assert (await balanced.get()).code == 502
        assert [balanced.outcomes(number) for number in range(3)] == [{"upstream_unreachable": count}] * 3
    assert (
        balanced.registry.get_sample_value(
            "modelhost_requests_total",
            {
                "server": SERVER,
                "model": "unknown",
                "operation": "other",
                "stream": "false",
                "outcome": "upstream_unreachable",
                "code": "502",
            },
        )
        == 5
    )
    assert [balanced.value("up", number) for number in range(3)].count(0) == 1


@pytest.mark.parametrize(
    "data", [b"", head(CHUNKED) + chunk(b"a"), head("Content-Length: 5") + b"ab"], ids=["nothing", "chunk", "part"]
)
async def test_what_was_sent_is_sent_to_no_other(balance: StartBalanced, data: bytes) -> None:
    """An upstream that closes after it has read the request may have done its work."""

    async def broken(call: Call) -> None:
        await call.body()
        if data:
            await call.send(data)
        call.close()

    balanced = await balance(broken, broken)
    async with Client(balanced.port) as client:
        await client.send(request(body=ask()))
        await client.closed() if data else await client.reply()
    assert sum(balanced.counts()) == 1


async def test_ejection_trial_and_recovery(balance: StartBalanced, caplog: pytest.LogCaptureFixture) -> None:
    """Three failures eject; after 5 s one request at a time is a trial, whose success ends the ejection."""
    caplog.set_level(logging.INFO)
    balanced = await balance(always(reply(b"a")), always(reply(b"b")))
    await balanced.eject(1)
    failures = len(balanced.upstreams[1].calls)
    assert failures == 3
    assert balanced.outcomes(1) == {"server_error": 3}
    assert balanced.value("ejections_total", 1) == 1
    assert {(await balanced.get()).body for _ in range(6)} == {b"a"}

    release = asyncio.Event()
    balanced.upstreams[1].script = held(release)
    balanced.now += 5.1
    async with asyncio.TaskGroup() as group:
        trial = group.create_task(balanced.get())
        await balanced.until(lambda: len(balanced.upstreams[1].calls) == failures + 1)
        assert {(await balanced.get()).body for _ in range(6)} == {b"a"}
        assert balanced.value("up", 1) == 0
        release.set()
    assert (await trial).body == b"held"
    await balanced.until_value("up", 1, 1)
    assert {(await balanced.get()).body for _ in range(4)} == {b"a", b"held"}
    messages = [record.getMessage() for record in caplog.records if record.name.endswith("proxy.replicas")]
    assert messages == ["upstream ejected", "upstream receives requests again"]


async def test_a_trial_whose_client_leaves_is_repeated(balance: StartBalanced) -> None:
    """It says nothing about the upstream; the next request is the next trial."""
    balanced = await balance(always(reply(b"a")), always(reply(b"b")))
    await balanced.eject(1)
    working, balanced.upstreams[1].script = balanced.upstreams[1].script, never
    balanced.now += 5.1
    async with Client(balanced.port) as client:
        await client.send(request("/"))
        await balanced.until(lambda: len(balanced.upstreams[1].calls) == 4)
    await balanced.until(lambda: "client_disconnect" in balanced.outcomes(1))
    assert balanced.value("up", 1) == 0
    balanced.upstreams[1].script = working
    assert (await balanced.get()).body == b"b"
    assert balanced.value("up", 1) == 1


async def test_client_errors_eject_nothing(balance: StartBalanced) -> None:
    """Neither responses below 500, nor clients that leave, nor requests that the proxy refuses."""
    balanced = await balance(*[always(reply(status="429 Too Many Requests"))] * 2)
    for _ in range(8):
        assert (await balanced.get()).code == 429
    for upstream in balanced.upstreams:
        upstream.script = never
    for count in range(1, 9):
        async with Client(balanced.port) as client:
            await client.send(request("/"))
            await balanced.until_sent(8 + count)
    for _ in range(8):
        async with Client(balanced.port) as client:
            await client.send(request("/", None, "Transfer-Encoding: chunked", method="POST"), b"nonsense\r\n")
            assert (await client.reply()).code == 400
    assert [balanced.value("up", number) for number in range(2)] == [1, 1]


async def test_a_body_that_is_refused_says_nothing_about_its_upstream(balance: StartBalanced) -> None:
    """A malformed chunk in a request that is being sent is the client's error: failures before it still count."""
    balanced = await balance(*[always(BROKEN)] * 2)
    for _ in range(4):
        await balanced.get()
    for upstream in balanced.upstreams:
        upstream.script = never
    for count in range(1, 3):
        async with Client(balanced.port) as client:
            await client.send(request("/", None, "Transfer-Encoding: chunked", method="POST"), b"1\r\na\r\n")
            await balanced.until_sent(4 + count)
            await client.send(b"nonsense\r\n")
            assert (await client.reply()).code == 400
    for upstream in balanced.upstreams:
        upstream.script = always(BROKEN)
    await balanced.get()
    assert [balanced.value("up", number) for number in range(2)].count(0) == 1


async def test_a_websocket_ends_a_trial_when_it_is_accepted(balance: StartBalanced) -> None:
    """It may stay open for days."""

    async def accept(call: Call) -> None:
        await call.send(head("Connection: Upgrade", "Upgrade: websocket", status="101 Switching Protocols"))
        await call.peer_gone()
        call.close()

    balanced = await balance(always(reply()), always(reply()))
    await balanced.eject(1)
    balanced.upstreams[1].script = accept
    balanced.now += 5.1
    fields = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    async with Client(balanced.port) as client:
        await client.send(request("/", None, *fields))
        assert (await client.head()).code == 101
        assert balanced.value("up", 1) == 1
        assert balanced.value("requests_in_flight", 1) == 1
    await balanced.until_value("requests_in_flight", 1, 0)


async def test_three_upstreams_with_troubles(balance: StartBalanced) -> None:
    """One is slow, one fails for a while, then one hangs for a while: nine of ten requests succeed, and are fast.

    Round robin fails a third of the requests in both of these times.
    """

    async def slow(call: Call) -> None:
        await call.body()
        await asyncio.sleep(0.05)
        await call.send(stream())

    balanced = await balance(slow, always(stream()), always(stream()), idle_timeout=1.0)
    codes: Counter[int] = Counter()
    times = []

    async def client(count: int) -> None:
        for _ in range(count):
            started = asyncio.get_running_loop().time()
            codes[(await balanced.get(request(body=ask_stream()))).code] += 1
            times.append(asyncio.get_running_loop().time() - started)

    for failing, script in ((1, always(BROKEN)), (2, never)):
        working, balanced.upstreams[failing].script = balanced.upstreams[failing].script, script
        await asyncio.gather(*(client(15) for _ in range(4)))
        assert balanced.value("up", failing) == 0
        balanced.upstreams[failing].script = working
        balanced.now += 40
        await client(3)
        await balanced.until_value("up", failing, 1)
    assert codes[200] >= 0.9 * codes.total()
    assert sorted(times)[int(len(times) * 0.9)] < 1.0, "the time-out of the one that hangs"
    before = balanced.counts()
    await asyncio.gather(*(client(10) for _ in range(4)))
    shares = [now - then for now, then in zip(balanced.counts(), before, strict=True)]
    assert shares[0] < min(shares[1:])


async def test_one_upstream_has_no_metrics_of_its_own(balance: StartBalanced) -> None:
    """Those of its server say the same."""
    balanced = await balance(always(reply()))
    await balanced.get()
    assert balanced.value("up", 0) is None
    assert balanced.value("requests_in_flight", 0) is None
    assert balanced.outcomes(0) == {}


async def test_series_end_with_their_upstream(balance: StartBalanced) -> None:
    """A reload that removes one, and one that removes the server; what stays keeps its counts."""
    balanced = await balance(*[always(reply())] * 3)
    for _ in range(6):
        await balanced.get()
    server = balanced.server
    fewer = replace(server, upstreams=server.upstreams[:2])
    balanced.proxy.put_in_force(await balanced.proxy.prepare([fewer]))
    await balanced.until(lambda: balanced.value("up", 2) is None)
    assert balanced.outcomes(2) == {}
    assert balanced.outcomes(0) == {"ok": 2}
    assert [balanced.value("up", number) for number in range(2)] == [1, 1]
    balanced.proxy.put_in_force(await balanced.proxy.prepare([]))
    await balanced.until(lambda: balanced.value("up", 0) is None)
    assert balanced.value("ejections_total", 0) is None
    assert balanced.value("requests_in_flight", 0) is None


@pytest.mark.parametrize("change", ["another setting", "another address", "fewer upstreams"])
async def test_a_reload_keeps_the_health_of_an_upstream(balance: StartBalanced, change: str) -> None:
    """An ejection goes on with its time, and so does the doubling of the next."""
    balanced = await balance(*[always(reply(b"x"))] * 3)
    await balanced.eject(1)
    servers = {
        "another setting": replace(balanced.server, connect_timeout=Seconds(3)),
        "another address": replace(balanced.server, listen=Address("127.0.0.2", 0)),
        "fewer upstreams": replace(balanced.server, upstreams=balanced.server.upstreams[:2]),
    }
    balanced.proxy.put_in_force(await balanced.proxy.prepare([servers[change]]))
    listener = balanced.proxy._listeners[0]
    balanced.port, host = listener.port, listener.address.host
    assert balanced.value("up", 1) == 0
    before = balanced.counts()
    for _ in range(4):
        await balanced.get(host=host)
    assert balanced.counts()[1] == before[1]
    balanced.now += 5.1
    await balanced.get(host=host)
    assert balanced.counts()[1] == before[1] + 1, "the trial"
    assert balanced.value("up", 1) == 1
    assert balanced.value("ejections_total", 1) == 1


async def test_a_new_upstream_is_healthy(balance: StartBalanced) -> None:
    """A reload that adds it knows nothing of it, and one that has a URL of its own inherits nothing."""
    balanced = await balance(*[always(reply())] * 3)
    both = balanced.server.upstreams
    balanced.proxy.put_in_force(await balanced.proxy.prepare([replace(balanced.server, upstreams=both[:2])]))
    await balanced.eject(1)
    balanced.proxy.put_in_force(await balanced.proxy.prepare([replace(balanced.server, upstreams=(both[0], both[2]))]))
    assert [balanced.value("up", number) for number in (0, 2)] == [1, 1]


async def test_settings_that_were_replaced_report_no_health(balance: StartBalanced) -> None:
    """After a reload all are up; requests that began before it and fail now change nothing."""
    release = asyncio.Event()

    async def fail_later(call: Call) -> None:
        await release.wait()
        await call.send(BROKEN)

    balanced = await balance(fail_later, fail_later)
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(balanced.get())
        await balanced.until_sent(8)
        change = await balanced.proxy.prepare([replace(balanced.server, balance="prefix_hash")])
        balanced.proxy.put_in_force(change)
        release.set()
    await balanced.until(lambda: sum(sum(balanced.outcomes(number).values()) for number in range(2)) == 8)
    assert [balanced.value("up", number) for number in range(2)] == [1, 1]


@pytest.mark.parametrize(
    ("urls", "labels"),
    [
        (["http://a:1"], [""]),
        (["http://a:1", "http://b:1/v1"], ["a:1", "b:1"]),
        (["http://a", "https://a"], ["a:80", "a:443"]),
        (["http://[::1]:1/a", "http://[::1]:1/b"], ["[::1]:1/a", "[::1]:1/b"]),
        (["http://a:1/x", "https://a:1/x"], ["http://a:1/x", "https://a:1/x"]),
    ],
)
def test_labels(urls: list[str], labels: list[str]) -> None:
    """Host and port; more only where they would be alike, and nothing for a single URL."""
    assert upstream_labels([ServerUrl.from_text(url) for url in urls]) == labels
