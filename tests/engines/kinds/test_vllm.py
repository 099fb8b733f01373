from __future__ import annotations

import json
from typing import Any

from modelhost_exporter.engines.kinds.vllm import snapshot
from modelhost_exporter.engines.snapshot import Model
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


def test_a_huge_cache_is_no_capacity() -> None:
    """Numbers beyond a float are absent and do not raise."""
    size = b"9" * 400
    page = b'vllm:cache_config_info{block_size="%s",num_gpu_blocks="%s"} 1\n' % (size, size)
    served = {**pages("vllm"), "/metrics": page}
    assert snapshot(served.__getitem__).engine.kv_cache_capacity_tokens is None
