from __future__ import annotations

from modelhost_exporter.engines.polling.router_engine import RouterEngine
from modelhost_exporter.engines.snapshot import Engine


def engine(tokens: float, running: float = 0.0) -> Engine:
    """Return one model's engine."""
    return Engine(requests_running=running, output_tokens=tokens, input_tokens={"miss": tokens * 2})


def test_models_add_up() -> None:
    """A router's engine is the sum of its models', and a value that no model reports is absent."""
    merged = RouterEngine().merge({"a": engine(10, 1), "b": engine(5, 2)}, {"a", "b"})
    assert (merged.output_tokens, merged.requests_running, merged.input_tokens) == (15, 3, {"miss": 30})
    assert merged.requests_waiting is None
    assert merged.kv_cache_usage_ratio is None


def test_an_unloaded_model_s_tokens_stay_counted() -> None:
    """Counters do not decrease when a model is unloaded or sleeps; its running requests no longer count."""
    merging = RouterEngine()
    merging.merge({"a": engine(10, 1), "b": engine(5)}, {"a", "b"})
    merged = merging.merge({"b": engine(6)}, {"b"})
    assert (merged.output_tokens, merged.requests_running) == (16, 0)
    assert merging.merge({"a": engine(2), "b": engine(6)}, {"a", "b"}).output_tokens == 18


def test_a_model_that_started_anew_keeps_what_it_counted() -> None:
    """A decrease of one model's counters within a router is a restart of that model, not of the server."""
    merging = RouterEngine()
    merging.merge({"a": engine(10), "b": engine(5)}, {"a", "b"})
    assert merging.merge({"a": engine(1), "b": engine(5)}, {"a", "b"}).output_tokens == 16


def test_any_counter_that_falls_is_a_new_start() -> None:
    """A restart of a model without output (embeddings) is detected by its input."""
    merging = RouterEngine()
    merging.merge({"a": Engine(output_tokens=0, input_tokens={"miss": 100})}, {"a"})
    merged = merging.merge({"a": Engine(output_tokens=0, input_tokens={"miss": 7})}, {"a"})
    assert merged.input_tokens == {"miss": 107}


def test_a_model_that_slept_counts_on() -> None:
    """Asleep, its counters keep their values and its gauges are absent; awake, they continue without double counts."""
    merging = RouterEngine()
    merging.merge({"a": engine(10, 1)}, {"a"})
    merged = merging.merge({}, set(), {"a"})
    assert (merged.output_tokens, merged.requests_running) == (10, None)
    assert merging.merge({"a": engine(12, 1)}, {"a"}).output_tokens == 12


def test_a_model_that_was_left_alone_keeps_its_numbers() -> None:
    """A loaded model that was not polled, for lack of traffic, still counts."""
    merging = RouterEngine()
    merging.merge({"a": engine(10)}, {"a"})
    assert merging.merge({}, {"a"}).output_tokens == 10


def test_a_page_that_failed_once_takes_nothing_back() -> None:
    """A counter missing in one poll keeps its last value; otherwise its total would count again in the next."""
    merging = RouterEngine()
    merging.merge({"a": engine(10, 1), "b": engine(5)}, {"a", "b"})
    merged = merging.merge({"a": Engine(), "b": engine(6)}, {"a", "b"})
    assert (merged.output_tokens, merged.input_tokens, merged.requests_running) == (16, {"miss": 32}, 0)
    assert merging.merge({"a": engine(12), "b": engine(6)}, {"a", "b"}).output_tokens == 18
    assert merging.merge({"a": engine(1), "b": engine(6)}, {"a", "b"}).output_tokens == 19


def test_usages_are_averaged() -> None:
    """A ratio of several models is their mean, never their sum."""
    engines = {"a": Engine(kv_cache_usage_ratio=0.2), "b": Engine(kv_cache_usage_ratio=0.6)}
    assert RouterEngine().merge(engines, {"a", "b"}).kv_cache_usage_ratio == 0.4
