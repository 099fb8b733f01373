"""What is peculiar to engines that have few peculiarities; the rest is in the tables of captured engines."""

from __future__ import annotations

import json

from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.pages import PollPolicy
from modelhost_exporter.engines.snapshot import Engine, ServerSnapshot
from tests.engines.kinds.captured import said, snapshot
from tests.support.pages import SERVERS, Recording, pages


def read(folder: str, **changes: object) -> ServerSnapshot:
    """Return the snapshot of a captured server, some of whose pages are replaced."""
    served = pages(folder) | {path: json.dumps(page).encode() for path, page in changes.items()}
    return kinds.engine_kind(SERVERS[folder]).snapshot(served.__getitem__, PollPolicy("on"))


def test_docker_has_an_engine_for_each_loaded_model() -> None:
    """The pages of the engines behind the runner are told apart by the model, whatever name a client gave it."""
    engines = snapshot("docker").engine_by_model or {}
    assert {model: said(engine) for model, engine in engines.items()} == {
        "docker.io/ai/gemma3:latest": {
            "requests_running": 1,
            "requests_waiting": 2,
            "input_tokens": {"miss": 104},
            "output_tokens": 226,
            "prefill_seconds": 0.5,
            "decode_seconds": 5.25,
        },
        "docker.io/ai/qwen3-vllm:latest": {
            "requests_running": 3,
            "requests_waiting": 1,
            "kv_cache_usage_ratio": 0.25,
            "input_tokens": {"unknown": 900},
            "output_tokens": 450,
            "requests_finished": {"stop": 9},
        },
    }


def test_docker_does_not_read_engines_of_models_that_are_not_loaded() -> None:
    """A page of a model that is no longer loaded, or that loads, is left out."""
    assert not read("docker", **{"/engines/ps": []}).engine_by_model
    assert not [model for model in read("docker", **{"/engines/ps": None}).models if model.loaded]


def test_docker_keeps_the_host_of_another_registry() -> None:
    """A name with a port or another namespace is not completed wrongly."""
    models = {"object": "list", "data": [{"id": "host:5000/me/model", "owned_by": "docker"}]}
    runners = [{"model_name": "host:5000/me/model:latest"}]
    (model,) = read("docker", **{"/v1/models": models, "/engines/ps": runners}).models
    assert (model.loaded, model.aliases) == (True, ())


def test_models_of_servers_that_load_on_request_are_cold() -> None:
    """Servers that load a model by its name say so; with them a request's cold start is counted."""
    loading = {folder for folder in SERVERS if snapshot(folder).loads_on_request == "by_name"}
    assert {"docker", "lemonade", "llama-swap", "localai", "mistralrs"} <= loading
    assert not {"lmdeploy", "trtllm", "tei", "koboldcpp"} & loading


def test_localai_with_a_key_of_a_user_does_not_know_what_is_loaded() -> None:
    """Its page of loaded models is for administrators: without it the state is absent, not "unloaded"."""
    served = {path: page for path, page in pages("localai").items() if path != "/system"}
    found = kinds.engine_kind("localai").snapshot(served.__getitem__)
    assert [model.loaded for model in found.models] == [None, None]
    assert [model.loaded for model in read("localai", **{"/system": {"loaded_models": None}}).models] == [False, False]


def test_lemonade_has_queues_only_if_all_models_run_in_llama_cpp() -> None:
    """A model in another backend has no queue on the page: the sum of the others is not the server's."""
    health = json.loads(pages("lemonade")["/v1/health"])
    health["all_models_loaded"].append({"model_name": "Llama-NPU", "status": "ready", "recipe": "flm"})
    engine = read("lemonade", **{"/v1/health": health}).engine
    assert (engine.requests_running, engine.requests_waiting, engine.output_tokens) == (None, None, 1900)


def test_koboldcpp_without_a_model_lists_none() -> None:
    """The name it has for no model is not a model."""
    nothing = {"object": "list", "data": [{"id": "inactive", "owned_by": "koboldcpp"}]}
    assert read("koboldcpp", **{"/v1/models": nothing}).models == ()
    assert read("koboldcpp", **{"/api/extra/perf": {"idle": 1, "queue": 0}}).engine.requests_running == 0


def test_the_only_model_of_mistralrs_is_its_default() -> None:
    """With one model, "default" is a name of it; with several, which one is not said."""
    models = json.loads(pages("mistralrs")["/v1/models"])
    models["data"] = models["data"][:2]
    assert [model.aliases for model in read("mistralrs", **{"/v1/models": models}).models] == [("default",)]
    assert [model.aliases for model in snapshot("mistralrs").models] == [(), ()]


def test_a_sleeping_lmdeploy_is_not_loaded() -> None:
    """Its model is not loaded while it sleeps; a version without that page is awake."""
    assert [model.loaded for model in read("lmdeploy", **{"/is_sleeping": {"is_sleeping": True}}).models] == [False]
    served = {path: page for path, page in pages("lmdeploy").items() if path != "/is_sleeping"}
    assert [model.loaded for model in kinds.engine_kind("lmdeploy").snapshot(served.__getitem__).models] == [True]


def test_an_older_lmdeploy_counts_input_without_its_cache() -> None:
    """Before it counted cached tokens, the total is all that is known."""
    page = b"\n".join(
        line for line in pages("lmdeploy")["/metrics"].splitlines() if not line.startswith(b"lmdeploy:cached")
    )
    served = pages("lmdeploy") | {"/metrics": page}
    found = kinds.engine_kind("lmdeploy").snapshot(served.__getitem__)
    assert found.engine.input_tokens == {"unknown": 4600}


def test_no_page_that_does_harm_is_read() -> None:
    """Polls read neither pages that load models, nor pages that return each entry once to whoever comes first."""
    for folder, forbidden in (("trtllm", "/metrics"), ("trtllm", "/perf_metrics"), ("llama-swap", "/upstream")):
        fetch = Recording(folder)
        kinds.engine_kind(SERVERS[folder]).snapshot(fetch, PollPolicy("on"))
        assert not [path for path in fetch.asked if path.startswith(forbidden)]


def test_pages_of_imitated_engines_are_not_read() -> None:
    """Memory and expiries that imitations of Ollama make up are not shown."""
    for folder in ("docker", "koboldcpp", "lemonade", "localai"):
        fetch = Recording(folder)
        found = kinds.engine_kind(SERVERS[folder]).snapshot(fetch, PollPolicy("on"))
        assert "/api/ps" in fetch.pages
        assert not {"/api/ps", "/api/version", "/props"} & set(fetch.asked)
        assert not [model for model in found.models if model.vram_bytes is not None or model.expires is not None]


def test_lmdeploy_without_metrics_has_models_only() -> None:
    """Started without --enable-metrics, or metrics: off."""
    served = {path: page for path, page in pages("lmdeploy").items() if path != "/metrics"}
    assert kinds.engine_kind("lmdeploy").snapshot(served.__getitem__).engine == Engine()
