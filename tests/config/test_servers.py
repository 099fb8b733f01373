"""The list of servers: flags that add to it, and the keys that it replaced."""

from __future__ import annotations

import socket
import textwrap
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml

from modelhost_exporter import cli
from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.config.servers import parse_servers
from modelhost_exporter.config.size import parse_bytes
from modelhost_exporter.process.own_addresses import addresses_of

if TYPE_CHECKING:
    from pathlib import Path

IP = (socket.AF_INET, socket.AF_INET6)

OLD = """
proxy:
  servers:
    - chat=127.0.0.1:8434=http://127.0.0.1:11434
    - name: big
      listen: ":8435"
      upstream: https://example.com/api
      kind: vllm
      usage: off
      inspect_bytes: 1024
      idle_timeout: 5m
      objectives: {ttft: {threshold: 1s, ratio: 0.95}}
      models: {"llama3.3:70b": {ttft: {threshold: 3s}}}
model_servers:
  - {name: chat, url: "http://127.0.0.1:11434", headers: {Authorization: Bearer SECRET}, timeout: 2s, metrics: off}
  - {name: alone, url: "http://127.0.0.1:1", probe: {interval: 1m}}
collectors:
  model_servers: {poll_interval: 30s}
"""
NEW = """
servers:
  - name: chat
    url: http://127.0.0.1:11434
    proxy: {listen: 127.0.0.1:8434}
    headers: {Authorization: "***"}
    poll: {timeout: 2s, metrics: off, interval: 30s}
  - name: big
    url: https://example.com/api
    kind: vllm
    proxy: {listen: ":8435", include_usage: off, max_inspected_body_bytes: 1024, idle_timeout: 5m}
    poll: false
    slo: {ttft: {threshold: 1s, target: 0.95}}
    models: {"llama3.3:70b": {slo: {ttft: {threshold: 3s}}}}
  - {name: alone, url: "http://127.0.0.1:1", probe: {interval: 1m}, poll: {interval: 30s}}
"""


def test_old_keys_are_an_error_with_the_new_form() -> None:
    """Both lists become one, servers of one name are one entry, and the new form is a valid configuration."""
    with pytest.raises(ConfigError) as caught:
        configuration.read(yaml.safe_load(OLD))
    assert (
        str(caught.value)
        == "proxy, model_servers, collectors.model_servers.poll_interval: were replaced by the list servers"
    )
    new = yaml.safe_load(caught.value.hint)
    assert new == yaml.safe_load(NEW)
    assert "SECRET" not in caught.value.hint
    config = configuration.read(new)
    assert [server.name for server in config.proxied] == ["chat", "big"]
    assert [(server.name, server.interval) for server in config.polled] == [("chat", 30), ("alone", 30)]


@pytest.mark.parametrize(
    "old",
    [
        "proxy: 5",
        "proxy: {servers: {a: b}}",
        "proxy: {servers: [5, {}, 'a=b', {name: [1], models: 5, objectives: 5}]}",
        "model_servers: [{name: a, headers: 5}, {name: {}}]",
        "proxy: {servers: [{models: {m: 5}, objectives: {ttft: 5}}]}",
    ],
)
def test_old_keys_that_were_no_valid_configuration_are_the_same_error(old: str) -> None:
    """Any value of an old key results in the same error."""
    with pytest.raises(ConfigError, match="replaced by the list servers"):
        configuration.read(yaml.safe_load(old))


def test_the_program_prints_the_new_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The new form follows the error, ready to paste."""
    file = tmp_path / "config.yaml"
    file.write_text(OLD)
    assert cli.main([f"--config.file={file}", "--config.check"]) == cli.EXIT_CONFIG
    said = capsys.readouterr().err
    assert said.startswith("modelhost-exporter: proxy, model_servers, ")
    assert yaml.safe_load(said.partition("The new form:")[2]) == yaml.safe_load(NEW)


def flags(*, server: tuple[str, ...] = (), proxy: tuple[str, ...] = (), file: str = "") -> configuration.Config:
    """Return the configuration of a file and these flags."""
    return configuration.read(yaml.safe_load(file), server, proxy)


def test_a_server_of_a_flag_is_polled() -> None:
    """Its name is the given one, or host and port."""
    config = flags(server=("ollama=http://127.0.0.1:11434", "http://[::1]:8000/v1"))
    assert [(one.name, one.url.text) for one in config.polled] == [
        ("ollama", "http://127.0.0.1:11434"),
        ("[::1]:8000", "http://[::1]:8000/v1"),
    ]
    assert config.proxied == ()


def test_a_proxy_of_a_flag_is_polled_too() -> None:
    """A server from --proxy alone is polled as well: its kind, and with it how tokens are counted, is detected so."""
    config = flags(proxy=("127.0.0.1:0=http://h:1",))
    assert [(one.name, str(one.listen), one.upstreams[0].text) for one in config.proxied] == [
        ("h:1", "127.0.0.1:0", "http://h:1")
    ]
    assert [(one.name, one.url.text, one.kind) for one in config.polled] == [("h:1", "http://h:1", "auto")]


def test_both_flags_of_a_name_are_one_server() -> None:
    """A server with both flags is polled and proxied; servers of the file are kept."""
    file = "servers: [{name: other, url: 'http://h:2'}]"
    config = flags(server=("a=http://h:1",), proxy=("a=:0=http://h:1",), file=file)
    assert [server.name for server in config.servers] == ["other", "a"]
    assert [server.name for server in config.proxied] == ["a"]
    assert [server.name for server in config.polled] == ["other", "a"]


@pytest.mark.parametrize(
    ("server", "proxy", "message"),
    [
        (("a=http://h:1", "a=http://h:2"), (), "--server: two servers have the name a"),
        (("a=http://h:1",), ("a=:0=http://h:2",), "--proxy: another server has the name a"),
        ((), ("a=:0=http://h:1", "a=:0=http://h:1"), "--proxy: another server has the name a"),
        (("of_file=http://h:1",), (), "--server: two servers have the name of_file"),
        ((), ("of_file=:0=http://h:1",), "--proxy: two servers have the name of_file"),
        ((), ("a=:5=http://h:1", "b=:5=http://h:1"), "--proxy: two servers have the proxy.listen :5"),
        (("a=h:1",), (), "--server: 'h:1' is not a URL such as http://127.0.0.1:11434"),
        (("a",), (), "--server: 'a' is not a URL such as"),
        (("=http://h",), (), "--server: name must not be empty"),
    ],
)
def test_a_mistake_names_its_flag(server: tuple[str, ...], proxy: tuple[str, ...], message: str) -> None:
    """An error in a flag names that flag, also if the flag repeats an entry of the file."""
    with pytest.raises(ConfigError) as caught:
        flags(server=server, proxy=proxy, file="servers: [{name: of_file, url: 'http://h:9'}]")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "size"), [("1MiB", 1 << 20), ("512 KiB", 512 << 10), ("2GiB", 2 << 30), (7, 7), ("7", 7), (0, 0)]
)
def test_sizes(text: str | int, size: int) -> None:
    """Binary units and plain bytes."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1MB", "1.5MiB", "-1", "-1MiB", "٣KiB", "9" * 13, -1])
def test_what_is_no_size(text: str | int) -> None:
    """An invalid size raises ValueError."""
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(text)


def test_the_new_form_reads_well() -> None:
    """Keys stay in the order of the configuration, name first."""
    with pytest.raises(ConfigError) as caught:
        configuration.read({"proxy": {"servers": ["a=:1=http://h"]}})
    assert caught.value.hint == textwrap.dedent("""\
        servers:
        - name: a
          url: http://h
          proxy:
            listen: :1
          poll: false
        """)


def test_servers_that_are_in_the_new_list_stay() -> None:
    """If the list servers exists, the printed form contains all of it, so that pasting it loses no entry."""
    old = """
    servers: [{name: a, url: "http://h:1", headers: {X: SECRET}}, {name: b, url: "http://h:2", poll: false}]
    model_servers: [{name: c, url: "http://h:3"}]
    collectors: {model_servers: {poll_interval: 30s}}
    """
    with pytest.raises(ConfigError) as caught:
        configuration.read(yaml.safe_load(old))
    assert yaml.safe_load(caught.value.hint)["servers"] == [
        {"name": "a", "url": "http://h:1", "headers": {"X": "***"}, "poll": {"interval": "30s"}},
        {"name": "b", "url": "http://h:2", "poll": False},
        {"name": "c", "url": "http://h:3", "poll": {"interval": "30s"}},
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--proxy.server=a=:1=http://h", "--proxy=[NAME=]LISTEN=URL"),
        ("--collector.model_servers", "--collector.engines"),
        ("--no-collector.model_servers", "--no-collector.engines"),
    ],
)
def test_an_old_flag_names_the_new_one(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error is one line."""
    with pytest.raises(SystemExit) as caught:
        cli.main([old])
    assert caught.value.code == cli.EXIT_CONFIG
    assert f"{old.partition('=')[0]} was replaced by {new}; see --help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "urls: ['http://h:1'], poll: {metrics_url: 'http://h:2'}",
            "poll.metrics_url is one page, which would be read",
        ),
        ("url: 'http://h', poll: false, probe: {}", "probe never runs with poll: false, since only polls find"),
        ("url: 'http://h', kind: anthropic, probe: {}", "probe never runs for kind anthropic, which is not polled"),
    ],
)
def test_options_that_would_have_no_effect_or_a_wrong_one(entry: str, message: str) -> None:
    """Options without an effect, or with a wrong one, are errors with the reason."""
    with pytest.raises(ConfigError) as caught:
        flags(file=f"servers: [{{name: a, {entry}}}]")
    assert str(caught.value).startswith(f"servers[0]: {message}")


@pytest.mark.parametrize(
    ("length", "rest", "fits"),
    [
        (128, "url: 'http://h'", True),
        (129, "url: 'http://h'", False),
        (128, "urls: ['http://h:1', 'http://h:2']", True),
        (129, "urls: ['http://h:1', 'http://h:2']", False),
    ],
)
def test_a_name_is_bounded(length: int, rest: str, *, fits: bool) -> None:
    """The limit is the same with replicas."""
    text = f"servers: [{{name: {'a' * length}, {rest}}}]"
    if fits:
        assert len(flags(file=text).servers[0].name) == 128
        return
    with pytest.raises(ConfigError, match=r"servers\[0\]: name must not be longer than 128 characters"):
        flags(file=text)


@pytest.mark.parametrize(("server", "proxy"), [(("http://%s",), ()), ((), (":0=http://%s",))])
def test_a_derived_name_is_bounded(server: tuple[str, ...], proxy: tuple[str, ...]) -> None:
    """A long host needs a name of its own."""
    host = "h" * 200
    with pytest.raises(ConfigError, match="name must not be longer than 128 characters"):
        flags(server=tuple(text % host for text in server), proxy=tuple(text % host for text in proxy))


def test_the_place_of_an_error_is_an_entry_of_the_file() -> None:
    """The index in an error does not count replicas of earlier entries, whose names are those of their servers."""
    text = "servers: [{name: r, urls: ['http://h:1', 'http://h:2']}, {name: a, url: 'http://h'}, %s]"
    for name in ("a", "r"):
        with pytest.raises(ConfigError) as caught:
            flags(file=text % f"{{name: {name}, url: 'http://h'}}")
        assert caught.value.where == "servers[2]"
    assert len(flags(file=text % "{name: r-2, url: 'http://h'}").polled) == 4


@pytest.mark.parametrize(
    ("listen", "urls", "loop"),
    [
        (["127.0.0.1:1"], ["http://127.0.0.1:1"], "0 -> 0"),
        (["127.0.0.1:1"], ["http://localhost:1/v1"], "0 -> 0"),
        ([":1"], ["http://[::1]:1"], "0 -> 0"),
        (["10.0.0.1:1"], ["http://10.0.0.1:1"], "0 -> 0"),
        (["127.0.0.1:1"], ["http://0.0.0.0:1"], "0 -> 0"),
        (["[::1]:1"], ["http://[::]:1"], "0 -> 0"),
        (["127.0.0.1:1"], ["http://[::ffff:127.0.0.1]:1"], "0 -> 0"),
        (["127.0.0.1:1"], ["http://127.1:1"], "0 -> 0"),
        (["localhost:1"], ["http://LOCALHOST.:1"], "0 -> 0"),
        (["localhost:1"], ["https://[::1]:1"], "0 -> 0"),
        (["0:1"], ["http://127.0.0.9:1"], "0 -> 0"),
        (["no-such-host.invalid:1"], ["http://no-such-host.invalid:1"], "0 -> 0"),
        (["127.0.0.1:1", ":2"], ["http://127.0.0.1:2", "http://localhost:1"], "0 -> 1 -> 0"),
    ],
)
def test_a_proxy_that_forwards_to_itself_is_rejected(listen: list[str], urls: list[str], loop: str) -> None:
    """Directly or through others: one request would never end."""
    servers = [
        {"name": str(number), "url": url, "proxy": {"listen": address}}
        for number, (address, url) in enumerate(zip(listen, urls, strict=True))
    ]
    with pytest.raises(ConfigError, match=f"servers\\[0\\]: the proxy forwards to itself: {loop}$"):
        parse_servers(servers)


def _own_addresses() -> list[str]:
    """Return the addresses of this machine, besides those on loopback."""
    found = [address.address for each in psutil.net_if_addrs().values() for address in each if address.family in IP]
    return [f"[{host}]" if ":" in host else host for host in found if not host.startswith(("127.", "::1", "fe80:"))]


@pytest.mark.parametrize("host", [*_own_addresses(), socket.gethostname()])
def test_a_name_or_address_of_this_machine_leads_to_its_every_address(host: str) -> None:
    """And to a listener on the same address, but not to one on loopback."""
    if not addresses_of(host.strip("[]")):
        pytest.skip("the host's own name cannot be resolved")
    here = {"name": "a", "url": f"http://{host}:1"}
    for listen in (":1", f"{host}:1"):
        with pytest.raises(ConfigError, match=r"the proxy forwards to itself: a -> a$"):
            parse_servers([{**here, "proxy": {"listen": listen}}])
    if not any(address.is_loopback for address in addresses_of(host.strip("[]"))):
        assert parse_servers([{**here, "proxy": {"listen": "127.0.0.1:1"}}])


def test_a_chain_of_proxies_is_none() -> None:
    """One may forward to another, and a port of another machine is not this one's."""
    servers = [
        {"name": "a", "url": "http://127.0.0.1:2", "proxy": {"listen": ":1"}},
        {"name": "b", "url": "http://10.0.0.9:1", "proxy": {"listen": ":2"}},
    ]
    assert len(parse_servers(servers)) == 2


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.2:1", "http://127.0.0.1:1"),
        ("127.0.0.1:1", "http://[::1]:1"),
        ("0.0.0.0:1", "http://[::1]:1"),
        (":1", "http://192.0.2.1:1"),
        (":1", "http://[2001:db8::1]:1"),
        (":1", "http://no-such-host.invalid:1"),
        ("no-such-host.invalid:1", "http://127.0.0.1:1"),
    ],
)
def test_another_address_with_the_same_port_is_no_loop(listen: str, url: str) -> None:
    """An engine may listen on one address of this machine, and its proxy on another."""
    assert parse_servers([{"name": "a", "url": url, "proxy": {"listen": listen}}])


@pytest.mark.parametrize("proxy", [{}, {"proxy": {"listen": ":2"}}])
@pytest.mark.parametrize("url", ["http://localhost:8585", "http://127.0.0.1:8585/v1", "http://0.0.0.0:8585"])
def test_the_own_page_is_no_server(url: str, proxy: dict[str, object]) -> None:
    """Neither polled nor behind a proxy."""
    with pytest.raises(ConfigError, match=rf"servers\[0\]: {url} is this exporter's own page"):
        configuration.read({"servers": [{"name": "a", "url": url, **proxy}]})
    read = configuration.read({"servers": [{"name": "a", "url": url, **proxy}], "web": {"listen_addresses": [":1"]}})
    assert len(read.servers) == 1


def test_a_loop_through_any_url_is_rejected() -> None:
    """One of several urls is enough, at each of the proxies."""
    servers = [
        {"name": "a", "urls": ["http://10.0.0.9:1", "http://127.0.0.1:2"], "proxy": {"listen": ":1"}},
        {"name": "b", "urls": ["http://10.0.0.9:2", "http://localhost:1"], "proxy": {"listen": ":2"}},
    ]
    with pytest.raises(ConfigError, match=r"servers\[0\]: the proxy forwards to itself: a -> b -> a$"):
        parse_servers(servers)


def test_a_loop_that_a_server_only_leads_to_is_found_once() -> None:
    """The error names the servers of the loop."""
    servers = [
        {"name": "a", "url": "http://127.0.0.1:2", "proxy": {"listen": ":1"}},
        {"name": "b", "urls": ["http://127.0.0.1:3", "http://10.0.0.9:1"], "proxy": {"listen": ":2"}},
        {"name": "c", "url": "http://127.0.0.1:2", "proxy": {"listen": ":3"}},
    ]
    with pytest.raises(ConfigError, match=r"servers\[1\]: the proxy forwards to itself: b -> c -> b$"):
        parse_servers(servers)


REPLICAS = "servers: [{name: a, urls: ['http://h:1', 'http://h:2/v1'], proxy: {listen: ':0'%s}}]"


def test_several_urls_are_one_proxy() -> None:
    """Each is polled, and the proxy forwards to all."""
    config = flags(file=REPLICAS % "")
    (proxied,) = config.proxied
    assert (proxied.name, proxied.balance) == ("a", "least_requests")
    assert [url.text for url in proxied.upstreams] == ["http://h:1", "http://h:2/v1"]
    assert [(server.key, server.url.text) for server in config.polled] == [
        (("a", "h:1"), "http://h:1"),
        (("a", "h:2"), "http://h:2/v1"),
    ]


@pytest.mark.parametrize("balance", ["least_requests", "prefix_hash", "header:X-Session-Id"])
def test_balance(balance: str) -> None:
    """The policy is one of two names, or a header."""
    assert flags(file=REPLICAS % f", balance: '{balance}'").proxied[0].balance == balance


@pytest.mark.parametrize("balance", ["round_robin", "", "header:", "header:a b", "header:ä", "header", "prefix_hash:x"])
def test_what_is_no_balance(balance: str) -> None:
    """The error lists what is allowed."""
    with pytest.raises(ConfigError) as caught:
        flags(file=REPLICAS % f", balance: '{balance}'")
    assert str(caught.value) == (
        f"servers[0].proxy.balance: {balance!r} is not least_requests, prefix_hash or header:NAME,"
        " such as header:X-Session-Id"
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("url: 'http://h', proxy: {listen: ':0', balance: prefix_hash}", "proxy.balance has no effect with one url"),
        ("urls: ['http://h', 'http://h:80/'], proxy: {listen: ':0'}", "urls: http://h:80 is given twice"),
    ],
)
def test_what_cannot_be_balanced(entry: str, message: str) -> None:
    """One url alone, and the same one twice, are errors."""
    with pytest.raises(ConfigError) as caught:
        flags(file=f"servers: [{{name: a, {entry}}}]")
    assert str(caught.value).startswith(f"servers[0]: {message}")


def test_a_url_that_is_given_twice_is_rejected_without_a_proxy_too() -> None:
    """Its series would be the same."""
    with pytest.raises(ConfigError, match=r"servers\[0\]: urls: http://h:80 is given twice"):
        flags(file="servers: [{name: a, urls: ['http://h', 'http://h:80/']}]")


@pytest.mark.parametrize("length", [288, 289])
def test_the_label_of_a_replica_is_bounded(length: int) -> None:
    """The path is part of it where hosts and ports are alike."""
    path = "p" * length
    text = f"servers: [{{name: a, urls: ['http://127.0.0.1:1', 'http://127.0.0.1:1/{path}']}}]"
    if len(f"127.0.0.1:1/{path}") <= 300:
        assert flags(file=text).polled[1].upstream == f"127.0.0.1:1/{path}"
        return
    with pytest.raises(ConfigError, match=r"servers\[0\]: urls: 127\.0\.0\.1:1/p+\.\.\. has more than 300 characters"):
        flags(file=text)
