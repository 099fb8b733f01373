from __future__ import annotations

import json
from typing import Any

from modelhost_exporter.engines.kinds.vllm import snapshot
from modelhost_exporter.engines.snapshot import Engine, Model
from tests.support.pages import pages


def models(*entries: dict[str, Any], metrics: bytes = b"") -> list[Model]:
    """Return the models of a vLLM that lists these."""
    listed = {"data": [{"owned_by": "vllm", **entry} for entry in entries]}
    return list(snapshot({"/v1/models": json.dumps(listed).encode(), "/metrics": metrics}.__getitem__).models)


def test_names_of_one_model_are_one_model() -> None:
    """Several names of --served-model-name list the same weights: the model is loaded once."""
    found = models({"id": "chat", "root": "/m"}, {"id": "chat-8b", "root": "/m", "max_model_len": 1})
    assert found == [Model("chat", aliases=("chat-8b",), loaded=True)]


def test_adapters_are_models_of_their_own() -> None:
    """A LoRA adapter names its base model; two models without a root are two models."""
    found = models({"id": "base", "root": "/m"}, {"id": "lora", "root": "/m", "parent": "base"})
    assert [model.name for model in found] == ["base", "lora"]
    assert [model.name for model in models({"id": "a"}, {"id": "b"})] == ["a", "b"]


def test_an_engine_that_sleeps_has_no_model_loaded() -> None:
    """In sleep mode the model is not loaded; without that gauge it is."""
    state = b'vllm:engine_sleep_state{engine="0",sleep_state="%s"} %d\n'
    asleep = state % (b"awake", 0) + state % (b"weights_offloaded", 1)
    assert [model.loaded for model in models({"id": "a"}, metrics=asleep)] == [False]
    awake = state % (b"awake", 1) + state % (b"weights_offloaded", 0)
    assert [model.loaded for model in models({"id": "a"}, metrics=awake)] == [True]


def engine_of(page: str) -> Engine:
    """Return the engine of a vLLM with these metrics."""
    return snapshot({**pages("vllm"), "/metrics": page.encode()}.__getitem__).engine


def config(engine: int, blocks: int, tokens: object = "None") -> str:
    """Return the line of one engine's cache."""
    labels = f'block_size="16",engine="{engine}",kv_cache_size_tokens="{tokens}",num_gpu_blocks="{blocks}"'
    return f"vllm:cache_config_info{{{labels}}} 1\n"


def test_the_cache_is_what_each_engine_says_that_fits() -> None:
    """Tokens are those of one engine, blocks those of all: the first are added up, of the others one counts."""
    assert engine_of(config(0, 200, 1000) + config(1, 200, 1000)).kv_cache_capacity_tokens == 2000
    assert engine_of(config(0, 200) + config(1, 200)).kv_cache_capacity_tokens == 3200
    assert engine_of(config(0, 100, 1000) + config(0, 200, 1000)).kv_cache_capacity_tokens == 1000, "two processes"
    assert engine_of(config(0, 0)).kv_cache_capacity_tokens is None


def test_aborts_are_absent_while_none_was_counted() -> None:
    """The counter of aborts stays at 0 whatever happens, and a 0 would claim that there were none."""
    line = 'vllm:request_success_total{engine="%d",finished_reason="%s"} %d\n'
    none = engine_of(line % (0, "stop", 0) + line % (0, "abort", 0) + line % (1, "abort", 0))
    assert none.requests_finished == {"stop": 0}
    assert engine_of(line % (0, "abort", 0) + line % (1, "abort", 2)).requests_finished == {"abort": 2}


def test_reasons_of_waiting_are_few() -> None:
    """A reason that is not known is other: a label is not whatever a page contains."""
    line = 'vllm:num_requests_waiting_by_reason{engine="0",reason="%s"} %d\n'
    found = engine_of(line % ("capacity", 1) + line % ("deferred", 2) + line % ("x" * 999, 3) + line % ("y", 4))
    assert found.requests_waiting_by_reason == {"capacity": 1, "deferred": 2, "other": 7}


def test_a_huge_cache_is_no_capacity() -> None:
    """Numbers beyond a float are absent and do not raise."""
    size = b"9" * 400
    page = b'vllm:cache_config_info{block_size="%s",num_gpu_blocks="%s"} 1\n' % (size, size)
    served = {**pages("vllm"), "/metrics": page}
    assert snapshot(served.__getitem__).engine.kv_cache_capacity_tokens is None
