"""Which model a request is counted for, and that a client cannot make series."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.proxy.server import ProxyEnvironment
from modelhost_exporter.proxy.settings import ProxiedServer
from modelhost_exporter.requests.model_names import OTHER, UNKNOWN, ModelNames
from modelhost_exporter.requests.slo import Objective, Objectives
from tests.proxy.client import request
from tests.proxy.conftest import SERVER
from tests.proxy.dialects import DONE, EVENT_STREAM, JSON, ask, ask_stream, completion, event, finish, stream, token
from tests.proxy.upstream import (
    CHUNKED,
    DEADLINE_SECONDS,
    LAST_CHUNK,
    Call,
    always,
    chunk,
    head,
    in_turn,
    reply,
    then_silent,
)

if TYPE_CHECKING:
    from tests.proxy.conftest import Proxied, StartProxied

CAPTURES = Path(__file__).parents[1] / "captures"
ERROR = reply(b'{"error":{"message":"no"}}', JSON, status="404 Not Found")


async def _post(proxied: Proxied, body: bytes, path: str = "/v1/chat/completions") -> None:
    async with proxied.client() as client:
        await client.send(request(path, body))
        await client.reply()


async def _models(proxied: Proxied, count: int) -> list[str]:
    return sorted(labels["model"] for labels in await proxied.observed(count))


def test_places_are_given_by_success() -> None:
    """A name has no place until its first success, and none when all are taken; names of ours are never places."""
    names = ModelNames(2)
    assert names.label("a", succeeded=False) == OTHER
    assert names.label("a", succeeded=True) == "a"
    assert names.label("a", succeeded=False) == "a"
    assert names.label(OTHER, succeeded=True) == OTHER
    assert names.label(UNKNOWN, succeeded=True) == OTHER
    assert names.label("b", succeeded=True) == "b"
    assert names.label("c", succeeded=True) == OTHER
    assert names.label("b", succeeded=True) == "b"
    assert names.label(None, succeeded=True) == UNKNOWN


def test_known_names_have_a_place() -> None:
    """Names that the configuration knows are labels before any success, and take places."""
    names = ModelNames(2, ["a"])
    assert names.label("a", succeeded=False) == "a"
    assert names.label("b", succeeded=True) == "b"
    assert names.label("c", succeeded=True) == OTHER


async def test_the_request_names_the_model(start_proxied: StartProxied) -> None:
    """What the request named wins over what the response names; without either it is unknown."""
    proxied = await start_proxied(
        in_turn(always(completion("replied")), always(stream(model="replied")), always(completion(None)))
    )
    await _post(proxied, ask("asked"))
    await _post(proxied, ask_stream("asked"))
    await _post(proxied, ask(None))
    assert await _models(proxied, 3) == ["asked", "asked", "unknown"]


@pytest.mark.parametrize(
    ("path", "capture"),
    [("/v1/messages", "anth-stream"), ("/v1/responses", "resp-stream")],
)
async def test_the_name_of_a_routers_backend_is_no_model(start_proxied: StartProxied, path: str, capture: str) -> None:
    """LiteLLM writes another name into streams of two dialects than its clients use: all is one model's."""
    body = (CAPTURES / "litellm-1.95" / f"{capture}.raw").read_bytes()
    assert b"gemma-3-270m" in body
    proxied = await start_proxied(always(reply(body, EVENT_STREAM)))
    await _post(proxied, ask_stream("gemma"), path)
    assert (await proxied.one())["model"] == "gemma"


async def test_the_reply_names_the_model_of_a_request_without_name(start_proxied: StartProxied) -> None:
    """The response's name counts where the request has none, or is too long to be inspected."""
    proxied = await start_proxied(always(completion("replied")), max_inspected_body_bytes=1000)
    await _post(proxied, ask(None))
    await _post(proxied, ask("asked", user="x" * 1000))
    assert await _models(proxied, 2) == ["replied", "replied"]


async def test_names_that_the_engine_lists_for_one_model_are_one(start_proxied: StartProxied) -> None:
    """A request for an alias is counted, and judged by the objectives, of the one model that it is a name of."""
    labels = {"llama3.2": "llama3.2:latest", "llama3.2:latest": "llama3.2:latest"}
    environment = ProxyEnvironment(label_of=lambda _server, name: labels.get(name))
    proxied = await start_proxied(
        always(completion("replied")),
        environment=environment,
        models={"llama3.2": Objectives(duration=Objective(Seconds(99.0)))},
    )
    for name in ("llama3.2", "llama3.2:latest"):
        await _post(proxied, ask(name))
    assert await _models(proxied, 2) == ["llama3.2:latest"] * 2
    assert proxied.total("slo_requests_total") == 2


@pytest.mark.parametrize(
    "environment", [{"kind": "ollama"}, {"environment": ProxyEnvironment(detected_kind=lambda _: "ollama")}]
)
async def test_ollamas_names_without_tag_are_those_of_the_latest(
    start_proxied: StartProxied, environment: dict[str, Any]
) -> None:
    """A model that is not loaded is listed nowhere, and its first request is already counted with its tag."""
    proxied = await start_proxied(always(completion(None)), **environment)
    for name in ("llama3.2", "llama3.2:latest", "hf.co:443/a/b", "qwen3:0.6b"):
        await _post(proxied, ask(name))
    assert await _models(proxied, 4) == ["hf.co:443/a/b:latest", "llama3.2:latest", "llama3.2:latest", "qwen3:0.6b"]


async def test_failures_of_a_configured_model_of_ollama_are_its_own(start_proxied: StartProxied) -> None:
    """Its objectives are missed while the server has never answered, by the name with and without the tag."""
    objectives = Objectives(duration=Objective(Seconds(99.0)))
    failing = always(reply(b"{}", status="503 Service Unavailable"))
    proxied = await start_proxied(failing, kind="ollama", models={"llama3.2": objectives})
    for name in ("llama3.2", "llama3.2:latest"):
        await _post(proxied, ask(name))
    assert await _models(proxied, 2) == ["llama3.2:latest"] * 2
    assert (proxied.total("slo_requests_total"), proxied.total("slo_good_requests_total")) == (2, 0)


async def test_long_names_are_told_apart(start_proxied: StartProxied) -> None:
    """A name of 256 emoji has 1,024 bytes: its label has at most 200, and differs from that of a like name."""
    proxied = await start_proxied(always(completion(None)))
    for name in ("\U0001f600" * 256, "\U0001f600" * 255 + "\U0001f601", "x" * 100_000, "x" * 100_001):
        await _post(proxied, ask(name))
    labels = await _models(proxied, 4)
    assert len(set(labels)) == 4
    assert all(190 < len(label.encode()) <= 200 for label in labels)


async def test_a_client_that_leaves_early_takes_no_place(start_proxied: StartProxied) -> None:
    """A 2xx head says nothing about the name that a client made up: leaving right after it must not use up places."""
    silent = then_silent(head(EVENT_STREAM, CHUNKED))
    proxied = await start_proxied(in_turn(silent, silent, always(stream(model="real"))), max_models=1)
    for made_up in ("a", "b"):
        async with proxied.client() as client:
            await client.send(request(body=ask_stream(made_up)))
            await client.head()
    await _post(proxied, ask_stream("real"))
    assert await _models(proxied, 3) == ["other", "other", "real"]


async def test_a_name_gets_its_place_with_a_2xx_head(start_proxied: StartProxied) -> None:
    """Before its first success a model is other; afterwards its failures are its own."""
    proxied = await start_proxied(in_turn(always(ERROR), always(completion("m")), always(ERROR)))
    for _ in range(3):
        await _post(proxied, ask("m"))
    assert await _models(proxied, 3) == ["m", "m", "other"]


async def test_a_stream_that_fails_after_its_head_has_a_place(start_proxied: StartProxied) -> None:
    """The place is given at the head: what happens to the stream then is the model's."""
    proxied = await start_proxied(always(reply(token(model="m"), EVENT_STREAM)))
    await _post(proxied, ask_stream("m"))
    assert await proxied.one() == {
        "model": "m",
        "operation": "chat",
        "stream": "true",
        "outcome": "stream_error",
        "code": "200",
    }


async def test_places_are_bounded(start_proxied: StartProxied) -> None:
    """With max_models taken, every further model is other, also when it succeeds."""

    async def script(call: Call) -> None:
        await call.send(completion(json.loads(await call.body())["model"]))

    proxied = await start_proxied(script, max_models=2)
    for number in range(10):
        await _post(proxied, ask(f"m{number}"))
    await _post(proxied, ask("m1"))
    assert await _models(proxied, 11) == ["m0", "m1", "m1", *["other"] * 8]
    for name in ("requests_in_flight", "requests_total", "output_tokens_total"):
        assert {dict(labels)["model"] for labels in proxied.samples(name)} <= {"m0", "m1", "other"}


async def test_a_listed_model_takes_the_place_and_the_series_of_a_made_up_one(start_proxied: StartProxied) -> None:
    """64 made-up names that succeed do not make the engine's own model other; what gives way leaves no series."""

    async def script(call: Call) -> None:
        asked = json.loads(await call.body())
        await call.send(stream(model=asked["model"]) if asked.get("stream") else completion(asked["model"]))

    removed: list[tuple[str, str]] = []
    environment = ProxyEnvironment(
        is_listed=lambda server, name: (server, name) == (SERVER, "real"),
        removal_listeners=(lambda server, model: removed.append((server, model)),),
    )
    slo = Objectives(duration=Objective(Seconds(9.0)), ttft=Objective(Seconds(9.0)))
    proxied = await start_proxied(script, environment=environment, slo=slo)
    for number in range(65):
        await _post(proxied, ask_stream(f"made-up-{number}"))
    await _post(proxied, ask_stream("real"))
    expected = [*(f"made-up-{number}" for number in range(64)), "other", "real"]
    assert await _models(proxied, 66 - len(removed)) == sorted(set(expected) - {"made-up-0"})
    assert removed == [(SERVER, "made-up-0")]
    page = generate_latest(proxied.registry)
    assert b'"made-up-0"' not in page
    assert b'"made-up-1"' in page


async def test_a_model_with_a_request_in_progress_keeps_its_series(start_proxied: StartProxied) -> None:
    """The stream of a name that would give way goes on, and is counted under its name."""
    go = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED), chunk(token(model="made up")))
        await asyncio.wait_for(go.wait(), DEADLINE_SECONDS)
        await call.send(chunk(finish() + DONE), LAST_CHUNK)

    async def fast(call: Call) -> None:
        await call.send(completion(json.loads(await call.body())["model"]))

    environment = ProxyEnvironment(is_listed=lambda _, name: name.startswith("real"))
    proxied = await start_proxied(in_turn(slow, fast), environment=environment, max_models=1)
    async with proxied.client() as client:
        await client.send(request(body=ask_stream("made up")))
        await client.head()
        await client.chunk()
        await proxied.until("stream_chunks_total", 1)
        await _post(proxied, ask("real"))
        assert proxied.in_flight() == {("made up", "streaming"): 1}
        go.set()
        while await client.chunk():
            pass
    assert await _models(proxied, 2) == ["made up", "other"]


async def test_names_and_their_limit_outlast_a_reload(start_proxied: StartProxied) -> None:
    """With new settings a server's names keep their places, so that reloads make no more series than the limit."""

    async def script(call: Call) -> None:
        await call.send(completion(json.loads(await call.body())["model"]))

    proxied = await start_proxied(script, max_models=1)
    await _post(proxied, ask("a"))
    await _post(proxied, ask("b"))
    urls = (ServerUrl.from_text(proxied.upstream.url),)
    for max_models, name in ((1, "c"), (2, "d"), (2, "e")):
        server = ProxiedServer(
            SERVER, Address("127.0.0.1", 0), urls, max_models=max_models, allowed_hosts=frozenset("*"), idle_timeout=9.0
        )
        proxied.proxy.put_in_force(await proxied.proxy.prepare([server]))
        await _post(proxied, ask(name))
    assert await _models(proxied, 5) == ["a", "d", "other", "other", "other"]


async def test_failures_make_no_series(start_proxied: StartProxied) -> None:
    """A thousand made-up models that the server does not know are one series."""
    proxied = await start_proxied(always(ERROR))
    async with proxied.client() as client:
        for number in range(1000):
            await client.send(request(body=ask(f"made-up-{number}")))
            await client.reply()
    assert await _models(proxied, 1000) == ["other"] * 1000
    assert b"made-up" not in generate_latest(proxied.registry)


async def test_polls_make_no_models(start_proxied: StartProxied) -> None:
    """What is no dialect's path is operation other and model unknown, whatever its body says."""
    proxied = await start_proxied(always(completion("m")))
    for path in ("/health", "/v1/models", "/api/tags", "/api/show"):
        await _post(proxied, ask("m"), path)
    expected = {"model": "unknown", "operation": "other", "stream": "false", "outcome": "ok", "code": "200"}
    assert await proxied.observed(4) == [expected] * 4
    assert proxied.total("requests_by_usage_source_total") == 0
    assert proxied.total("output_tokens_total") == 0


async def test_requests_that_only_load_a_model_are_no_inference(start_proxied: StartProxied) -> None:
    """Ollama's load and unload are operation other: no tokens, no finish, no usage source."""
    answer = {"model": "m", "response": "", "done": True, "done_reason": "load"}
    proxied = await start_proxied(always(reply(json.dumps(answer).encode(), JSON)))
    await _post(proxied, json.dumps({"model": "m"}).encode(), "/api/generate")
    assert (await proxied.one())["operation"] == "other"
    for name in ("requests_by_usage_source_total", "choices_finished_total", "request_load_seconds_count"):
        assert proxied.total(name) == 0


@pytest.mark.parametrize(
    ("written", "label"),
    [
        (r'"\ud800"', "?"),
        (r'"a\nb\"c\\"', 'a\nb"c\\'),
        ('"modèle"', "modèle"),
        (r'"\u0000"', "\x00"),
        ('"' + "x" * 200 + '"', "x" * 200),
        ('"  m  "', "m"),
        ('""', "unknown"),
        ("5", "unknown"),
        ('["m"]', "unknown"),
    ],
    ids=["half a surrogate", "quotes", "French", "NUL", "long", "spaces", "empty", "a number", "a list"],
)
async def test_any_name_leaves_the_page_whole(start_proxied: StartProxied, written: str, label: str) -> None:
    """However a client or server names a model, the page of metrics can be written."""
    proxied = await start_proxied(always(completion(None)))
    await _post(proxied, b'{"messages":[],"model":' + written.encode() + b"}")
    assert (await proxied.one())["model"] == label
    generate_latest(proxied.registry).decode()


async def test_a_body_that_is_no_json_is_unknown(start_proxied: StartProxied) -> None:
    """Nonsense is forwarded, and counted for the operation of its path."""
    proxied = await start_proxied(always(ERROR))
    await _post(proxied, b"nonsense \xff")
    assert await proxied.upstream.calls[0].body() == b"nonsense \xff"
    assert await proxied.one() == {
        "model": "unknown",
        "operation": "chat",
        "stream": "false",
        "outcome": "client_error",
        "code": "404",
    }


@pytest.mark.parametrize("streams", [True, False])
async def test_phases(start_proxied: StartProxied, *, streams: bool) -> None:
    """A stream waits, then streams from its first token on; a request for a whole reply is blocking all along."""
    step = asyncio.Queue[None]()

    async def script(call: Call) -> None:
        await call.body()
        pieces = (
            (
                head(EVENT_STREAM, CHUNKED),
                chunk(event(model="m", choices=[{"index": 0, "delta": {"role": "assistant"}}])),
            )
            if streams
            else (head(JSON, CHUNKED),)
        )
        for piece in (*pieces, chunk(token()) if streams else chunk(b" "), chunk(finish() + DONE)):
            await asyncio.wait_for(step.get(), DEADLINE_SECONDS)
            await call.send(piece)
        await asyncio.wait_for(step.get(), DEADLINE_SECONDS)
        await call.send(LAST_CHUNK)

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request(body=ask(stream=streams)))
        await proxied.until("requests_in_flight", 1)
        assert proxied.in_flight() == {("other", "waiting" if streams else "blocking"): 1}
        step.put_nowait(None)
        await client.head()
        if streams:
            step.put_nowait(None)
            await client.chunk()  # a role is no token
            assert proxied.in_flight() == {("other", "waiting"): 1}
        step.put_nowait(None)
        await client.chunk()
        if streams:
            await proxied.until("stream_chunks_total", 1)
            assert proxied.in_flight() == {("m", "streaming"): 1}
        else:
            assert proxied.in_flight() == {("other", "blocking"): 1}
        step.put_nowait(None)
        step.put_nowait(None)
        while await client.chunk():
            pass
    await proxied.one()


async def test_a_late_body_does_not_turn_the_phase_back(start_proxied: StartProxied) -> None:
    """A server that streams tokens before the request's body is whole leaves the request streaming."""

    async def script(call: Call) -> None:
        await call.some()
        await call.send(head(EVENT_STREAM, CHUNKED), chunk(token()))
        await call.some()
        await asyncio.wait_for(go.wait(), DEADLINE_SECONDS)
        await call.send(chunk(finish() + DONE), LAST_CHUNK)
        call.close()

    go = asyncio.Event()
    proxied = await start_proxied(script)
    body = ask_stream()
    async with proxied.client() as client:
        await client.send(request(body=body)[:-5])
        await client.head()
        await client.chunk()
        await client.send(body[-5:])
        for _ in range(50):
            await asyncio.sleep(0)
        assert proxied.in_flight() == {("m", "streaming"): 1}
        go.set()
        while await client.chunk():
            pass
    assert (await proxied.one())["outcome"] == "ok"


async def test_operations(start_proxied: StartProxied) -> None:
    """Each dialect's path is counted as its operation, below any prefix and with any query."""
    proxied = await start_proxied(always(reply(b"{}", JSON)))
    paths = {
        "/v1/chat/completions": "chat",
        "/openai/v1/chat/completions?x=1": "chat",
        "/v1/completions": "text_completion",
        "/completion": "text_completion",
        "/infill": "text_completion",
        "/v1/embeddings": "embeddings",
        "/v1/rerank": "rerank",
        "/v1/responses": "responses",
        "/v1/messages": "messages",
        "/api/chat": "chat",
        "/api/generate": "generate",
        "/api/embed": "embeddings",
        "/v1/audio/speech": "other",
        "/v1/chat/completions/x": "other",
    }
    for path in paths:
        await _post(proxied, ask(stream=False), path)
    counted = await proxied.observed(len(paths))
    assert sorted(labels["operation"] for labels in counted) == sorted(paths.values())


async def test_two_servers_count_apart(start_proxied: StartProxied) -> None:
    """Places belong to one server: another's models do not take them."""
    first = await start_proxied(always(stream()), max_models=1)
    second = await start_proxied(always(stream()), max_models=1)
    await _post(first, ask_stream("a"))
    await _post(second, ask_stream("b"))
    assert ((await first.one())["model"], (await second.one())["model"]) == ("a", "b")


async def test_errors_of_models_start_at_0(start_proxied: StartProxied) -> None:
    """Those that are configured or that the engine lists, and requests without a known model, before any request."""
    environment = ProxyEnvironment(
        is_listed=lambda server, name: (server, name) == (SERVER, "listed"),
        listed_models=lambda server: {"listed"} if server == SERVER else (),
    )
    error = reply(b"{}", JSON, status="500 Internal Server Error")
    proxied = await start_proxied(always(error), environment=environment, models={"configured": Objectives()})

    def errors(operation: str = "chat") -> dict[str, set[float]]:
        found: dict[str, set[float]] = {}
        for labels, value in proxied.samples("request_errors_total").items():
            named = dict(labels)
            if named["operation"] == operation:
                found.setdefault(named["model"], set()).add(value)
        return found

    start = {model: {0.0} for model in ("configured", "listed", OTHER, UNKNOWN)}
    assert errors() == start
    for name in ("listed", "made up", "configured"):
        await _post(proxied, ask(name))
    assert await _models(proxied, 3) == ["configured", "listed", OTHER]
    assert errors() == start | {model: {0.0, 1.0} for model in ("configured", "listed", OTHER)}
    assert errors("embeddings") == {}
