"""What can be configured for the proxy, and how a mistake is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from yarl import URL

from modelhost_exporter import cli
from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.address import Address
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.config.model import ConfigError
from modelhost_exporter.proxy.settings import ProxyServer
from modelhost_exporter.requests.slo import Objective, Objectives
from tests.proxy.client import Client, request
from tests.proxy.dialects import ask_stream, stream
from tests.proxy.upstream import Upstream as Scripted
from tests.proxy.upstream import always

if TYPE_CHECKING:
    from tests.conftest import StartExporter
    from tests.support.programs import Exporter

SERVER = "name: a, listen: ':1', upstream: 'http://h'"


def _read(text: str) -> tuple[ProxyServer, ...]:
    return configuration.read(yaml.safe_load(text)).proxy.servers


def test_a_server_in_one_flag() -> None:
    """NAME=LISTEN=UPSTREAM is all that a first try needs; the rest has defaults."""
    (server,) = configuration.load(None, {"proxy.servers": ["a=127.0.0.1:1=http://h:2/p?"[:-1]]}).proxy.servers
    assert server == ProxyServer("a", Address("127.0.0.1", 1), ServerUrl("http://h:2/p"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not NAME=LISTEN=UPSTREAM"),
        ("a", "is not NAME=LISTEN=UPSTREAM"),
        ("a=:1", "is not NAME=LISTEN=UPSTREAM"),
        ("a=:1=", "is not NAME=LISTEN=UPSTREAM"),
        ("=:1=http://h", "is not NAME=LISTEN=UPSTREAM"),
        ("a==http://h", "is not NAME=LISTEN=UPSTREAM"),
        ("a=b=http://h", "'b' is not an address"),
        ("a=:70000=http://h", "a port is at most 65535"),
        ("a=:1=h:2", "'h:2' is not a URL such as http://127.0.0.1:11434"),
        ("a=:1=ftp://h", "'ftp://h' is not a URL such as"),
        ("a=:1=http://", "'http://' is not a URL such as"),
        ("a=:1=http://h:x", "'http://h:***' is not a URL"),
        ("a=:1=http://h:99999", "'http://h:99999' is not a URL"),
        ("a=:1=http://h:0", "'http://h:0' is not a URL"),
        ("a=:1=http://[::1", "'http://[::1' is not a URL"),
        ("a=:1=http://h/a b", "is not a URL such as"),
        ("a=:1=http://h/ä", "is not a URL such as"),
        ("a=:1=http://h?a=b", "must have no query, fragment, user or password"),
        ("a=:1=http://h/?", "must have no query, fragment, user or password"),
        ("a=:1=http://h/#a", "must have no query, fragment, user or password"),
        ("a=:1=http://h/#", "must have no query, fragment, user or password"),
        ("a=:1=http://u:p@h", "must have no query, fragment, user or password"),
        ("a=:1=http://@h", "must have no query, fragment, user or password"),
    ],
)
def test_a_bad_flag_is_one_clear_line(capsys: pytest.CaptureFixture[str], text: str, problem: str) -> None:
    """The error names the flag and what is wrong, and the exit code is that of a bad configuration."""
    assert cli.main([f"--proxy.server={text}", "--config.check"]) == cli.EXIT_CONFIG
    said = capsys.readouterr().err
    assert said.startswith("modelhost-exporter: --proxy.server: ")
    assert problem in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "url", "prefix"),
    [
        ("http://h", "http://h", ""),
        ("http://h/", "http://h", ""),
        ("https://h:1/a/b/", "https://h:1/a/b", "/a/b"),
        ("http://[::1]:2/a%2Fb", "http://[::1]:2/a%2Fb", "/a%2Fb"),
        ("http://h//", "http://h", ""),
    ],
)
def test_an_upstream_may_have_a_path(text: str, url: str, prefix: str) -> None:
    """A path is kept as it is written, less the slashes at its end."""
    upstream = ServerUrl.from_text(text)
    assert (upstream, upstream.prefix) == (ServerUrl(url), prefix)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("proxy: {servers: [{name: a, listen: ':1'}]}", "proxy.servers[0]: upstream is missing"),
        ("proxy: {servers: [{listen: ':1', upstream: 'http://h'}]}", "proxy.servers[0]: name is missing"),
        ("proxy: {servers: [{%s, kind: vlm}]}", "proxy.servers[0].kind: must be one of auto, litellm"),
        ("proxy: {servers: [{%s, usage: on}]}", "proxy.servers[0].usage: must be one of auto, off, not 'on'"),
        ("proxy: {servers: [{%s, max_models: 0}]}", "proxy.servers[0]: max_models must be at least 1"),
        ("proxy: {servers: [{%s, inspect_bytes: -1}]}", "proxy.servers[0]: inspect_bytes must not be negative"),
        ("proxy: {servers: [{%s, connect_timeout: 0}]}", "proxy.servers[0].connect_timeout: 0 is not a duration"),
        ("proxy: {servers: [{%s, idle_timeout: no}]}", "proxy.servers[0].idle_timeout: must be a duration"),
        ("proxy: {servers: [{%s, buffer: 5}]}", "proxy.servers[0]: unknown key 'buffer'"),
        ("proxy: {servers: [{%s, objectives: {ttft: {}}}]}", "objectives.ttft: threshold is missing"),
        ("proxy: {servers: [{%s, objectives: {ttft: {threshold: 1, ratio: 95}}}]}", "ratio must be between 0 and 1"),
        (
            "proxy: {servers: [{%s, objectives: {e2e: {threshold: 1}}}]}",
            "unknown key 'e2e'; known: ttft, tpot, duration",
        ),
        (
            "proxy: {servers: [{%s, models: {m: {ttft: {threshold: x}}}}]}",
            "proxy.servers[0].models.m.ttft.threshold: 'x'",
        ),
        ("proxy: {servers: [{%s, models: {5: {}}}]}", "proxy.servers[0].models: must be a mapping from text"),
        (
            "proxy: {servers: [{%s}, {name: a, listen: ':2', upstream: 'http://h'}]}",
            "proxy: two servers have the name a",
        ),
        (
            "proxy: {servers: [{%s}, {name: b, listen: ':1', upstream: 'http://h'}]}",
            "proxy: two servers have the listen :1",
        ),
        ("proxy: {servers: a}", "proxy.servers: must be a list"),
    ],
)
def test_a_mistake_in_the_file_is_one_clear_line(text: str, message: str) -> None:
    """The error names the path of the mistake."""
    with pytest.raises(ConfigError) as caught:
        _read(text.replace("%s", SERVER))
    assert message in str(caught.value)


def test_ports_of_the_systems_choice_may_repeat() -> None:
    """Port 0 is another one each time."""
    assert len(_read("proxy: {servers: ['a=:0=http://h', 'b=:0=http://h']}")) == 2


@pytest.mark.parametrize("written", ["off", '"off"', "no", "false"])
def test_usage_can_be_switched_off(written: str) -> None:
    """YAML reads off as false: that is off."""
    (server,) = _read(f"proxy: {{servers: [{{{SERVER}, usage: {written}}}]}}")
    assert server.usage == "off"


def test_objectives_of_a_model_win() -> None:
    """A model's own objectives replace the server's as a whole."""
    (server,) = _read(
        f"proxy: {{servers: [{{{SERVER}, objectives: {{ttft: {{threshold: 500ms}}}},"
        " models: {m: {duration: {threshold: 1m, ratio: 0.5}}}}]}"
    )
    assert server.objectives_of("m") == Objectives(duration=Objective(Seconds(60.0), 0.5))
    assert server.objectives_of("other") == Objectives(ttft=Objective(Seconds(0.5), 0.99))


def _port(exporter: Exporter) -> int:
    """Return where the one proxied server is listened for."""
    said = next(line for line in exporter.lines if '"msg": "proxying"' in line)
    return URL(json.loads(said)["url"]).port or 0


async def test_the_program_proxies(start_exporter: StartExporter) -> None:
    """The real exporter, told in one flag, passes a stream on and shows it on its page beside the host's metrics."""
    async with Scripted(always(stream())) as upstream:
        exporter = start_exporter(f"--proxy.server=it=127.0.0.1:0={upstream.url}")
        port = _port(exporter)
        async with Client(port) as client:
            await client.send(request(body=ask_stream()))
            assert (await client.reply()).code == 200
    page = exporter.page().decode()
    assert (
        'modelhost_requests_total{code="200",model="m",operation="chat",outcome="ok",server="it",stream="true"} 1.0'
        in page
    )
    assert "modelhost_cpu_seconds_total" in page


def test_an_address_in_use_is_one_clear_line(start_exporter: StartExporter, capsys: pytest.CaptureFixture[str]) -> None:
    """When the proxy cannot listen, the program says where and why and ends with 1."""
    port = _port(start_exporter("--proxy.server=a=127.0.0.1:0=http://127.0.0.1:1"))
    code = cli.main(["--web.listen-address=127.0.0.1:0", f"--proxy.server=b=127.0.0.1:{port}=http://127.0.0.1:1"])
    assert code == cli.EXIT_RUN_TIME
    assert f"cannot listen on 127.0.0.1:{port} for b: Address already in use" in capsys.readouterr().err
