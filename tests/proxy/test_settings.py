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
from modelhost_exporter.proxy.settings import ProxiedServer
from modelhost_exporter.requests.slo import Objective, Objectives
from tests.proxy.client import Client, request
from tests.proxy.dialects import ask_stream, stream
from tests.proxy.upstream import Upstream as Scripted
from tests.proxy.upstream import always

if TYPE_CHECKING:
    from tests.conftest import StartExporter
    from tests.support.programs import Exporter

SERVER = "name: a, url: 'http://h', proxy: {listen: ':1'}"


def _read(text: str) -> tuple[ProxiedServer, ...]:
    return configuration.read(yaml.safe_load(text)).proxied


def test_a_server_in_one_flag() -> None:
    """NAME=LISTEN=URL is all that a first try needs; the rest has defaults."""
    (server,) = configuration.load(None, {"--proxy": ["a=127.0.0.1:1=http://h:2/p"]}).proxied
    assert server == ProxiedServer("a", Address("127.0.0.1", 1), (ServerUrl("http://h:2/p"),))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not [NAME=]LISTEN=URL"),
        ("a", "is not [NAME=]LISTEN=URL"),
        ("a=:1", "is not [NAME=]LISTEN=URL"),
        ("a=:1=", "is not [NAME=]LISTEN=URL"),
        ("=:1=http://h", "is not [NAME=]LISTEN=URL"),
        ("a==http://h", "is not [NAME=]LISTEN=URL"),
        ("a=b=http://h", "'b' is not an address"),
        ("a=:70000=http://h", "the port must be at most 65535"),
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
    assert cli.main([f"--proxy={text}", "--config.check"]) == cli.EXIT_CONFIG
    said = capsys.readouterr().err
    assert said.startswith("modelhost-exporter: --proxy: ")
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
        ("servers: [{name: a, proxy: {listen: ':1'}}]", "servers[0]: url is missing"),
        ("servers: [{name: a, url: 'http://h', proxy: {}}]", "servers[0].proxy: listen is missing"),
        ("servers: [{url: 'http://h', proxy: {listen: ':1'}}]", "servers[0]: name is missing"),
        ("servers: [{%s, kind: vlm}]", "servers[0]: kind must be one of auto, "),
        (
            "servers: [{%p, include_usage: x}}]",
            "servers[0].proxy.include_usage: must be one of auto, on, off, not 'x'",
        ),
        ("servers: [{%s, max_models: 0}]", "servers[0]: max_models must be at least 1"),
        ("servers: [{%p, max_inspected_body_bytes: -1}}]", "max_inspected_body_bytes: -1 is not a size"),
        ("servers: [{%p, max_inspected_body_bytes: 1MB}}]", "'1MB' is not a size such as 1MiB"),
        ("servers: [{%p, connect_timeout: 0}}]", "servers[0].proxy.connect_timeout: 0 is not a duration"),
        ("servers: [{%p, idle_timeout: no}}]", "servers[0].proxy.idle_timeout: must be a duration"),
        ("servers: [{%p, buffer: 5}}]", "servers[0].proxy: unknown key 'buffer'"),
        ("servers: [{%s, slo: {ttft: {}}}]", "slo.ttft: threshold is missing"),
        ("servers: [{%s, slo: {ttft: {threshold: 1, target: 95}}}]", "target must be between 0 and 1"),
        ("servers: [{%s, slo: {e2e: {threshold: 1}}}]", "unknown key 'e2e'; known: ttft, tpot, duration"),
        ("servers: [{%s, models: {m: {slo: {ttft: {threshold: x}}}}}]", "servers[0].models.m.slo.ttft.threshold: 'x'"),
        ("servers: [{%s, models: {5: {}}}]", "servers[0].models: must be a mapping from text"),
        ("servers: [{%s}, {name: a, url: 'http://h'}]", "servers[1]: two servers have the name a"),
        (
            "servers: [{%s}, {name: b, url: 'http://h', proxy: {listen: ':1'}}]",
            "servers[1]: two servers have the proxy.listen :1",
        ),
        ("servers: a", "servers: must be a list"),
    ],
)
def test_a_mistake_in_the_file_is_one_clear_line(text: str, message: str) -> None:
    """The error names the path of the mistake."""
    with pytest.raises(ConfigError) as caught:
        _read(text.replace("%s", SERVER).replace("%p", SERVER.removesuffix("}")))
    assert message in str(caught.value)


def test_ports_of_the_systems_choice_may_repeat() -> None:
    """Port 0 is another one each time."""
    servers = (f"{{name: {name}, url: 'http://h', proxy: {{listen: ':0'}}}}" for name in "ab")
    assert len(_read(f"servers: [{', '.join(servers)}]")) == 2


@pytest.mark.parametrize("written", ["off", '"off"', "no", "false"])
def test_usage_can_be_switched_off(written: str) -> None:
    """YAML reads off as false: that is off."""
    (server,) = _read(f"servers: [{{{SERVER.removesuffix('}')}, include_usage: {written}}}}}]")
    assert server.include_usage == "off"


def test_objectives_of_a_model_win() -> None:
    """A model's own objectives replace the server's as a whole."""
    (server,) = _read(
        f"servers: [{{{SERVER}, slo: {{ttft: {{threshold: 500ms}}}},"
        " models: {m: {slo: {duration: {threshold: 1m, target: 0.5}}}}}]"
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
        exporter = start_exporter(f"--proxy=it=127.0.0.1:0={upstream.url}")
        port = _port(exporter)
        async with Client(port) as client:
            await client.send(request(body=ask_stream()).replace(b"proxy.test", b"localhost"))
            assert (await client.reply()).code == 200
    page = exporter.page().decode()
    assert (
        'modelhost_requests_total{code="200",model="m",operation="chat",outcome="ok",server="it",stream="true"} 1.0'
        in page
    )
    assert "modelhost_cpu_seconds_total" in page


def test_an_address_in_use_is_one_clear_line(start_exporter: StartExporter, capsys: pytest.CaptureFixture[str]) -> None:
    """When the proxy cannot listen, the program says where and why and ends with 1."""
    port = _port(start_exporter("--proxy=a=127.0.0.1:0=http://127.0.0.1:1"))
    code = cli.main(["--web.listen-address=127.0.0.1:0", f"--proxy=b=127.0.0.1:{port}=http://127.0.0.1:1"])
    assert code == cli.EXIT_RUN_TIME
    assert f"cannot listen on 127.0.0.1:{port} for b: Address already in use" in capsys.readouterr().err
