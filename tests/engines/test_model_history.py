from __future__ import annotations

import tracemalloc

from modelhost_exporter.engines.model_history import ModelHistory
from modelhost_exporter.engines.snapshot import Model, ServerSnapshot
from modelhost_exporter.metrics.label_values import shortened


def snapshot(*loaded: str, unloaded: tuple[str, ...] = (), on_request: str = "by_name") -> ServerSnapshot:
    """Return a server with these models."""
    models = (*(Model(name, loaded=True) for name in loaded), *(Model(name, loaded=False) for name in unloaded))
    return ServerSnapshot("ollama", models=models, loads_on_request=on_request)  # type: ignore[arg-type]


def polled(*snapshots: ServerSnapshot | None, max_models: int = 64) -> ModelHistory:
    """Return what is known after polls at 0, 10, 20 … seconds."""
    history = ModelHistory(max_models)
    for number, found in enumerate(snapshots):
        history.poll(10.0 * number, found)
    return history


def states(history: ModelHistory) -> dict[str, tuple[bool | None, int, int]]:
    """Return loaded, loads and unloads by model."""
    return {label: (known.loaded, known.loads, known.unloads) for label, known in history.models()}


def test_what_is_loaded_at_first_sight_was_not_seen_loading() -> None:
    """Models already loaded when the exporter starts do not count as loads."""
    assert states(polled(snapshot("a", unloaded=("b",)))) == {"a": (True, 0, 0), "b": (False, 0, 0)}


def test_models_may_be_looked_at_while_a_poll_finds_others() -> None:
    """Probes run in their own thread."""
    history = polled(snapshot("a", "b"))
    looking = history.models()
    assert next(looking)[0] == "a"
    history.poll(10.0, snapshot("a", "b", "c"))
    assert [label for label, _ in looking] == ["b"]


def test_loads_and_unloads_are_transitions() -> None:
    """Each change between two polls counts once, also for a model that appears in the list or leaves it."""
    history = polled(snapshot("a"), snapshot("a", "b"), snapshot("b"), snapshot("b"), snapshot("a", "b"))
    assert states(history) == {"a": (True, 1, 1), "b": (True, 1, 0)}


def test_a_server_that_is_away_has_unloaded_nothing() -> None:
    """An outage is no unload: a model loaded before and after it counts nothing."""
    assert states(polled(snapshot("a"), None, None, snapshot("a"))) == {"a": (True, 0, 0)}


def test_models_without_states_leave_no_trace() -> None:
    """A server that lists names only has no loads, and no models that were removed."""
    listed = ServerSnapshot("openai", models=(Model("a"), Model("b")))
    history = polled(listed, ServerSnapshot("openai", models=(Model("b"),)))
    assert states(history) == {"b": (None, 0, 0)}


def test_a_server_that_loads_other_models_all_the_time_takes_little_memory() -> None:
    """Hundreds of states are kept, so a state is small; with more names, loaded models are unknown."""
    history = ModelHistory(64)
    tracemalloc.start()
    try:
        for number in range(64):
            history.poll(10.0 * number, snapshot(*(f"{number}-{model}-{'x' * 200}" for model in range(250))))
        assert tracemalloc.get_traced_memory()[0] < 3 << 20
    finally:
        tracemalloc.stop()
    assert not history.is_cold("other", 635.0, 636.0)


def test_models_are_capped() -> None:
    """A server that lists new names in each poll gets max_models series, with labels that are not too long."""
    history = polled(*(snapshot(f"model-{number}", "x" * 300) for number in range(10)), max_models=3)
    assert list(states(history)) == ["model-0", shortened("x" * 300, 200), "model-1"]


def test_names_of_one_model_have_one_label() -> None:
    """Every name that the engine listed leads to the model's label, also once it is unloaded; own names first."""
    loaded = ServerSnapshot("k", models=(Model("a", aliases=("b", "c", "x" * 300)), Model("b", loaded=True)))
    assert polled(loaded, loaded).labels == {"a": "a", "b": "b", "c": "a", shortened("x" * 300, 200): "a"}
    unloadable = ServerSnapshot("k", models=(Model("a", aliases=("b",), loaded=True),))
    assert polled(unloadable, ServerSnapshot("k")).labels == {"a": "a", "b": "a"}


def test_a_state_of_too_many_names_is_not_known() -> None:
    """After a poll with too many names no request counts as cold, so that long lists fill no memory."""
    names = [f"m{number}" for number in range(257)]
    assert not polled(snapshot("a", *names)).is_cold("b", 5, 6)
    assert polled(snapshot(*names[1:])).is_cold("b", 5, 6)


def test_a_request_for_a_model_that_is_not_loaded_is_cold() -> None:
    """The last poll before a request decides whether it was cold; a server that was down decides nothing."""
    history = polled(snapshot("a"), snapshot(), None, snapshot("a"))
    assert not history.is_cold("a", 5, 6)
    assert history.is_cold("a", 15, 19)
    assert history.is_cold("b", 16, 19)
    assert not history.is_cold("a", 25, 26)
    assert not history.is_cold("a", 35, 36)
    assert not history.is_cold("a", -5, 3)


def test_the_first_answer_ends_the_cold() -> None:
    """Requests from before the model's first response are cold; later ones are not, even before the next poll."""
    history = polled(snapshot())
    assert history.is_cold("a", 1, 5)
    assert history.is_cold("a", 2, 5.1)
    assert not history.is_cold("a", 6, 7)
    assert history.is_cold("b", 6, 9)


def test_a_later_poll_makes_it_cold_again() -> None:
    """Once a poll shows that the model is unloaded again, the next request is cold again."""
    history = polled(snapshot())
    assert history.is_cold("a", 1, 5)
    history.poll(10, snapshot("a"))
    assert not history.is_cold("a", 11, 12)
    history.poll(20, snapshot())
    assert history.is_cold("a", 21, 25)


def test_a_server_that_keeps_its_model_has_no_cold_requests() -> None:
    """VLLM loads no model on request, whatever name is requested."""
    assert not polled(snapshot("a", on_request="never")).is_cold("b", 1, 2)


def test_a_single_model_answers_to_any_name() -> None:
    """A llama.cpp with one model loads that one, whatever name a request has."""
    asleep = snapshot(unloaded=("a",), on_request="by_any_name")
    assert polled(asleep).is_cold("gpt-4", 1, 2)
    assert not polled(snapshot("a", on_request="by_any_name")).is_cold("gpt-4", 1, 2)


def test_the_length_of_a_load_is_that_of_the_engine_or_of_the_request() -> None:
    """A request that waited for a load provides its duration, under any of the model's names."""
    history = polled(ServerSnapshot("ollama", models=(Model("a:latest", aliases=("a",), loaded=True),)))
    history.note_load("a", 1, 2.5)
    ((_, known),) = history.models()
    assert known.load_seconds == 2.5


def test_of_requests_that_waited_for_one_load_the_first_tells_how_long_it_took() -> None:
    """The first request of a load waited longest, so its duration is kept; the next load has its own."""
    history = polled(snapshot(unloaded=("a",)), snapshot("a"), snapshot(unloaded=("a",)))
    known = dict(history.models())["a"]
    history.note_load("a", 1, 2.5)
    history.note_load("a", 3, 0.0005)
    assert known.load_seconds == 2.5
    history.note_load("a", 21, 1.5)
    assert known.load_seconds == 1.5
