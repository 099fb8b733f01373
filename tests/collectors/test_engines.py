from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

import pytest
import yaml

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.engines import EnginesCollector, create
from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.config.model import ConfigError
from modelhost_exporter.engines.polling.settings import Probe
from tests.support.fakes import family, of_collector, samples
from tests.support.pages import pages
from tests.support.programs import fetch, wait_until
from tests.support.stand_in import standing_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter


def test_without_servers_there_is_nothing_to_measure() -> None:
    """No servers in the configuration is no failure."""
    with pytest.raises(Unavailable, match="no servers"):
        create(CollectorOptions(), CollectorContext()).collect()


def test_what_was_heard_is_shown() -> None:
    """The collector exports the families unchanged."""
    heard = [family("modelhost_engine_up")]
    assert list(EnginesCollector(lambda: heard).collect()) == heard


def test_the_real_exporter_polls_and_shows(start_exporter: StartExporter, tmp_path: Path) -> None:
    """From the configuration to the page: a server of unknown kind is polled, and shown beside one that is dead."""
    with standing_in(pages("vllm")) as server:
        file = tmp_path / "config.yaml"
        file.write_text(
            f"servers: [{{name: v, url: '{server.url}', poll: {{interval: 1h}}}}, {{name: dead, url: 'http://127.0.0.1:1'}}]\n"
        )
        exporter = start_exporter(f"--config.file={file}")
        up = ("modelhost_engine_up", (("server", "v"),))
        wait_until(lambda: samples(exporter.page()).get(up) == 1, "the server is up")
        down = ("modelhost_engine_up", (("server", "dead"),))
        wait_until(lambda: samples(exporter.page()).get(down) == 0, "the dead is down")
        page = exporter.page()
        assert of_collector(page, "success", "engines") == 1
        assert samples(page)["modelhost_engine_requests_running", (("server", "v"),)] == 1
        asked = len(server.asked)
        exporter.page()
        assert len(server.asked) == asked
        assert exporter.stop() < 1.0


def test_a_reload_watches_other_servers(start_exporter: StartExporter, tmp_path: Path) -> None:
    """SIGHUP takes new servers in and leaves old ones out, and switching the collector off ends all polls."""
    with standing_in(pages("vllm")) as one, standing_in(pages("ollama")) as two:
        file = tmp_path / "config.yaml"
        file.write_text(f"servers: [{{name: one, url: '{one.url}'}}]")
        exporter = start_exporter(f"--config.file={file}", "--web.enable-lifecycle")
        wait_until(lambda: b'engine_info{kind="vllm"' in exporter.page(), "the first is up")
        file.write_text(f"servers: [{{name: two, url: '{two.url}'}}]")
        exporter.process.send_signal(1)
        exporter.wait_for_message("configuration reloaded")
        wait_until(lambda: b'engine_info{kind="ollama"' in exporter.page(), "the second is up")
        assert b'server="one"' not in exporter.page()


def read(text: str) -> configuration.Config:
    """Return a configuration."""
    return configuration.read(yaml.safe_load(text))


def test_every_key_is_read() -> None:
    """Every setting of a server is parsed; on and off, which YAML parses as booleans, are accepted as words."""
    (server,) = read(
        """
        servers:
          - name: a
            url: http://127.0.0.1:8000/
            kind: vllm
            headers: {Authorization: Bearer x}
            poll: {interval: 3s, timeout: 2s, metrics: off, metrics_url: http://127.0.0.1:8002/metrics}
            max_models: 3
            probe: {interval: 1m, timeout: 5s, operation: embeddings, models: [m]}
        """
    ).polled
    assert server.url.text == "http://127.0.0.1:8000"
    assert server.kind == "vllm"
    assert server.metrics == "off"
    assert (server.interval, server.timeout) == (Seconds(3), Seconds(2))
    assert server.headers == {"Authorization": "Bearer x"}
    assert server.metrics_url == ServerUrl("http://127.0.0.1:8002/metrics")
    assert server.max_models == 3
    assert server.probe == Probe(Seconds(60), Seconds(5), "embeddings", ("m",))


def test_a_server_may_not_be_polled() -> None:
    """Poll: false switches polls off, and what is only proxied has nothing to poll."""
    text = "servers: [{name: a, url: 'http://h:1', poll: false}, {name: b, url: 'http://h:2', kind: anthropic}]"
    assert read(text).polled == ()


def test_each_replica_is_polled() -> None:
    """Each of several urls is polled under the name of its server and a label of its own; a single one has none."""
    servers = read("servers: [{name: a, urls: ['http://h:1', 'http://h:2'], max_models: 3}]").polled
    assert [(one.name, one.upstream, one.url.text, one.max_models) for one in servers] == [
        ("a", "h:1", "http://h:1", 3),
        ("a", "h:2", "http://h:2", 3),
    ]
    for text in ("url: 'http://h:1'", "urls: ['http://h:1']"):
        assert [one.key for one in read(f"servers: [{{name: a, {text}}}]").polled] == [("a", "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{name: a}]", "servers[0]: url is missing"),
        ("[{url: 'http://h:1'}]", "servers[0]: name is missing"),
        ("[{name: '', url: 'http://h:1'}]", "servers[0]: name must not be empty"),
        ("[{name: a, url: 'h:1'}]", "servers[0].url: 'h:1' is not a URL such as http://127.0.0.1:11434"),
        (
            "[{name: a, url: 'http://u:p@h:1'}]",
            "servers[0].url: 'http://***@h:1' must have no query, fragment, user or password",
        ),
        ("[{name: a, url: 'http://h:99999'}]", "servers[0].url: 'http://h:99999' is not a URL"),
        (
            "[{name: a, url: 'http://h:1'}, {name: a, url: 'http://h:2'}]",
            "servers[1]: two servers have the name a",
        ),
        ("[{name: a, url: 'http://h:1', kind: vlm}]", "servers[0]: kind must be one of auto, "),
        (
            "[{name: a, url: 'http://h:1', poll: {metrics: maybe}}]",
            "servers[0].poll.metrics: must be one of auto, on, off, not 'maybe'",
        ),
        (
            '[{name: a, url: "http://h:1", headers: {X: "a\\r\\nY: b"}}]',
            "servers[0]: headers: 'X' is not a header field of plain text",
        ),
        ("[{name: a, url: 'http://h:1', max_models: 0}]", "servers[0]: max_models must be at least 1"),
        ("[{name: a, url: 'http://h:1', urls: ['http://h:2']}]", "servers[0]: give url or urls, not both"),
        (
            "[{name: a, url: 'http://h:2', proxy: {listen: ':1', balance: prefix_hash}}]",
            "servers[0]: proxy.balance has no effect with one url: give several urls, or remove it",
        ),
        ("{a: b}", "servers: must be a list, not a mapping"),
    ],
)
def test_a_mistake_is_one_clear_line(text: str, message: str) -> None:
    """The error names the path of the mistake."""
    with pytest.raises(ConfigError) as caught:
        read(f"servers: {text}")
    assert str(caught.value).startswith(message)


def test_a_cold_start_through_the_real_proxy_is_marked(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Proxy and polls are joined by name: a request for a model that is not loaded is counted, the next one is not."""
    done = {"model": "llama3.2", "done": True, "eval_count": 2, "prompt_eval_count": 3, "load_duration": 2_500_000_000}
    with standing_in(
        {**pages("ollama"), "/api/ps": b'{"models":[]}', "/api/chat": json.dumps(done).encode()}
    ) as server:
        file = tmp_path / "config.yaml"
        file.write_text(
            f"servers: [{{name: o, url: '{server.url}', kind: ollama, proxy: {{listen: '127.0.0.1:0'}},"
            " poll: {interval: 1h}}]\n"
        )
        exporter = start_exporter(f"--config.file={file}")
        (line,) = [line for line in exporter.lines if '"proxying"' in line]
        wait_until(lambda: b'modelhost_engine_up{server="o",upstream=""} 1.0' in exporter.page(), "it is up")
        body = b'{"model":"llama3.2","stream":false,"messages":[]}'
        for _ in range(2):
            fetch(urllib.request.Request(f"{json.loads(line)['url']}/api/chat", body))  # noqa: S310 - our own server
        cold = (
            "modelhost_request_cold_starts_total",
            (("model", "llama3.2:latest"), ("operation", "chat"), ("server", "o")),
        )
        wait_until(lambda: cold in samples(exporter.page()), "the first one is counted")
        requests = [
            value for (name, _), value in samples(exporter.page()).items() if name == "modelhost_requests_total"
        ]
        assert requests == [2]
        assert samples(exporter.page())[cold] == 1


def test_replicas_of_the_real_exporter(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Polls, probes and the proxy give the same label to a replica, and requests have none."""
    done = json.dumps({"model": "llama3.2", "done": True, "eval_count": 2, "prompt_eval_count": 3}).encode()
    with standing_in({**pages("ollama"), "/api/chat": done}) as one, standing_in(pages("ollama")) as two:
        two.pages["/api/chat"] = done
        file = tmp_path / "config.yaml"
        file.write_text(
            f"servers: [{{name: r, urls: ['{one.url}', '{two.url}'], proxy: {{listen: '127.0.0.1:0'}},"
            " poll: {interval: 1h}}, {name: s, url: '%s'}]\n" % one.url
        )
        exporter = start_exporter(f"--config.file={file}")
        (line,) = [line for line in exporter.lines if '"proxying"' in line]

        def labels(name: str) -> list[dict[str, str]]:
            return [dict(key) for (sample, key) in samples(exporter.page()) if sample == f"modelhost_{name}"]

        upstreams = [f"127.0.0.1:{server.port}" for server in (one, two)]
        wait_until(lambda: len(labels("engine_up")) == 3, "all are polled")
        assert sorted(labels("engine_up"), key=str) == sorted(
            [*({"server": "r", "upstream": upstream} for upstream in upstreams), {"server": "s"}], key=str
        )
        body = b'{"model":"llama3.2","stream":false,"messages":[]}'
        for _ in range(2):
            fetch(urllib.request.Request(f"{json.loads(line)['url']}/api/chat", body))  # noqa: S310 - our own server
        wait_until(lambda: len(labels("proxy_upstream_requests_total")) == 2, "both had a request")
        assert sorted(labels["upstream"] for labels in labels("proxy_upstream_up")) == sorted(upstreams)
        assert [(of["server"], of["model"]) for of in labels("requests_total")] == [("r", "llama3.2:latest")]
        assert all("upstream" not in of for of in labels("requests_total"))
        assert {of["server"] for of in labels("model_loaded")} == {"r", "s"}
