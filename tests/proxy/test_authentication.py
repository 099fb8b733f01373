"""Clients of a proxy authenticate before anything of their requests is forwarded."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import bcrypt
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.proxy import authentication, headers
from modelhost_exporter.proxy.downstream import Request
from modelhost_exporter.proxy.settings import ProxyAuth
from modelhost_exporter.requests.slo import Objectives
from modelhost_exporter.security import bearer_tokens, passwords
from modelhost_exporter.security.authentication import AnyOf, Credentials, Refusal
from modelhost_exporter.security.jwt_settings import JwtOptions
from tests.proxy import frames
from tests.proxy.client import request
from tests.proxy.dialects import ask
from tests.proxy.frames import UPGRADE
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, Call, always, reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.proxy.conftest import Proxied, StartProxied

PATH = "/v1/chat/completions"
HASH = bcrypt.hashpw(b"right", b"$2b$04$abcdefghijklmnopqrstuu").decode()
USERS = ProxyAuth(basic_auth_users={"ada": HASH})


def basic(password: str, user: str = "ada") -> str:
    """Return a header with user and password."""
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Held:
    """Comparisons of passwords that wait until they are released."""

    def __init__(self) -> None:
        self._begun, self._released = threading.Event(), threading.Event()

    def matches(self, password: bytes, hashed: bytes) -> bool:
        """Compare, once that is released."""
        self._begun.set()
        assert self._released.wait(DEADLINE_SECONDS)
        return bcrypt.checkpw(password, hashed)

    async def begun(self) -> None:
        """Wait until a comparison has begun."""
        assert await asyncio.to_thread(self._begun.wait, DEADLINE_SECONDS)

    def release(self) -> None:
        """Let all comparisons go on."""
        self._released.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Hold comparisons of passwords."""
    found = Held()
    monkeypatch.setattr(passwords.Passwords.__init__, "__defaults__", (found.matches,))
    yield found
    found.release()


async def _status(proxied: Proxied, *pieces: bytes) -> int:
    async with proxied.client() as client:
        await client.send(*pieces)
        return (await client.reply()).code


async def test_only_authenticated_requests_are_forwarded(start_proxied: StartProxied) -> None:
    """A right password is; a wrong one, an unknown user, none and two are refused and counted. It stays here."""
    proxied = await start_proxied(always(reply(b"{}")), auth=USERS)
    async with proxied.client() as client:
        for _ in range(3):
            await client.send(request(PATH, ask(), basic("right"), "X-Other: kept"))
            assert (await client.reply()).code == 200
    refused: list[tuple[str, ...]] = [
        *((basic("wrong"),), (basic("right", "eve"),), (), (basic("right"), basic("right"))),
        *(("Authorization: Bearer right",), ("x-api-key: right",), ("Authorization: Basic !",)),
    ]
    for fields in refused:
        assert await _status(proxied, request(PATH, ask(), *fields)) == 401
    assert len(proxied.upstream.calls) == 3
    for call in proxied.upstream.calls:
        assert (call.values("Authorization"), call.values("X-Other")) == ([], ["kept"])
    observed = await proxied.observed(3 + len(refused))
    assert [labels["outcome"] for labels in observed if labels["code"] == "401"] == ["client_error"] * len(refused)


async def test_a_refusal_has_the_form_of_the_dialect(start_proxied: StartProxied) -> None:
    """OpenAI's and Anthropic's clients get their error objects, others text; all get what is accepted."""
    proxied = await start_proxied(always(reply(b"{}")), auth=USERS)
    bodies: dict[str, Any] = {}
    for path in (PATH, "/v1/messages", "/api/chat", "/version"):
        async with proxied.client() as client:
            await client.send(request(path, b"{}"))
            got = await client.reply()
            assert (got.code, got.values("Connection")) == (401, ["close"])
            assert got.values("WWW-Authenticate") == ['Basic realm="modelhost-exporter", charset="UTF-8"']
            assert await client.closed() == b""
            bodies[path] = got.body
    text = "authentication is required"
    openai = {"message": text, "type": "client_error", "param": None, "code": 401}
    assert json.loads(bodies[PATH]) == {"error": openai}
    anthropic = {"type": "authentication_error", "message": text}
    assert json.loads(bodies["/v1/messages"]) == {"type": "error", "error": anthropic}
    assert json.loads(bodies["/api/chat"]) == {"error": text}
    assert bodies["/version"] == f"{text}\n".encode()
    await proxied.observed(4)


async def test_a_refused_body_is_neither_requested_nor_parsed(start_proxied: StartProxied) -> None:
    """A client that waits for a 100 gets a 401 instead; a refused body is not read for its model, though known."""
    proxied = await start_proxied(always(reply(b"{}")), auth=USERS, models={"secret-model": Objectives()})
    async with proxied.client() as client:
        await client.send(request(PATH, None, "Content-Length: 1000000", "Expect: 100-continue", method="POST"))
        assert (await client.reply()).code == 401
    assert await _status(proxied, request(PATH, None, CHUNKED, method="POST"), b"5\r\nhello\r\n") == 401
    assert await _status(proxied, request(PATH, ask("secret-model"))) == 401
    assert not proxied.upstream.calls
    assert {labels["model"] for labels in await proxied.observed(3)} == {"unknown"}


async def test_an_accepted_client_gets_its_100(start_proxied: StartProxied) -> None:
    """The interim response comes after authentication, and the body arrives whole."""
    proxied = await start_proxied(always(reply(b"{}")), auth=USERS)
    body = ask()
    fields = (basic("right"), "Expect: 100-continue", f"Content-Length: {len(body)}")
    async with proxied.client() as client:
        await client.send(request(PATH, None, *fields, method="POST"))
        await client.exactly(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.send(body)
        assert (await client.reply()).code == 200
    assert await proxied.upstream.calls[0].body() == body


@pytest.mark.parametrize("size", [0, 10, 70_000, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_waits_for_a_password(start_proxied: StartProxied, held: Held, size: int, framing: str) -> None:
    """A password that is checked for the first time takes time: the body is held meanwhile, and arrives whole."""

    async def script(call: Call) -> None:
        await call.send(reply(b"%d" % len(await call.body())))

    proxied = await start_proxied(script, auth=USERS)
    body = b"x" * size
    async with proxied.client() as client:
        if framing == "length":
            sending = asyncio.create_task(client.send(request(PATH, body, basic("right"))))
        else:
            chunks = b"%x\r\n%b\r\n" % (size, body) if size else b""
            head = request(PATH, None, basic("right"), CHUNKED, method="POST")
            sending = asyncio.create_task(client.send(head, chunks + b"0\r\n\r\n"))
        await held.begun()
        assert not proxied.upstream.calls
        held.release()
        assert (await client.reply()).body == b"%d" % size
        await sending
    await proxied.observed(1)


async def test_a_client_that_leaves_meanwhile_is_forgotten(start_proxied: StartProxied, held: Held) -> None:
    """Its request is counted, never forwarded, and the next client is served."""
    proxied = await start_proxied(always(reply(b"{}")), auth=USERS)
    async with proxied.client() as client:
        await client.send(request(PATH, ask(), basic("right")))
        await held.begun()
        client.reset()
    assert (await proxied.one())["outcome"] == "client_disconnect"
    held.release()
    assert await _status(proxied, request(PATH, ask(), basic("right"))) == 200
    assert len(proxied.upstream.calls) == 1


async def test_a_websocket_needs_credentials_too(start_proxied: StartProxied) -> None:
    """A handshake without them is refused, one with them relayed."""

    async def script(call: Call) -> None:
        await call.send(frames.accept(call))
        call.close()

    proxied = await start_proxied(script, auth=USERS)
    assert await _status(proxied, request("/v1/realtime", None, *UPGRADE)) == 401
    async with proxied.client() as client:
        await client.send(request("/v1/realtime", None, *UPGRADE, basic("right")), frames.close(1000, masked=True))
        assert (await client.head()).code == 101
        await client.closed()
    (call,) = proxied.upstream.calls
    assert call.values("Authorization") == []


async def test_requests_sent_at_once_are_each_checked(start_proxied: StartProxied) -> None:
    """One that is refused ends the connection: those behind it are not forwarded."""
    proxied = await start_proxied(always(reply(b"{}")), auth=USERS)
    right, wrong = request(PATH, ask(), basic("right")), request(PATH, ask(), basic("wrong"))
    async with proxied.client() as client:
        await client.send(right + right + wrong + right)
        assert [(await client.reply()).code for _ in range(3)] == [200, 200, 401]
        assert await client.closed() == b""
    assert len(proxied.upstream.calls) == 2
    await proxied.observed(3)


async def test_a_key_of_the_upstream_replaces_the_clients(start_proxied: StartProxied) -> None:
    """A client proves who it is to the proxy, and the proxy to the upstream."""
    proxied = await start_proxied(
        always(reply(b"{}")), auth=USERS, upstream_headers={"Authorization": "Bearer UPSTREAM"}
    )
    assert await _status(proxied, request(PATH, ask(), basic("right"), "x-api-key: mine")) == 200
    (call,) = proxied.upstream.calls
    assert (call.values("Authorization"), call.values("x-api-key")) == (["Bearer UPSTREAM"], [])


@pytest.mark.parametrize(
    ("users", "problem"),
    [
        ("{ada: SECRET}", "basic_auth_users: the password of user 1 is not a bcrypt hash"),
        (f'{{"a:b": "{HASH}"}}', "basic_auth_users: the name of user 1 contains a colon"),
    ],
)
def test_users_that_cannot_work_are_errors(users: str, problem: str) -> None:
    """Passwords have to be hashed; no message has one."""
    import yaml  # noqa: PLC0415 - as in the program

    text = f"servers: [{{name: a, url: 'http://h:1', proxy: {{listen: ':1', auth: {{basic_auth_users: {users}}}}}}}]"
    with pytest.raises(ConfigError) as caught:
        configuration.read(yaml.safe_load(text))
    assert str(caught.value).startswith(f"servers[0].proxy.auth: {problem}")
    assert "SECRET" not in str(caught.value)


TOKEN, OTHER = "t" * 32, "o" * 32
SECRET = "s" * 32


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Give a file with a token."""
    file = tmp_path / "tokens"
    file.write_text(f"# clients\nada: {TOKEN}\n")
    return file


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ((f"Authorization: Bearer {TOKEN}",), 200),
        ((f"authorization: bearer {TOKEN}",), 200),
        ((f"x-api-key: {TOKEN}",), 200),
        ((f"X-Api-Key: {TOKEN}", "Anthropic-Version: 2023-06-01"), 200),
        ((f"Authorization: Bearer {OTHER}",), 401),
        ((f"x-api-key: {OTHER}",), 401),
        ((f"x-api-key: {TOKEN}", f"x-api-key: {OTHER}"), 401),
        ((f"Authorization: Bearer {OTHER}", f"x-api-key: {TOKEN}"), 401),
        ((f"Authorization: {TOKEN}",), 401),
        ((f"Proxy-Authorization: Bearer {TOKEN}",), 401),
        ((f"Cookie: token={TOKEN}",), 401),
        ((), 401),
    ],
)
async def test_tokens(start_proxied: StartProxied, tokens: Path, fields: tuple[str, ...], code: int) -> None:
    """The keys of OpenAI's and Anthropic's clients; neither reaches the upstream."""
    proxied = await start_proxied(always(reply(b"{}")), auth=ProxyAuth(bearer_tokens_file=tokens))
    assert await _status(proxied, request(PATH, ask(), *fields)) == code
    assert len(proxied.upstream.calls) == (code == 200)
    assert all(
        TOKEN.encode() not in call.head and b"api-key" not in call.head.lower() for call in proxied.upstream.calls
    )


async def test_a_token_that_is_removed_is_refused(
    start_proxied: StartProxied, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a connection that is open, too; one that is added is accepted."""
    clock = [1000.0]
    monkeypatch.setattr(authentication, "monotonic", lambda: clock[0])
    proxied = await start_proxied(always(reply(b"{}")), auth=ProxyAuth(bearer_tokens_file=tokens))
    async with proxied.client() as client:
        for _ in range(2):
            await client.send(request(PATH, ask(), f"Authorization: Bearer {TOKEN}"))
            assert (await client.reply()).code == 200
        await asyncio.to_thread(tokens.write_text, f"grace: {OTHER}\n")
        clock[0] += 2
        await client.send(request(PATH, ask(), f"Authorization: Bearer {TOKEN}"))
        assert (await client.reply()).code == 401
    assert await _status(proxied, request(PATH, ask(), f"x-api-key: {OTHER}")) == 200


async def test_json_web_tokens(start_proxied: StartProxied, tmp_path: Path) -> None:
    """A token of the issuer is accepted until it expires; one of another key, or without an end, is not."""
    key = tmp_path / "key"
    key.write_text(SECRET)
    options = JwtOptions(algorithms=("HS256",), key_file=key, issuer="a", audience=("models",))
    proxied = await start_proxied(always(reply(b"{}")), auth=ProxyAuth(jwt=options))
    claims = {"iss": "a", "aud": "models", "exp": time.time() + 600}
    good = jwt.encode(claims, SECRET, "HS256")
    assert await _status(proxied, request(PATH, ask(), f"Authorization: Bearer {good}")) == 200
    assert await _status(proxied, request(PATH, ask(), f"x-api-key: {good}")) == 200
    bad = [
        jwt.encode(claims, OTHER, "HS256"),
        jwt.encode({**claims, "exp": time.time() - 600}, SECRET, "HS256"),
        jwt.encode({"iss": "a", "aud": "models"}, SECRET, "HS256"),
        jwt.encode({**claims, "aud": "other"}, SECRET, "HS256"),
        jwt.encode(claims, "", "none"),
    ]
    for token in bad:
        assert await _status(proxied, request(PATH, ask(), f"Authorization: Bearer {token}")) == 401
    assert len(proxied.upstream.calls) == 2


@given(st.lists(st.binary(max_size=60).filter(lambda value: not set(value) & set(b"\r\n\0")), max_size=3))
def test_whatever_credentials_are_sent_something_is_decided(values: list[bytes]) -> None:
    """No header makes a method raise, and nothing but a token of the file is accepted."""
    found = bearer_tokens.TokenFile({bearer_tokens.digest(TOKEN.encode()): "ada"})
    methods = AnyOf([bearer_tokens.BearerTokens(lambda: found)])
    made, names = Request(), (b"Authorization", b"X-Api-Key")
    made.fields = [headers.Field(name.lower(), name, value) for value in values for name in names]
    made.by_key = headers.index(made.fields)
    decision = methods.check(Credentials(authentication._credentials(made)))
    assert isinstance(decision, Refusal)
    assert decision.status == 401
