from __future__ import annotations

import json

import pytest

from modelhost_exporter.engines.kinds.llamacpp import snapshot
from modelhost_exporter.engines.pages import PollPolicy
from tests.support.pages import Recording, pages

STARTED = ("llama-server", "--model", "a.gguf")
SLEEPY = (*STARTED, "--sleep-idle-seconds", "60")


def single(*, asleep: bool = False, build: str = "b9157-dd56a7377") -> Recording:
    """Return a server with one model that can sleep, of a build whose /metrics wakes it."""
    props = {**json.loads(pages("llama-server-pages")["/props"]), "is_sleeping": asleep, "build_info": build}
    return Recording("llama-server-pages", props=json.dumps(props).encode())


def deep(fetch: Recording) -> list[str]:
    """Return the requested pages that may wake a model or keep it awake."""
    return [path for path in fetch.asked if path.startswith(("/metrics", "/slots"))]


def care(*, traffic: bool = False, arguments: tuple[str, ...] = (), metrics: str = "auto") -> PollPolicy:
    """Return a policy for one poll."""
    return PollPolicy(metrics, arguments, lambda _names: traffic)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        (care(), []),
        (care(arguments=SLEEPY), []),
        (care(arguments=STARTED), ["/metrics", "/slots"]),
        (care(traffic=True), ["/metrics", "/slots"]),
        (care(traffic=True, arguments=SLEEPY), ["/metrics", "/slots"]),
        (care(metrics="on"), ["/metrics", "/slots"]),
        (care(metrics="off", traffic=True, arguments=STARTED), []),
    ],
)
def test_a_model_that_may_fall_asleep_is_asked_only_after_traffic(told: PollPolicy, asked: list[str]) -> None:
    """Pages that keep a model awake are read if it never sleeps, after traffic, or if that is configured."""
    fetch = single()
    found = snapshot(fetch, told)
    assert deep(fetch) == asked
    assert found.models[0].loaded is True
    assert (found.engine.output_tokens == 226) == bool(asked)


@pytest.mark.parametrize("told", [care(), care(traffic=True), care(metrics="on"), care(arguments=STARTED)])
def test_a_sleeping_model_is_never_woken(told: PollPolicy) -> None:
    """While the server reports that it sleeps, no page that wakes it is requested, whatever is configured."""
    fetch = single(asleep=True)
    found = snapshot(fetch, told)
    assert deep(fetch) == []
    assert found.models[0].loaded is False
    assert found.engine.kv_cache_capacity_tokens is None


def test_new_builds_answer_metrics_in_their_sleep() -> None:
    """Since #27376 /metrics does not wake a model or keep it awake; /slots still does, and waits for a busy server."""
    fetch = single(asleep=True, build="b11434-abcdef0")
    assert snapshot(fetch, care()).engine.output_tokens == 226
    assert deep(fetch) == ["/metrics"]

    idle = single(build="b11434-abcdef0")
    snapshot(idle, care())
    assert deep(idle) == ["/metrics"]

    busy = single(build="b11434-abcdef0")
    busy.pages["/metrics"] = busy.pages["/metrics"].replace(b"requests_processing 0", b"requests_processing 1")
    snapshot(busy, care())
    assert deep(busy) == ["/metrics", "/slots"]


def test_a_server_that_cannot_sleep_is_always_asked() -> None:
    """Builds without idle sleep (/props has no is_sleeping) are always read in full."""
    fetch = Recording("llama-server-2025")
    assert snapshot(fetch, care()).engine.output_tokens == 340
    assert deep(fetch) == ["/metrics", "/slots"]


def test_a_router_is_asked_only_about_loaded_models_and_told_to_load_none() -> None:
    """Only loaded models of a router are requested, each with autoload=false."""
    fetch = Recording("llama-server-router")
    snapshot(fetch, care(metrics="on"))
    assert deep(fetch) == [
        "/metrics?model=org%2Fbig%3AQ4_K_M&autoload=false",
        "/slots?model=org%2Fbig%3AQ4_K_M&autoload=false",
        "/metrics?model=small&autoload=false",
        "/slots?model=small&autoload=false",
    ]


def test_a_router_s_model_that_may_sleep_is_asked_only_after_its_own_traffic() -> None:
    """Traffic to one model does not keep another awake: each model's own names are looked up."""
    fetch = Recording("llama-server-router")
    asked_about: list[frozenset[str] | None] = []

    def traffic(names: frozenset[str] | None) -> bool:
        asked_about.append(names)
        return False

    found = snapshot(fetch, PollPolicy("auto", (), traffic))
    assert {path.partition("=")[2].partition("&")[0] for path in deep(fetch)} == {"org%2Fbig%3AQ4_K_M"}
    assert asked_about == [frozenset({"small"})]
    assert {model.name: model.loaded for model in found.models} == {
        "org/big:Q4_K_M": True,
        "small": True,
        "asleep": False,
        "cold": False,
        "broken": False,
    }


def test_a_router_s_models_count_for_themselves() -> None:
    """Each loaded model has an engine of its own, read from the pages of that model."""
    fetch = Recording("llama-server-router")
    page = pages("llama-server-2025")["/metrics"]
    fetch.pages["/metrics?model=org%2Fbig%3AQ4_K_M&autoload=false"] = page
    fetch.pages["/metrics?model=small&autoload=false"] = page.replace(b"_total 340", b"_total 7")
    found = snapshot(fetch, care(traffic=True))
    assert {name: engine.output_tokens for name, engine in (found.engine_by_model or {}).items()} == {
        "org/big:Q4_K_M": 340,
        "small": 7,
    }


def test_kv_cache_usage_is_that_of_working_slots() -> None:
    """Without a gauge of the server's own, usage is the tokens of busy slots; idle slots do not count."""
    slots = [
        {"id": 0, "n_ctx": 1000, "is_processing": True, "n_prompt_tokens": 300},
        {"id": 1, "n_ctx": 1000, "is_processing": False, "n_prompt_tokens": 900},
    ]
    fetch = Recording("llama-server-pages", slots=json.dumps(slots).encode())
    engine = snapshot(fetch, care(metrics="on", arguments=(*STARTED, "--parallel", "2"))).engine
    assert (engine.kv_cache_usage_ratio, engine.kv_cache_capacity_tokens) == (0.15, 2000)
    shared = snapshot(fetch, care(metrics="on", arguments=(*STARTED, "--kv-unified"))).engine
    assert (shared.kv_cache_usage_ratio, shared.kv_cache_capacity_tokens) == (0.3, 1000)
    unseen = snapshot(fetch, care(metrics="on")).engine
    assert (unseen.kv_cache_usage_ratio, unseen.kv_cache_capacity_tokens) == (None, None)


def test_slots_that_do_not_say_what_they_hold_make_no_usage() -> None:
    """Slots of an older server have no tokens: usage is absent, not 0."""
    slots = [{"id": 0, "n_ctx": 1000, "is_processing": True}]
    fetch = Recording("llama-server-pages", slots=json.dumps(slots).encode())
    assert snapshot(fetch, care(metrics="on")).engine.kv_cache_usage_ratio is None


def test_without_metrics_the_slots_tell_what_runs() -> None:
    """A server without --metrics still reports the number of running requests."""
    fetch = Recording("llama-server-pages")
    del fetch.pages["/metrics"]
    engine = snapshot(fetch, care(metrics="on")).engine
    assert (engine.requests_running, engine.requests_waiting, engine.output_tokens) == (0, None, None)


def test_a_router_that_lists_models_without_end_is_not_asked_without_end() -> None:
    """A poll reads at most 128 pages, however many models a router lists."""
    entries = [{"id": f"m{n}", "status": {"value": "loaded", "args": ["llama-server"]}} for n in range(1000)]
    fetch = Recording("llama-server-router")
    fetch.pages["/v1/models"] = json.dumps({"data": entries}).encode()
    assert len(snapshot(fetch, care()).models) == 1000
    assert len(deep(fetch)) == 128


def test_a_router_s_model_that_sleeps_is_told_from_one_that_is_unloaded() -> None:
    """Neither is loaded; the process of a sleeping model still runs."""
    found = snapshot(Recording("llama-server-router"), care()).models
    assert {model.name for model in found if model.asleep} == {"asleep"}
