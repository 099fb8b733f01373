from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.engines.local_processes import ServerProcesses
from modelhost_exporter.engines.metrics import FAMILIES
from modelhost_exporter.engines.polling.proxy_totals import (
    Passed,
    RepeatedPrompts,
    SentToReplica,
    TokenTotals,
    unproxied_ratio,
)
from modelhost_exporter.engines.polling.server_poller import PollDependencies, ServerPoller
from modelhost_exporter.engines.polling.settings import PolledServer
from modelhost_exporter.gpu.usage_cache import GpuUse
from modelhost_exporter.metrics.exposition import OPENMETRICS, TEXT
from modelhost_exporter.metrics.prerendered import joined
from tests.support.fakes import Fixed
from tests.support.pages import pages
from tests.support.programs import free_port
from tests.support.readings import readings
from tests.support.stand_in import StandIn, huge, not_http, standing_in, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.readings import Readings


class Processes:
    """A stand-in for LocalProcesses."""

    def __init__(self, found: ServerProcesses | None) -> None:
        self.found = found
        self.forgotten = 0

    def find(self, _programs: object) -> ServerProcesses | None:
        """Return what was given."""
        return self.found

    def forget(self) -> None:
        """Do nothing."""
        self.forgotten += 1


def dependencies(found: ServerProcesses | None = None, **changes: Any) -> PollDependencies:
    """Return surroundings with these processes."""
    plain = PollDependencies(find_processes=lambda _host, _port: Processes(found), wall_clock=lambda: 1.8e9)  # type: ignore[arg-type, return-value]
    return replace(plain, **changes)


def watch(server: StandIn, surroundings: PollDependencies | None = None, **settings: Any) -> ServerPoller:
    """Return a watch over a stand-in."""
    configured = PolledServer("s", ServerUrl(server.url), timeout=Seconds(0.3), **settings)
    watched = ServerPoller(configured, surroundings or dependencies())
    server.clients.append(watched.close)
    return watched


def shown(watched: ServerPoller) -> Readings:
    """Return what a scrape shows."""
    return readings(joined(FAMILIES, [watched.parts]))


def _failures(read: Readings) -> dict[str, float]:
    """Return the failures by reason; every reason has a series from the first poll."""
    counted = {reason: count for (_, reason), count in read["engine_poll_failures_total"].items()}
    reasons = {"unreachable", "timeout", "too_large", "redirect", "not_http", "refused", "not_understood"}
    assert counted.keys() == reasons
    return {reason: count for reason, count in counted.items() if count}


@pytest.fixture
def vllm() -> Iterator[StandIn]:
    """Serve vLLM's pages."""
    with standing_in(pages("vllm")) as server:
        yield server


@pytest.fixture
def ollama() -> Iterator[StandIn]:
    """Serve Ollama's pages."""
    with standing_in(pages("ollama")) as server:
        yield server


def test_a_server_is_found_out_and_shown(vllm: StandIn) -> None:
    """Kind, version, gauges, counters, histograms and models of a server without a configured kind."""
    watched = watch(vllm)
    assert watched.poll()
    read = shown(watched)
    assert read["engine_up"] == {("s",): 1}
    assert read["engine_info"] == {("s", "vllm", "0.32.0"): 1}
    assert read["engine_requests_running"] == {("s",): 1}
    assert read["engine_input_tokens_total"] == {("s", "miss"): 1797, ("s", "hit"): 768}
    assert read["engine_time_to_first_token_seconds_count"] == {("s",): 25}
    assert read["engine_time_to_first_token_seconds_bucket"]["s", "+Inf"] == 25
    assert read["model_loaded"] == {("s", "tiny"): 1}
    assert read["engine_last_success_timestamp_seconds"] == {("s",): 1.8e9}
    assert 0 < read["engine_poll_duration_seconds"]["s",] < 10
    assert "engine_request_capacity" not in read
    assert "model_memory_bytes" not in read


def test_both_formats_are_the_library_s(vllm: StandIn) -> None:
    """Lines rendered at a poll are those that prometheus_client renders at a scrape, in text and OpenMetrics."""
    watched = watch(vllm)
    watched.poll()
    for format_ in (TEXT, OPENMETRICS):
        families = list(joined(FAMILIES, [watched.parts]))
        registry = CollectorRegistry()
        registry.register(Fixed(*families))
        assert format_.render(families) == format_.generate(registry).removesuffix(format_.end)  # type: ignore[arg-type] # anything that collects


def test_the_page_can_be_read_back(ollama: StandIn) -> None:
    """Prometheus's parser accepts the page, and label values are those of the server."""
    ollama.pages["/api/ps"] = json.dumps({"models": [{"name": 'we"ird\\\n\ud800 é', "size": 1}]}).encode()
    watched = watch(ollama)
    watched.poll()
    page = TEXT.render(list(joined(FAMILIES, [watched.parts]))).decode()
    names = {s.labels["model"] for f in text_string_to_metric_families(page) for s in f.samples if "model" in s.labels}
    assert names == {'we"ird\\\n? é'}


def test_a_server_that_goes_away_is_down_and_says_nothing(vllm: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    """A dead server has engine_up 0 and none of its last values; counters of the exporter itself stay."""
    caplog.set_level(logging.INFO)
    watched = watch(vllm)
    watched.poll()
    vllm.close()
    assert not watched.poll()
    assert not watched.poll()
    read = shown(watched)
    assert read["engine_up"] == {("s",): 0}
    assert read["engine_last_success_timestamp_seconds"] == {("s",): 1.8e9}
    assert _failures(read) == {"unreachable": 2}
    assert set(read) == {
        "engine_up",
        "engine_last_success_timestamp_seconds",
        "engine_poll_duration_seconds",
        "engine_poll_failures_total",
        "model_loads_total",
        "model_unloads_total",
    }
    assert [record.message for record in caplog.records] == ["model server is up", "model server does not answer"]
    fields = caplog.records[-1].fields  # type: ignore[attr-defined] # set by the logger
    assert (fields["url"], fields["detail"]) == (vllm.url, "nothing listens there: start it, or correct the URL")


@pytest.mark.parametrize(
    ("page", "reason"), [("hang", "timeout"), (huge, "too_large"), (not_http, "not_http"), (status(401), "refused")]
)
def test_a_broken_server_is_down_for_a_reason(vllm: StandIn, page: Any, reason: str) -> None:
    """A timeout, 100 MB, another protocol and a missing key are different reasons."""
    vllm.pages["/v1/models"] = vllm.hang if page == "hang" else page
    watched = watch(vllm, kind="vllm")
    assert not watched.poll()
    assert _failures(shown(watched)) == {reason: 1}


def test_json_that_is_none_is_not_understood(vllm: StandIn) -> None:
    """A server with an unexpected response is down, and no label contains its text."""
    vllm.pages["/v1/models"] = b"<html>It works!</html>"
    watched = watch(vllm, kind="vllm")
    assert not watched.poll()
    assert _failures(shown(watched)) == {"not_understood": 1}


def test_a_server_with_a_broken_page_of_metrics_is_up(vllm: StandIn) -> None:
    """If only /metrics hangs, models are exported, engine metrics are absent, and the failure is counted."""
    vllm.pages["/metrics"] = vllm.hang
    watched = watch(vllm)
    assert watched.poll()
    read = shown(watched)
    assert read["engine_up"] == {("s",): 1}
    assert read["model_loaded"] == {("s", "tiny"): 1}
    assert _failures(read) == {"timeout": 1}
    assert "engine_requests_running" not in read


def test_an_unknown_kind_is_not_understood() -> None:
    """A web server of another type is down, whatever it responds."""
    with standing_in({"/": b"hello"}) as server:
        watched = watch(server)
        assert not watched.poll()
        assert _failures(shown(watched)) == {"not_understood": 1}


def test_a_restart_of_the_server_is_passed_on(vllm: StandIn) -> None:
    """Counters that restart are exported as they are: Prometheus detects the reset."""
    watched = watch(vllm)
    watched.poll()
    vllm.pages["/metrics"] = pages("vllm-0.8")["/metrics"]
    watched.poll()
    assert shown(watched)["engine_output_tokens_total"] == {("s",): 2000}


def test_ollama_is_asked_for_its_running_models_only(ollama: StandIn) -> None:
    """Polls of Ollama request no page that loads a model or keeps it loaded."""
    watched = watch(ollama)
    for _ in range(3):
        watched.poll()
    assert set(ollama.asked[-4:]) == {"/api/ps", "/api/version"}
    read = shown(watched)
    assert read["model_memory_bytes"]["s", "llama3.2:latest", "vram"] == 2e9
    assert read["model_memory_bytes"]["s", "llama3.2:latest", "ram"] == 1e9
    assert read["model_expires_timestamp_seconds"] == {("s", "llama3.2:latest"): pytest.approx(1795349100.12)}


def test_a_model_that_is_gone_is_not_loaded(ollama: StandIn) -> None:
    """An unloaded model has model_loaded 0 and its unload counted; memory and expiry are absent."""
    watched = watch(ollama)
    watched.poll()
    ollama.pages["/api/ps"] = b'{"models":[]}'
    watched.poll()
    read = shown(watched)
    assert read["model_loaded"]["s", "llama3.2:latest"] == 0
    assert read["model_unloads_total"]["s", "llama3.2:latest"] == 1
    assert "model_memory_bytes" not in read
    assert "model_expires_timestamp_seconds" not in read
    assert "model_context_length_tokens" not in read


def test_headers_are_sent_and_never_shown(vllm: StandIn) -> None:
    """A key is sent to the server, and is in no label, log or repr."""
    watched = watch(vllm, headers={"Authorization": "Bearer secret"})
    watched.poll()
    assert all(headers["Authorization"] == "Bearer secret" for headers in vllm.headers)
    assert "secret" not in repr(watched.server)
    assert b"secret" not in b"".join(part.lines for part in watched.parts.values())


def test_metrics_of_another_port_are_found_there() -> None:
    """Triton serves metrics at another address: metrics_url is that page, with or without its path."""
    triton = pages("triton")
    metrics = triton.pop("/metrics")
    with standing_in(triton) as server, standing_in({"/metrics": metrics, "/m": metrics}) as other:
        for url in (other.url, f"{other.url}/m"):
            watched = watch(server, metrics_url=ServerUrl(url))
            watched.poll()
            assert shown(watched)["engine_requests_running"] == {("s",): 6}


def test_metrics_of_another_path_are_found_there() -> None:
    """TensorRT-LLM under Dynamo: the page of another port replaces that below /prometheus."""
    metrics = pages("trtllm")["/prometheus/metrics"].replace(b"trtllm_", b"trtllm:")
    with standing_in(pages("trtllm")) as server, standing_in({"/metrics": metrics}) as other:
        watched = watch(server, metrics_url=ServerUrl(f"{other.url}/metrics"))
        assert watched.poll()
        assert shown(watched)["engine_output_tokens_total"] == {("s",): 1800}
        assert "/prometheus/metrics" not in server.asked


def test_memory_and_energy_come_from_the_processes() -> None:
    """If a local server does not report its one model's memory, that of its processes counts, on host and GPUs."""
    joules = iter((100.0, 250.0))
    found = ServerProcesses(frozenset({1, 2}), 5e8, ("vllm",))

    def gpus() -> dict[str, GpuUse]:
        return {"gpu": GpuUse(next(joules), {1: 3e9, 2: 1e9})}

    with standing_in(pages("vllm")) as server:
        watched = watch(server, dependencies(found, gpus=gpus))
        watched.poll()
        watched.poll()
        read = shown(watched)
        assert read["model_memory_bytes"] == {
            ("s", "tiny", "vram"): 4e9,
            ("s", "tiny", "ram"): 5e8,
        }
        assert read["model_energy_joules_total"] == {("s", "tiny", "exclusive"): 150}


def test_energy_used_while_the_server_was_away_is_not_its_model_s(vllm: StandIn) -> None:
    """GPU energy of a time without a known owner is not attributed."""
    joules = iter((100.0, 90_000.0, 90_001.0))
    found = ServerProcesses(frozenset({1}), 5e8, ("vllm",))
    watched = watch(vllm, dependencies(found, gpus=lambda: {"gpu": GpuUse(next(joules), {1: 3e9})}))
    models = vllm.pages["/v1/models"]
    for page in (models, status(503), models, models):
        vllm.pages["/v1/models"] = page
        watched.poll()
    assert shown(watched)["model_energy_joules_total"] == {("s", "tiny", "exclusive"): 1}


def test_processes_are_looked_for_anew_when_other_models_are_loaded(ollama: StandIn) -> None:
    """Ollama starts a process for each model: the next poll finds it, and searches only in that case."""
    processes = Processes(None)
    watched = watch(ollama, replace(dependencies(), find_processes=lambda _host, _port: processes))  # type: ignore[arg-type, return-value]
    pages = (ollama.pages["/api/ps"], ollama.pages["/api/ps"], b'{"models":[]}', b'{"models":[]}')
    looked = []
    for page in pages:
        ollama.pages["/api/ps"] = page
        watched.poll()
        looked.append(processes.forgotten)
    assert looked == [1, 1, 2, 2]


def test_gpus_that_fail_cost_only_their_numbers(vllm: StandIn) -> None:
    """A GPU driver that fails does not affect the rest of the server's metrics."""

    def broken() -> dict[str, GpuUse]:
        raise RuntimeError("NVML")

    watched = watch(vllm, dependencies(ServerProcesses(frozenset({1}), 5e8, ()), gpus=broken))
    assert watched.poll()
    assert shown(watched)["model_memory_bytes"] == {("s", "tiny", "ram"): 5e8}


def test_tokens_that_went_around_the_proxy_are_a_share(vllm: StandIn) -> None:
    """For a proxied server the tokens of both sides since the last poll are known; for others they are not."""
    passed = [Passed(tokens=0)]
    proxied = watch(vllm, dependencies(passed=lambda: passed[0], is_proxied=True))
    alone = watch(vllm, dependencies(passed=lambda: passed[0]))
    for watched in (proxied, alone):
        watched.poll()
    vllm.pages["/metrics"] = pages("vllm")["/metrics"].replace(b" 376.0\n", b" 476.0\n")
    passed[0] = Passed(tokens=75)
    for watched in (proxied, alone):
        watched.poll()
    assert proxied.tokens == TokenTotals(engine=100, proxied=75)
    assert alone.tokens is None


def test_clients_are_not_accused_of_answers_that_the_engine_counts_more_often() -> None:
    """Of vLLM's 1,262 tokens of 13 requests 246 are those of one prompt of 123 that had three answers: all passed."""
    served = {**pages("vllm-0.32/idle")}
    passed = [Passed()]
    with standing_in(served) as server:
        watched = watch(server, dependencies(passed=lambda: passed[0], is_proxied=True))
        watched.poll()
        server.pages["/metrics"] = pages("vllm-0.32/after")["/metrics"]
        passed[0] = Passed(tokens=1262 - 246, prompts=RepeatedPrompts(123, 246))
        watched.poll()
        assert watched.tokens == TokenTotals(engine=1262, proxied=1262)
        assert unproxied_ratio([watched.tokens]) == 0


def test_a_sleepy_llama_cpp_is_read_after_traffic_only() -> None:
    """Without traffic no poll requests a page that keeps a model awake; with traffic one poll does."""
    served = pages("llama-server-pages")
    served["/props"] = served["/props"].replace(b"b0-unknown", b"b9157-dd56a77")
    passed = [Passed()]
    with standing_in(served) as server:
        watched = watch(server, dependencies(passed=lambda: passed[0], is_proxied=True))
        watched.poll()
        watched.poll()
        assert not [path for path in server.asked if path.startswith(("/metrics", "/slots"))]
        assert shown(watched)["model_loaded"] == {("s", "gemma-3-270m"): 1}
        passed[0] = Passed(requests={"gemma-3-270m": 1})
        watched.poll()
        watched.poll()
        assert [path for path in server.asked if path.startswith(("/metrics", "/slots"))] == ["/metrics", "/slots"]


def test_a_sleepy_replica_is_read_after_traffic_of_its_own() -> None:
    """Requests that went to other replicas keep no model of this one awake."""
    served = pages("llama-server-pages")
    served["/props"] = served["/props"].replace(b"b0-unknown", b"b9157-dd56a77")
    passed = [Passed(attempts=SentToReplica())]
    with standing_in(served) as server:
        watched = watch(server, dependencies(passed=lambda: passed[0], is_proxied=True))
        watched.poll()
        passed[0] = Passed(requests={"gemma-3-270m": 1}, attempts=SentToReplica())
        watched.poll()
        assert not [path for path in server.asked if path.startswith(("/metrics", "/slots"))]
        passed[0] = Passed(requests={"gemma-3-270m": 2}, attempts=SentToReplica(1))
        watched.poll()
        watched.poll()
        assert [path for path in server.asked if path.startswith(("/metrics", "/slots"))] == ["/metrics", "/slots"]


def test_a_server_that_was_never_there_is_down() -> None:
    """Without a listener on the port engine_up is 0 from the first poll on."""
    url = ServerUrl(f"http://127.0.0.1:{free_port()}")
    watched = ServerPoller(PolledServer("s", url), dependencies())
    assert not watched.poll()
    assert shown(watched)["engine_up"] == {("s",): 0}
