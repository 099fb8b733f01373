from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.engines.polling.probes import ProbeMetrics, Prober
from modelhost_exporter.engines.polling.server_poller import PollDependencies, ServerPoller
from modelhost_exporter.engines.polling.settings import PolledServer, Probe
from tests.support.pages import pages
from tests.support.programs import free_port
from tests.support.readings import readings
from tests.support.stand_in import StandIn, cut_off, standing_in, status

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT = "/v1/chat/completions"
GOOD = json.dumps({"choices": [{"message": {"content": "Hi"}}]}).encode()


@pytest.fixture
def server() -> Iterator[StandIn]:
    """Serve LM Studio's pages with one loaded model and one that is not loaded."""
    with standing_in({**pages("lmstudio"), CHAT: GOOD}) as stand_in:
        yield stand_in


def probed(
    server: StandIn, url: str | None = None, *, then_gone: bool = False, **settings: Any
) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the metrics after one round of probes."""
    configured = PolledServer("s", ServerUrl(server.url), probe=Probe(timeout=Seconds(0.3), **settings))
    watch = ServerPoller(configured, PollDependencies())
    watch.poll()
    if then_gone:
        server.pages |= dict.fromkeys(("/api/v1/models", "/v1/models"), status(503))
        assert not watch.poll()
    registry = CollectorRegistry()
    prober = Prober(replace(configured, url=ServerUrl(url or server.url)), watch, ProbeMetrics(registry))
    assert prober.probe()
    prober.close()
    watch.close()
    return readings(registry.collect())


def test_loaded_models_are_probed_and_others_never_loaded(server: StandIn) -> None:
    """Each loaded model receives one request for one token; one not loaded receives none, configured or not."""
    read = probed(server)
    assert read["probes_total"] == {("s", "google/gemma-3-12b", "ok"): 1}
    assert read["probe_duration_seconds_count"] == {("s", "google/gemma-3-12b"): 1}
    ((body),) = [json.loads(body) for body in server.bodies]
    assert (body["model"], body["max_tokens"], body["stream"]) == ("google/gemma-3-12b", 1, False)
    assert probed(server, models=("text-embedding-nomic",)) == {}
    assert len(server.bodies) == 1


def test_a_server_whose_models_are_not_known_any_more_is_not_probed(server: StandIn) -> None:
    """If requests load models, a model must have been loaded at the last poll."""
    assert probed(server, then_gone=True) == {}
    assert server.bodies == []


def test_an_engine_that_loads_nothing_is_probed_though_it_hides_its_models() -> None:
    """A running vLLM always has its model loaded: a probe shows whether it still responds."""
    with standing_in({**pages("vllm"), CHAT: GOOD}) as stand_in:
        assert probed(stand_in, then_gone=True)["probes_total"] == {("s", "tiny", "ok"): 1}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (status(400, b"{}"), "client_error"),
        (status(503, b"{}"), "server_error"),
        (status(200, b"<html>"), "not_understood"),
        (status(200, b'{"error":"no"}'), "not_understood"),
        (status(200, b'{"choices":[]}'), "not_understood"),
        (cut_off, "not_understood"),
    ],
)
def test_outcomes_are_told_apart(server: StandIn, answer: Any, outcome: str) -> None:
    """Error responses, failures and invalid responses are counted by their own results, without a duration."""
    server.pages[CHAT] = answer
    read = probed(server)
    assert read["probes_total"] == {("s", "google/gemma-3-12b", outcome): 1}
    assert "probe_duration_seconds_count" not in read


def test_silence_is_a_timeout(server: StandIn) -> None:
    """A loaded model that does not respond is distinguished from one without requests."""
    server.pages[CHAT] = server.hang
    assert probed(server)["probes_total"] == {("s", "google/gemma-3-12b", "timeout"): 1}


def test_nobody_there_is_unreachable(server: StandIn) -> None:
    """An unreachable server is not a slow model."""
    read = probed(server, url=f"http://127.0.0.1:{free_port()}")
    assert read["probes_total"] == {("s", "google/gemma-3-12b", "upstream_unreachable"): 1}


def test_other_operations(server: StandIn) -> None:
    """Embeddings and completions are probed on their own paths."""
    server.pages |= {"/v1/embeddings": b'{"data":[{"embedding":[1]}]}', "/v1/completions": b'{"choices":[{"text":""}]}'}
    for operation in ("embeddings", "text_completion"):
        assert probed(server, operation=operation)["probes_total"] == {("s", "google/gemma-3-12b", "ok"): 1}
