"""The configuration file, and flags that override it."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from modelhost_exporter import collectors
from modelhost_exporter.collector import Paths
from modelhost_exporter.config import flags
from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.cost import Cost
from modelhost_exporter.config.model import Address, ConfigError
from modelhost_exporter.config.name_filter import NameFilter
from modelhost_exporter.config.servers import PollOptions, ProxyOptions, Server
from modelhost_exporter.engines.polling.settings import Probe
from modelhost_exporter.proxy.settings import ProxySettings
from modelhost_exporter.requests.settings import RequestOptions
from modelhost_exporter.requests.slo import Objectives
from modelhost_exporter.security.auth_settings import TokenOptions

EXAMPLE = Path(__file__).parent.parent.parent / "config.example.yaml"


def _written(folder: Path, text: str) -> Path:
    file = folder / "config.yaml"
    file.write_text(text)
    return file


def _keys(kind: object, prefix: str = "") -> set[str]:
    """Return the dotted keys of parsed YAML."""
    if not isinstance(kind, dict):
        return {prefix}
    return {key for name, value in kind.items() for key in _keys(value, f"{prefix}.{name}".lstrip("."))}


def test_the_example_holds_every_default() -> None:
    """Loading config.example.yaml gives the defaults, so that its comments and values are true."""
    example, default = configuration.load(EXAMPLE, {}), configuration.load(None, {})
    assert {name: replace(o, enabled=None) for name, o in example.collectors.items()} == default.collectors
    assert replace(example, collectors={}) == replace(default, collectors={})


def test_the_example_names_every_key() -> None:
    """Every key is in config.example.yaml, and every collector with its key enabled."""
    keys = _keys(yaml.safe_load(EXAMPLE.read_text()))
    expected = {
        f"{section}.{field}"
        for section, kind in (
            ("web", configuration.Web),
            ("live", configuration.LiveOptions),
            ("scrape", configuration.Scraping),
            ("log", configuration.Log),
            ("path", Paths),
            ("proxy", ProxySettings),
            ("requests", RequestOptions),
            ("discovery", configuration.Discovery),
            ("cost", Cost),
        )
        for field in vars(kind())
    } | {"collectors.disable_defaults", "servers"}
    expected = expected - {"web.auth"} | {f"web.auth.{field.name}" for field in fields(TokenOptions)}
    for name in collectors.names():
        for field, value in vars(collectors.options_of(name)()).items():
            expected.add(f"collectors.{name}.{field}" + (".exclude" if isinstance(value, NameFilter) else ""))
    assert keys == expected


def test_the_commented_example_of_a_server_is_valid(tmp_path: Path) -> None:
    """Without its comment marks the example server has every key, with the defaults of options."""
    lines = EXAMPLE.read_text().splitlines()
    start = lines.index("servers: []")
    end = lines.index("", start)
    shown = "\n".join(line.replace("  # ", "  ", 1) for line in lines[start + 1 : end])
    (server,) = configuration.load(_written(tmp_path, f"servers:\n{shown}\n"), {}).servers
    (raw,) = yaml.safe_load(f"servers:\n{shown}\n")["servers"]
    assert set(raw) == {field.name for field in fields(Server)} - {"urls"}
    for key, kind in (("proxy", ProxyOptions), ("poll", PollOptions), ("probe", Probe), ("slo", Objectives)):
        assert set(raw[key]) == {field.name for field in fields(kind)}, key
    assert server.probe == Probe()
    assert server.proxy is not None
    assert server.proxy == ProxyOptions(server.proxy.listen)
    bare = Server(server.name, server.url)
    assert replace(server, proxy=None, probe=None, headers={}, slo=bare.slo, models={}) == bare


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    """An empty file, or one with only comments, results in the defaults."""
    assert configuration.load(_written(tmp_path, "# nothing\n"), {}) == configuration.load(None, {})


def test_a_file_needs_only_what_it_changes(tmp_path: Path) -> None:
    """Keys of the file are used; others keep their defaults; include replaces the default exclude."""
    loaded = configuration.load(
        _written(tmp_path, "web: {max_requests: 3}\ncollectors: {network: {devices: {include: lo}}}"), {}
    )
    assert loaded.web == configuration.Web(max_requests=3)
    devices: NameFilter = vars(loaded.collectors["network"])["devices"]
    assert devices.keeps("lo")
    assert not devices.keeps("eth0")


def test_an_override_wins_over_the_file(tmp_path: Path) -> None:
    """A flag replaces the file's value, and no other key."""
    file = _written(tmp_path, "web: {max_requests: 3, telemetry_path: /m}")
    loaded = configuration.load(file, {"web.max_requests": 7, "web.listen_addresses": [":1"]})
    assert loaded.web == configuration.Web((Address("", 1),), "/m", 7)


OFF = {"systemd"}
"""Collectors that start a program."""


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, None),
        ({"collectors.cpu.enabled": False}, {*collectors.names()} - {"cpu", *OFF}),
        ({"collectors.systemd.enabled": True}, {*collectors.names()}),
        ({"collectors.disable_defaults": True, "collectors.cpu.enabled": True}, {"cpu"}),
        ({"collectors.disable_defaults": True}, set()),
    ],
)
def test_collectors_are_chosen_by_name(overrides: dict[str, object], expected: set[str] | None) -> None:
    """All but a few run by default; each can be switched; disable_defaults leaves only those enabled by name."""
    assert set(configuration.load(None, overrides).collectors) == (
        {*collectors.names()} - OFF if expected is None else expected
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "wbe: {}",
            "unknown key 'wbe'; known: web, live, scrape, log, path, proxy, requests, discovery, cost, servers, co",
        ),
        ("- a", "must be a mapping, not a list"),
        ("web: 5", "web: must be a mapping, not 5"),
        ("web: {listen_addresses: []}", "web: listen_addresses must not be empty"),
        (
            "web: {listen_addresses: [localhost]}",
            "web.listen_addresses[0]: 'localhost' is not an address such as 127.0.0.1:8585, :8585 or [::1]:8585",
        ),
        ("web: {listen_addresses: ['a:99999']}", "web.listen_addresses[0]: 'a:99999': the port must be at most 65535"),
        ("web: {max_requests: 0}", "web: max_requests must be at least 1"),
        ("proxy: {max_headers: 0}", "proxy: max_headers must be at least 1"),
        ("proxy: {max_connections_per_address: 0}", "proxy: max_connections_per_address must be at least 1"),
        ("proxy: {max_header_bytes: 1000}", "proxy: max_header_bytes must be between 1024 and 1048576"),
        ("proxy: {send_timeout: 0s}", "proxy.send_timeout: '0s' is not a duration greater than zero"),
        (
            "web: {telemetry_path: metrics}",
            "web: telemetry_path 'metrics' must be a path such as /metrics, not / and not below /-/, /api/, /static/",
        ),
        (
            "requests: {client: 'X Real IP'}",
            "requests: client: 'X Real IP' is not the name of a header, such as X-Forwarded-For",
        ),
        ("requests: {client: authorization}", "requests: client: authorization may carry a secret; use a header"),
        ("requests: {client: X-Api-Key}", "requests: client: X-Api-Key may carry a secret; use a header"),
        ("log: {level: loud}", "log.level: must be one of debug, info, warning, error, not 'loud'"),
        ("collectors: {gpus: {}}", "collectors: unknown key 'gpus'; known: bonding, cgroup"),
        ("collectors: {cpu: {enabeld: true}}", "collectors.cpu: unknown key 'enabeld'; known: enabled"),
        (
            "collectors: {disk: {devices: {include: a, exclude: b}}}",
            "collectors.disk.devices: set include or exclude, not both",
        ),
        ("web: {a: 1, a: 2}", ":1:13: duplicate key 'a'"),
        ("web: {", ":1:7: "),
        ("? [a]\n: b", ":1:3: a key must be text"),
        ("a: \x01", "config.yaml: "),
        ("path: {procfs: ''}", "path.procfs: '' is not a path"),
        ("a: !!python/object:os.system {}", ":1:4: could not determine a constructor"),
        ("[" * 3000, "config.yaml:1:33: nested more than 32 levels deep"),
        ("log: 2001-99-99", ":1:6: not a YAML timestamp"),
        ("web: {max_requests: 0x_}", ":1:21: not a YAML int"),
        ("web: {max_requests: !!bool maybe}", ":1:21: not a YAML bool"),
        ("web: {max_requests: !!timestamp x}", ":1:21: not a YAML timestamp"),
        ("? !!set {a}\n: 1", ":1:3: a key must be text"),
    ],
)
def test_a_mistake_in_the_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    """The error contains the path of the key, or the line and column of invalid YAML."""
    with pytest.raises(ConfigError) as caught:
        configuration.load(_written(tmp_path, text), {})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, a folder and a file that is not UTF-8 are errors with the file's name."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file or directory"):
        configuration.load(tmp_path / "nowhere.yaml", {})
    with pytest.raises(ConfigError, match="Is a directory"):
        configuration.load(tmp_path, {})
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 at byte 3"):
        configuration.load(tmp_path / "latin.yaml", {})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8585", Address("127.0.0.1", 8585)),
        (":0", Address("", 0)),
        ("[::1]:80", Address("::1", 80)),
        ("host.example:1", Address("host.example", 1)),
    ],
)
def test_an_address_is_parsed_and_written_back(text: str, address: Address) -> None:
    """HOST:PORT, :PORT and [IPV6]:PORT are parsed, and formatted the same way."""
    assert Address.from_text(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "host", "8585", "::1:80", "a:b", "a:-1", "a: 80", "a:٣", "http://a:80", "a:"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Anything else is a ValueError that shows the text."""
    with pytest.raises(ValueError, match="is not an address"):
        Address.from_text(text)


def test_yaml_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    """Keys merged by << are used; explicit keys take precedence."""
    text = "collectors:\n  disk: {devices: &lo {include: lo}}\n  network: {devices: {<<: *lo, include: eth0}}"
    devices: NameFilter = vars(configuration.load(_written(tmp_path, text), {}).collectors["network"])["devices"]
    assert devices.keeps("eth0")
    assert not devices.keeps("lo")


@pytest.mark.parametrize("path", ["/%41", "/a\\b", '/a"<b>', "/a b", "", "/", "/-/x", "/api/live"])
def test_a_telemetry_path_that_nobody_can_reach_is_refused(path: str) -> None:
    """Only paths that need no URL encoding are accepted."""
    with pytest.raises(ConfigError, match="telemetry_path"):
        configuration.load(None, {"web.telemetry_path": path})


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("", {}, [":8585", ":9595"]),
        ("web: {max_requests: 3}", {}, [":8585", ":9595"]),
        ("web: {listen_addresses: ['127.0.0.1:1']}", {}, ["127.0.0.1:1"]),
        ("", {"web.listen_addresses": ["127.0.0.1:2"]}, ["127.0.0.1:2"]),
    ],
)
def test_the_environment_yields_to_file_and_flags(
    tmp_path: Path, text: str, overrides: dict[str, object], expected: list[str]
) -> None:
    """A container's image can name the address to listen on, and whatever else is given leaves it."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    defaults = flags.defaults({"MODELHOST_LISTEN_ADDRESS": ":8585,:9595"})
    web = configuration.load(file, overrides, defaults).web
    assert web.listen_addresses == tuple(Address.from_text(address) for address in expected)
    assert flags.defaults({"MODELHOST_LISTEN_ADDRESS": ""}) == flags.defaults({}) == {}


def test_the_header_of_clients_is_a_setting_of_each_proxy() -> None:
    """In lower case, as headers are looked up; none is read where no requests are kept."""
    servers = [{"name": "a", "url": "http://127.0.0.1:1", "proxy": {"listen": "127.0.0.1:2"}}]
    for requests, expected in (
        ({}, None),
        ({"client": "X-Real-IP"}, "x-real-ip"),
        ({"client": "X-Real-IP", "recent": False}, None),
    ):
        loaded = configuration.read({"requests": requests, "servers": servers})
        assert [server.client_header for server in loaded.proxied] == [expected]


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        ({"currency": "EUR"}, "cost: per_kwh is missing"),
        ({"per_kwh": 0.3}, "cost: currency is missing"),
        ({"currency": "EUR", "per_kwh": -1}, "cost: per_kwh must be 0 or more, not -1"),
        ({"currency": "EUR", "per_kwh": float("nan")}, "cost: per_kwh must be 0 or more, not nan"),
        ({"currency": "E\nR", "per_kwh": 1}, "cost: currency must be a code or sign"),
        ({"currency": "a long name", "per_kwh": 1}, "cost: currency must be a code or sign"),
        ({"currency": "EUR", "per_kwh": "0.3"}, "cost.per_kwh: must be a number"),
    ],
)
def test_a_price_is_a_number_in_a_currency(cost: dict[str, object], message: str) -> None:
    """A price without a currency, or no number, is a clear error."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        configuration.read({"cost": cost})
    assert configuration.read({"cost": {"currency": "EUR", "per_kwh": 0}}).cost.per_kwh == 0
