"""A real llama.cpp server: what is shown are its own numbers, and asking does not change what it does.

MODELHOST_TEST_LLAMA_SERVER is a command that starts one on the port that follows, with more flags after it: some tests
restart it.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.engines.kinds import engine_kind
from modelhost_exporter.engines.metrics import FAMILIES
from modelhost_exporter.engines.pages import PollPolicy
from modelhost_exporter.engines.polling.fetching import Fetcher
from modelhost_exporter.engines.polling.proxy_totals import Passed
from modelhost_exporter.engines.polling.server_poller import PollDependencies, ServerPoller
from modelhost_exporter.engines.polling.settings import PolledServer
from modelhost_exporter.metrics.prerendered import joined
from tests.support.programs import Program, fetch, free_port, running, wait_until
from tests.support.readings import readings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.real_engines.conftest import RealEngine
    from tests.support.readings import Readings

COMMAND = os.environ.get("MODELHOST_TEST_LLAMA_SERVER", "")

needs_command = pytest.mark.skipif(
    not COMMAND, reason="needs a command to start llama.cpp's server: set MODELHOST_TEST_LLAMA_SERVER=path"
)


def own_numbers(url: str) -> dict[str, float]:
    """Return the server's own page."""
    page = fetch(f"{url}/metrics").decode()
    return {name: float(value) for name, value in re.findall(r"^llamacpp:(\w+) (\S+)$", page, re.MULTILINE)}


def watching(url: str, passed: list[Passed] | None = None, **settings: Any) -> ServerPoller:
    """Return a watch over a server, whose traffic is as given."""
    dependencies = PollDependencies(passed=lambda: (passed or [Passed()])[0])
    return ServerPoller(PolledServer("s", ServerUrl(url), **settings), dependencies)


def shown(watched: ServerPoller) -> Readings:
    """Poll, and return what a scrape shows."""
    watched.poll()
    return readings(joined(FAMILIES, [watched.parts]))


def test_numbers_are_the_server_s_own(llamacpp: RealEngine) -> None:
    """Every counter is between the server's values just before and just after (others may use it meanwhile)."""
    fetcher = Fetcher(llamacpp.url, {}, 10)
    before = own_numbers(llamacpp.url)
    found = engine_kind("llamacpp").snapshot(fetcher.get, PollPolicy("on"))
    after = own_numbers(llamacpp.url)
    fetcher.close()
    engine = found.engine
    assert engine.output_tokens is not None
    assert engine.prefill_seconds is not None
    assert engine.decode_seconds is not None
    for name, value in {
        "prompt_tokens_total": engine.input_tokens["miss"],
        "prompt_tokens_cached_total": engine.input_tokens["hit"],
        "tokens_predicted_total": engine.output_tokens,
        "prompt_seconds_total": engine.prefill_seconds,
        "tokens_predicted_seconds_total": engine.decode_seconds,
    }.items():
        assert before[name] <= value <= after[name]
    props = json.loads(fetch(f"{llamacpp.url}/props"))
    assert engine.request_capacity == props["total_slots"]
    assert [model.name for model in found.models] == [props["model_alias"]]
    assert found.models[0].context_length == props["default_generation_settings"]["n_ctx"]


def test_a_real_server_is_recognised_and_shown(llamacpp: RealEngine) -> None:
    """A server of unknown kind is detected and up, with its model loaded and the memory of its process."""
    watched = watching(llamacpp.url)
    read = shown(watched)
    watched.close()
    assert read["engine_up"] == {("s",): 1}
    assert [kind for _, kind, _ in read["engine_info"]] == ["llamacpp"]
    assert list(read["model_loaded"].values()) == [1]
    for value in read.get("model_memory_bytes", {}).values():
        assert value > 1e8


@pytest.fixture
def started() -> Iterator[Server]:
    """Yield a server that falls asleep after a second without requests."""
    server = Server(free_port())
    yield server
    server.stop()


class Server:
    """A real llama.cpp server on one port, which can be restarted."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = f"http://127.0.0.1:{port}"
        self.start()

    def start(self) -> None:
        """Start it and wait until it serves."""
        self._running = running(Program([COMMAND, str(self._port), "--sleep-idle-seconds", "1"]))
        self._running.__enter__()
        wait_until(self._serves, "it serves", every=0.2)

    def _serves(self) -> bool:
        try:
            return b"ok" in fetch(f"{self.url}/health")
        except OSError:
            return False

    def stop(self) -> None:
        """Stop the server."""
        self._running.__exit__(None, None, None)

    def sleeps(self) -> bool:
        """Return the server's properties, without waking it."""
        sleeping: bool = json.loads(fetch(f"{self.url}/props"))["is_sleeping"]
        return sleeping

    def ask(self) -> None:
        """Request a few tokens."""
        body = json.dumps({"prompt": "One two", "n_predict": 4}).encode()
        headers = {"Content-Type": "application/json"}
        fetch(urllib.request.Request(f"{self.url}/completion", body, headers))  # noqa: S310 - our own server


@needs_command
def test_polling_neither_keeps_awake_nor_wakes(started: Server) -> None:
    """A polled server falls asleep and stays asleep; its counters are read after the next traffic."""
    passed = [Passed()]
    watched = watching(started.url, passed)
    assert shown(watched)["model_loaded"] == {("s", "gemma-3-270m"): 1}
    wait_until(lambda: shown(watched)["model_loaded"] == {("s", "gemma-3-270m"): 0}, "it sleeps, while it is polled")
    for _ in range(20):
        read = shown(watched)
    assert started.sleeps()
    assert read["model_unloads_total"] == {("s", "gemma-3-270m"): 1}

    started.ask()
    passed[0] = Passed(requests={"gemma-3-270m": 1})
    read = shown(watched)
    assert read["model_loads_total"] == {("s", "gemma-3-270m"): 1}
    assert read["engine_output_tokens_total"] == {("s",): own_numbers(started.url)["tokens_predicted_total"]}
    wait_until(lambda: shown(watched)["model_loaded"] == {("s", "gemma-3-270m"): 0}, "it sleeps again")
    watched.close()


@needs_command
def test_a_restart_is_passed_on(started: Server) -> None:
    """A stopped server is down; after a restart its counters start at 0, and polling continues."""
    watched = watching(started.url, metrics="on")
    started.ask()
    before = shown(watched)["engine_output_tokens_total"]["s",]
    assert before >= 4
    started.stop()
    assert shown(watched)["engine_up"] == {("s",): 0}
    started.start()
    read = shown(watched)
    assert read["engine_up"] == {("s",): 1}
    assert read["engine_output_tokens_total"]["s",] < before
    watched.close()
