"""Renamed keys, and old lists that cannot be joined."""

from __future__ import annotations

import pytest
import yaml

from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.parsing import ConfigError

_SERVER = "servers: [{name: a, url: 'http://h:1'}, {name: b, url: 'http://h:2', %s}]"


def _error(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        configuration.read(yaml.safe_load(text))
    return caught.value


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("upstream: 'http://h'", "servers[1]: unknown key 'upstream': it is url now"),
        ("objectives: {}", "servers[1]: unknown key 'objectives': it is slo now"),
        ("listen: ':1'", "servers[1]: unknown key 'listen': it is proxy.listen now"),
        ("usage: off", "servers[1]: unknown key 'usage': it is proxy.include_usage now"),
        ("inspect_bytes: 1", "servers[1]: unknown key 'inspect_bytes': it is proxy.max_inspected_body_bytes now"),
        ("idle_timeout: 5s", "servers[1]: unknown key 'idle_timeout': it is proxy.idle_timeout now"),
        ("timeout: 5s", "servers[1]: unknown key 'timeout': it is poll.timeout now"),
        ("metrics: on", "servers[1]: unknown key 'metrics': it is poll.metrics now"),
        ("interval: 5s", "servers[1]: unknown key 'interval': it is poll.interval now"),
        ("proxy: {usage: off}", "servers[1].proxy: unknown key 'usage': it is include_usage now"),
        (
            "proxy: {inspect_bytes: 1}",
            "servers[1].proxy: unknown key 'inspect_bytes': it is max_inspected_body_bytes now",
        ),
        ("poll: {poll_interval: 5s}", "servers[1].poll: unknown key 'poll_interval': it is interval now"),
        ("slo: {ttft: {ratio: 0.9}}", "servers[1].slo.ttft: unknown key 'ratio': it is target now"),
        ("models: {m: {ttft: {}}}", "servers[1].models.m: unknown key 'ttft': it is slo.ttft now"),
        (
            "models: {m: {slo: {ttft: {ratio: 0.9}}}}",
            "servers[1].models.m.slo.ttft: unknown key 'ratio': it is target now",
        ),
    ],
)
def test_a_renamed_key_of_a_server_names_the_new_key(written: str, message: str) -> None:
    """The error has the key's place in the file."""
    assert str(_error(_SERVER % written)) == message


@pytest.mark.parametrize("collector", ["filesystem", "gpu"])
def test_a_renamed_key_of_a_collector_names_the_new_key(collector: str) -> None:
    """The error has the key's path."""
    error = _error(f"collectors: {{{collector}: {{stuck_after: 5s}}}}")
    assert str(error) == f"collectors.{collector}: unknown key 'stuck_after': it is timeout now"


def test_the_renamed_collector_names_the_new_key() -> None:
    """It is named after what it measures."""
    error = _error("collectors: {model_servers: {enabled: true}}")
    assert str(error) == "collectors: unknown key 'model_servers': it is engines now"


@pytest.mark.parametrize(
    "written", ["servers: 5", "servers: [5]", "servers: {a: 5}", "servers: [{slo: 5}]", "collectors: {gpu: 5}"]
)
def test_malformed_values_are_left_for_the_parser(written: str) -> None:
    """The search for renamed keys ignores malformed values."""
    assert "unknown key" not in str(_error(written))


def test_one_name_with_two_urls_becomes_two_servers() -> None:
    """The printed form polls the same URLs and proxies to the same ones."""
    error = _error("""
    proxy: {servers: ["a=:1=http://gateway:1"]}
    model_servers: [{name: a, url: "http://engine:2"}]
    """)
    config = configuration.read(yaml.safe_load(error.hint))
    assert [(server.name, server.upstreams[0].text) for server in config.proxied] == [("a", "http://gateway:1")]
    assert [(server.name, server.url.text) for server in config.polled] == [("a-polled", "http://engine:2")]


def test_a_slash_makes_no_other_url() -> None:
    """A trailing slash is removed from URLs before they are compared."""
    error = _error("""
    proxy: {servers: ["a=:1=http://h:1/"]}
    model_servers: [{name: a, url: "http://h:1"}]
    """)
    assert [server["name"] for server in yaml.safe_load(error.hint)["servers"]] == ["a"]


def test_an_old_proxy_of_a_server_in_the_new_list_leaves_its_polls() -> None:
    """The printed form has one server, polled as before."""
    error = _error("""
    servers: [{name: a, url: "http://h:1"}]
    proxy: {servers: ["a=:1=http://h:1"]}
    """)
    assert yaml.safe_load(error.hint)["servers"] == [{"name": "a", "url": "http://h:1", "proxy": {"listen": ":1"}}]
