"""A real llama.cpp router of two models (see test_llama_server): asking it loads and wakes none, keeps none awake."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.engines.metrics import FAMILIES
from modelhost_exporter.engines.polling.proxy_totals import Passed
from modelhost_exporter.engines.polling.server_poller import PollDependencies, ServerPoller
from modelhost_exporter.engines.polling.settings import PolledServer
from modelhost_exporter.metrics.prerendered import joined
from tests.real_engines.test_llama_polling import COMMAND, needs_command
from tests.support.programs import Program, fetch, free_port, running, wait_until
from tests.support.readings import readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.readings import Readings

pytestmark = needs_command

_PREDICTED = r"^llamacpp:tokens_predicted_total (\S+)"


@pytest.fixture(scope="module")
def program() -> tuple[str, Path]:
    """Return the path of the executable behind the command, and its model: a router is started without one."""
    with running(Program([COMMAND, str(free_port())])) as single:
        words: list[str] = []

        def is_the_server() -> bool:
            words[:] = psutil.Process(single.process.pid).cmdline()
            return "--model" in words and "llama-server" in words[0]

        wait_until(is_the_server, "the command runs the server")
    return words[0], Path(words[words.index("--model") + 1])


class Router:
    """A router with the models alpha and beta, which are the same file."""

    def __init__(self, url: str) -> None:
        self.url = url

    def states(self) -> dict[str, str]:
        """Return what it says of its models, without changing it."""
        listed = json.loads(fetch(f"{self.url}/v1/models"))["data"]
        return {entry["id"]: entry["status"]["value"] for entry in listed}

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send a POST request."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), headers)  # noqa: S310 - our own server
        return json.loads(fetch(request))

    def ask(self, model: str) -> None:
        """Request a few tokens from a model."""
        self.post("/v1/completions", {"model": model, "prompt": "One two", "max_tokens": 4, "ignore_eos": True})

    def unload(self, model: str) -> None:
        """Unload a model."""
        self.post("/models/unload", {"model": model})
        wait_until(lambda: self.states()[model] == "unloaded", f"{model} is unloaded", every=0.2)

    def predicted(self, *models: str) -> float:
        """Return the sum of output tokens on the metrics pages of loaded models."""
        pages = [fetch(f"{self.url}/metrics?model={model}&autoload=false").decode() for model in models]
        return sum(float(n) for page in pages for n in re.findall(_PREDICTED, page, re.MULTILINE))

    def watched(self, passed: Callable[[], Passed] = Passed, **settings: Any) -> ServerPoller:
        """Return a watch over it, whose traffic is as given."""
        return ServerPoller(PolledServer("s", ServerUrl(self.url), **settings), PollDependencies(passed=passed))


@pytest.fixture
def router(program: tuple[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Router]:
    """Yield a router with the flags of the test's marker; requests load its models, two at most."""
    binary, model = program
    for name in ("alpha", "beta"):
        (tmp_path / f"{name}.gguf").symlink_to(model)
    port = free_port()
    flags = ["--models-dir", tmp_path, "--ctx-size", "1024", "--metrics", *getattr(request, "param", ())]
    with running(Program([binary, "--host", "127.0.0.1", "--port", str(port), *flags])):
        url = f"http://127.0.0.1:{port}"

        def serves() -> bool:
            try:
                return b"ok" in fetch(f"{url}/health")
            except OSError:
                return False

        wait_until(serves, "it serves", every=0.2)
        yield Router(url)


def shown(watch: ServerPoller) -> Readings:
    """Poll, and return what a scrape shows."""
    watch.poll()
    return readings(joined(FAMILIES, [watch.parts]))


def test_polling_loads_nothing(router: Router) -> None:
    """With every setting of metrics all models are listed, and polling loads none."""
    for metrics in ("auto", "on", "off"):
        watch = router.watched(metrics=metrics)
        for _ in range(3):
            read = shown(watch)
        watch.close()
        assert read["engine_up"] == {("s",): 1}
        assert read["model_loaded"] == {("s", "alpha"): 0, ("s", "beta"): 0}
        assert "engine_output_tokens_total" not in read
    assert router.states() == {"alpha": "unloaded", "beta": "unloaded"}


def test_a_loaded_model_is_read_and_the_others_left_alone(router: Router) -> None:
    """The engine's metrics are those of the loaded model; its four slots share one cache."""
    watch = router.watched()
    shown(watch)
    router.ask("alpha")
    read = shown(watch)
    watch.close()
    assert router.states() == {"alpha": "loaded", "beta": "unloaded"}
    assert read["model_loaded"] == {("s", "alpha"): 1, ("s", "beta"): 0}
    assert read["model_loads_total"] == {("s", "alpha"): 1, ("s", "beta"): 0}
    assert read["engine_output_tokens_total"] == {("s",): router.predicted("alpha")} == {("s",): 4}
    assert read["engine_request_capacity"] == {("s",): 4}
    assert read["engine_kv_cache_capacity_tokens"] == {("s",): 1024}
    assert read["model_context_length_tokens"] == {("s", "alpha"): 1024}


def test_counters_outlive_the_models(router: Router) -> None:
    """The server's counters are the sums of its models', and do not decrease when one is unloaded or restarted."""
    watch = router.watched()
    shown(watch)
    for name in ("alpha", "beta"):
        router.ask(name)
    assert shown(watch)["engine_output_tokens_total"]["s",] == router.predicted("alpha", "beta") == 8
    router.unload("alpha")
    read = shown(watch)
    assert read["engine_output_tokens_total"]["s",] == 8
    assert read["model_unloads_total"] == {("s", "alpha"): 1, ("s", "beta"): 0}
    router.ask("alpha")
    read = shown(watch)
    watch.close()
    assert read["engine_output_tokens_total"]["s",] == 12
    assert router.predicted("alpha", "beta") == 8


@pytest.mark.parametrize("router", [("--sleep-idle-seconds", "1")], indirect=True)
def test_a_model_that_may_sleep_falls_asleep_while_it_is_polled(router: Router) -> None:
    """Without traffic no page that keeps it awake is requested; asleep, it is not loaded, and is not woken."""
    passed = [Passed()]
    watch = router.watched(lambda: passed[0])
    router.ask("alpha")
    passed[0] = Passed(requests={"alpha": 1})
    assert shown(watch)["engine_output_tokens_total"] == {("s",): 4}
    wait_until(lambda: shown(watch)["model_loaded"]["s", "alpha"] == 0, "it sleeps, while it is polled")
    for _ in range(10):
        read = shown(watch)
    assert router.states()["alpha"] == "sleeping"
    assert read["model_unloads_total"]["s", "alpha"] == 1
    assert read["engine_output_tokens_total"]["s",] == 4
    router.ask("alpha")
    passed[0] = Passed(requests={"alpha": 2})
    read = shown(watch)
    watch.close()
    assert read["model_loads_total"]["s", "alpha"] == 1
    assert read["engine_output_tokens_total"]["s",] == 8
