"""A proxy's listener with TLS, and the programs and libraries that connect to it."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import openai
import pytest

from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.proxy.settings import ProxyAuth, ProxySettings
from modelhost_exporter.security.tls_settings import TlsServer
from tests.proxy.client import request
from tests.proxy.dialects import DONE, EVENT_STREAM, ask, completion, finish, token
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, LAST_CHUNK, Call, always, chunk, head, reply
from tests.support.certificates import Authority
from tests.support.programs import installed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxy.conftest import Proxied, StartProxied

PATH = "/v1/chat/completions"
JSON = "Content-Type: application/json"


async def _run(*command: str | Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    return process.returncode or 0, output.decode()


async def _post(proxied: Proxied) -> int:
    async with proxied.client() as client:
        await client.send(request(PATH, ask()))
        return (await client.reply()).code


def _closed(proxied: Proxied) -> float:
    return proxied.value("proxy_connections_closed_total", reason="tls_handshake") or 0


async def test_curl_and_openssl_connect(
    start_proxied: StartProxied, authority: Authority, listener_tls: TlsServer
) -> None:
    """HTTP/1.1 by ALPN; an old version of TLS is refused; a certificate that is not trusted fails at the client."""
    proxied = await start_proxied(always(completion()), listener_tls=listener_tls)
    url = f"https://localhost:{proxied.port}{PATH}"
    curl = (installed("curl"), "-sS", "--http1.1", "-d", ask().decode(), "-w", "%{http_code} %{http_version}", url)
    code, output = await _run(*curl, "--cacert", authority.certificate)
    assert (code, output) == (0, completion().partition(b"\r\n\r\n")[2].decode() + "200 1.1")
    code, output = await _run(*[word for word in curl if word != "--http1.1"], "--cacert", authority.certificate)
    assert (code, output.endswith("200 1.1")) == (0, True)
    assert (await _run(*curl))[0] == 60  # not trusted
    client = (installed("openssl"), "s_client", "-connect", f"127.0.0.1:{proxied.port}", "-alpn", "h2,http/1.1")
    assert "ALPN protocol: http/1.1" in (await _run(*client))[1]
    assert (await _run(*client, "-tls1_1"))[0] == 1
    await proxied.until("proxy_connections_closed_total", 2)


async def test_plain_http_gets_an_answer(start_proxied: StartProxied, listener_tls: TlsServer) -> None:
    """A request without TLS is told where it is, counted, and not a request."""
    proxied = await start_proxied(always(reply(b"{}")), listener_tls=listener_tls)
    async with proxied.client() as client:
        await client.send(request(PATH, ask()))
        got = await client.reply()
    assert (got.code, got.body) == (400, b"this port serves HTTPS: use https:// instead of http://\n")
    assert _closed(proxied) == 1
    assert proxied.total("requests_total") == 0


async def test_client_certificates(
    start_proxied: StartProxied, authority: Authority, listener_tls: TlsServer, tmp_path: Path
) -> None:
    """Only a client with a certificate of the authority, and an allowed name, reaches the upstream."""
    required = replace(
        listener_tls,
        client_ca_file=authority.certificate,
        client_auth_type="RequireAndVerifyClientCert",
        client_allowed_sans=("models",),
    )
    proxied = await start_proxied(always(reply(b"{}")), listener_tls=required)
    stranger = Authority(tmp_path, "stranger").issue("client", "DNS:models")
    known, other = authority.issue("models", "DNS:models"), authority.issue("other", "DNS:other")
    for pair in (None, stranger, other):
        proxied.client_tls = authority.client(pair)
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await _post(proxied)
    assert not proxied.upstream.calls
    proxied.client_tls = authority.client(known)
    assert await _post(proxied) == 200
    await proxied.until("proxy_connections_closed_total", 3)


async def test_certificates_are_rotated(start_proxied: StartProxied, authority: Authority, tmp_path: Path) -> None:
    """The next connection has the new certificate, an open one goes on, and a bad file changes nothing."""
    pair = authority.issue("rotated")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(source: tuple[Path, Path]) -> None:
        for file, target in zip(source, (certificate, key), strict=True):
            shutil.copy(file, f"{target}.new")
            os.replace(f"{target}.new", target)  # noqa: PTH105 - as a program rotates

    put(pair)
    proxied = await start_proxied(always(reply(b"{}")), listener_tls=TlsServer(cert_file=certificate, key_file=key))
    proxied.client_tls = authority.client()
    seen = []
    async with proxied.client() as kept:
        for number in range(3):
            put(authority.issue(f"rotated-{number}"))
            assert await _post(proxied) == 200
            async with proxied.client() as client:
                seen.append(client.writer.get_extra_info("peercert")["serialNumber"])
                await client.send(request(PATH, ask()))
                assert (await client.reply()).code == 200
            await kept.send(request(PATH, ask()))
            assert (await kept.reply()).code == 200
    assert len(set(seen)) == 3


async def test_a_certificate_that_cannot_be_read_keeps_the_previous_one(
    start_exporter: Any, authority: Authority, tmp_path: Path
) -> None:
    """The running program goes on with the one that it has, and says so once."""
    pair = authority.issue("kept")
    shutil.copy(pair.certificate, tmp_path / "cert.pem")
    file = tmp_path / "config.yaml"
    file.write_text(
        f"servers: [{{name: a, url: 'http://127.0.0.1:9', poll: false, proxy: {{listen: '127.0.0.1:0',"
        f" tls: {{cert_file: {tmp_path}/cert.pem, key_file: {pair.key}}}}}}}]"
    )
    exporter = await asyncio.to_thread(start_exporter, f"--config.file={file}")
    port = int(
        next(line for line in exporter.lines if '"proxying"' in line)
        .split('"url": "https://')[1]
        .split('"')[0]
        .split(":")[1]
    )
    (tmp_path / "cert.pem").write_text("not a certificate")
    for _ in range(3):
        async with httpx.AsyncClient(verify=authority.client()) as client:
            assert (await client.get(f"https://127.0.0.1:{port}/")).status_code == 502
    exporter.stop()
    failed = [line for line in exporter.lines if "TLS of the proxy of a not read again" in line]
    assert len(failed) == 1
    assert "no PEM certificate" in failed[0]


async def test_a_reload_switches_tls(
    start_proxied: StartProxied, authority: Authority, listener_tls: TlsServer
) -> None:
    """Off to on: new connections are encrypted, and plain ones that are open get no more; then off again."""
    proxied = await start_proxied(always(reply(b"{}")))
    settings = proxied.proxy._listeners[0].context.settings
    async with proxied.client() as plain:
        await plain.send(request(PATH, ask()))
        assert (await plain.reply()).code == 200
        proxied.proxy.put_in_force(await proxied.proxy.prepare([replace(settings, tls=listener_tls)]))
        await plain.send(request(PATH, ask()))
        assert (await plain.reply()).code == 400
    proxied.client_tls = authority.client()
    async with proxied.client() as encrypted:
        proxied.proxy.put_in_force(await proxied.proxy.prepare([settings]))
        await encrypted.send(request(PATH, ask()))
        assert (await encrypted.reply()).code == 200
    proxied.client_tls = None
    assert await _post(proxied) == 200


async def test_a_reload_with_a_bad_file_changes_nothing(
    start_proxied: StartProxied, listener_tls: TlsServer, tmp_path: Path
) -> None:
    """The error names the server, the key and the file."""
    proxied = await start_proxied(always(reply(b"{}")))
    settings = proxied.proxy._listeners[0].context.settings
    missing = replace(listener_tls, key_file=tmp_path / "missing.pem")
    with pytest.raises(ConfigError, match=r"missing\.pem: No such file or directory"):
        await proxied.proxy.prepare([replace(settings, tls=missing)])
    assert await _post(proxied) == 200


async def test_a_handshake_has_a_deadline(start_proxied: StartProxied, listener_tls: TlsServer) -> None:
    """A client that does not go on with its handshake is closed as one that does not send its headers."""
    limits = ProxySettings(header_timeout=Seconds(0.2))
    proxied = await start_proxied(always(reply(b"{}")), listener_tls=listener_tls, limits=lambda: limits)
    async with proxied.client() as silent, proxied.client() as begun:
        await begun.send(b"\x16\x03\x01\x02\x00\x01")
        assert await silent.closed() == b""
        assert await begun.closed() == b""
    assert proxied.value("proxy_connections_closed_total", reason="header_timeout") == 2


class _Answers:
    """A server that answers each dialect, streamed or not, and remembers the credentials that it saw."""

    def __init__(self) -> None:
        self.credentials: list[str] = []

    async def __call__(self, call: Call) -> None:
        """Answer a request."""
        self.credentials += call.values("Authorization") + call.values("x-api-key")
        body = await call.body()
        if call.target == "/v1/messages":
            message = (
                b'{"id":"a","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"hi"}],'
                b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}'
            )
            await call.send(reply(message, JSON))
        elif b'"stream":true' in body.replace(b" ", b""):
            events = (token("a"), token("b"), finish(), DONE)
            await call.send(head(EVENT_STREAM, CHUNKED), *map(chunk, events), LAST_CHUNK)
        else:
            await call.send(completion())


def _openai(port: int, authority: Authority, key: str) -> list[str]:
    """Use OpenAI's library: one response, and one stream, on kept connections."""
    with openai.OpenAI(
        base_url=f"https://localhost:{port}/v1",
        api_key=key,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(verify=authority.client()),
    ) as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        whole = client.chat.completions.create(model="m", messages=messages)
        parts = client.chat.completions.create(model="m", messages=messages, stream=True)
        return [whole.model, *(part.choices[0].delta.content or "" for part in parts if part.choices)]


async def test_the_libraries_of_openai_and_anthropic_connect(
    start_proxied: StartProxied, authority: Authority, listener_tls: TlsServer
) -> None:
    """Whole responses and streams arrive through TLS; their keys, where the proxy wants none, are the server's."""
    answers = _Answers()
    proxied = await start_proxied(answers, listener_tls=listener_tls)
    assert await asyncio.to_thread(_openai, proxied.port, authority, "KEY") == ["m", "a", "b", ""]

    def ask_anthropic() -> str:
        with anthropic.Anthropic(
            base_url=f"https://localhost:{proxied.port}",
            api_key="KEY",
            max_retries=0,
            http_client=anthropic.DefaultHttpxClient(verify=authority.client()),
        ) as client:
            messages: Any = [{"role": "user", "content": "hi"}]
            return client.messages.create(model="m", max_tokens=9, messages=messages).model

    assert await asyncio.to_thread(ask_anthropic) == "m"
    assert [each.removeprefix("Bearer ") for each in answers.credentials] == ["KEY"] * 3
    await proxied.observed(3)


async def test_the_libraries_authenticate(
    start_proxied: StartProxied, authority: Authority, listener_tls: TlsServer, tmp_path: Path
) -> None:
    """Their API key is the proxy's token, and the server sees its own; a wrong one is their authentication error."""
    token, file = "k" * 32, tmp_path / "tokens"
    file.write_text(token)
    answers = _Answers()
    proxied = await start_proxied(
        answers,
        listener_tls=listener_tls,
        auth=ProxyAuth(bearer_tokens_file=file),
        upstream_headers={"Authorization": "Bearer UPSTREAM"},
    )
    assert await asyncio.to_thread(_openai, proxied.port, authority, token) == ["m", "a", "b", ""]
    with pytest.raises(openai.AuthenticationError, match="the token is not accepted"):
        await asyncio.to_thread(_openai, proxied.port, authority, "wrong")

    def ask_anthropic() -> None:
        with anthropic.Anthropic(
            base_url=f"https://localhost:{proxied.port}",
            api_key="wrong",
            max_retries=0,
            http_client=anthropic.DefaultHttpxClient(verify=authority.client()),
        ) as client:
            client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}])

    with pytest.raises(anthropic.AuthenticationError, match="the token is not accepted"):
        await asyncio.to_thread(ask_anthropic)
    assert answers.credentials == ["Bearer UPSTREAM"] * 2


@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        ("{}", "servers[0].proxy: tls: cert_file and key_file are missing"),
        ("{cert_file: a}", "servers[0].proxy.tls: key_file is missing (or key, with the PEM text)"),
        ("{cert: a, key: SECRET, min_version: TLS9}", "servers[0].proxy.tls.min_version: must be one of"),
        ("{cert: a, key: [SECRET]}", "servers[0].proxy.tls.key: must be text"),
        ("{cert_file: a, key_file: b, client_auth_type: RequireAnyClientCert}", "servers[0].proxy.tls: client_auth"),
    ],
)
def test_settings_that_cannot_work_are_errors(tls: str, problem: str) -> None:
    """With the place; no message has a key."""
    import yaml  # noqa: PLC0415 - as in the program

    text = f"servers: [{{name: a, url: 'http://h:1', proxy: {{listen: ':1', tls: {tls}}}}}]"
    with pytest.raises(ConfigError) as caught:
        configuration.read(yaml.safe_load(text))
    assert str(caught.value).startswith(problem)
    assert "SECRET" not in str(caught.value)
