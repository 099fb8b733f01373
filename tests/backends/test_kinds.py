from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import backends
from exporter.answers import Care
from exporter.polling.settings import Kind
from exporter.snapshots import Engine, ServerSnapshot
from tests.pages import SERVERS, Recording, pages


def snapshot(folder: str, care: Care | None = None) -> ServerSnapshot:
    """Return what a captured server says, every page allowed."""
    return backends.backend(SERVERS[folder]).snapshot(pages(folder).__getitem__, care or Care("on"))


def said(value: object) -> dict[str, Any]:
    """Return the fields that say something, histograms by their count and sum."""
    found = {field.name: getattr(value, field.name) for field in fields(value)}  # type: ignore[arg-type]
    if "latencies" in found:
        found["latencies"] = {name: (h.count, h.sum) for name, h in found["latencies"].items()}
    return {name: content for name, content in found.items() if content not in (None, "", (), {})}


ENGINES: dict[str, dict[str, Any]] = {
    "vllm": {
        "requests_running": 7,
        "requests_waiting": 1,
        "kv_cache_usage_ratio": 0.375,
        "kv_cache_capacity_tokens": 32000,
        "input_tokens": {"miss": 800, "hit": 700},
        "output_tokens": 3500,
        "prefill_seconds": 14,
        "decode_seconds": 100,
        "requests_finished": {"stop": 40, "length": 10, "abort": 4, "error": 2, "other": 6},
        "preemptions": 3,
        "speculative_drafts": 30,
        "speculative_draft_tokens": 90,
        "speculative_accepted_tokens": 36,
        "latencies": {
            "time_to_first_token": (92, 19),
            "inter_token_latency": (8000, 160),
            "time_per_output_token": (80, 1.6),
            "request_duration": (88, 120),
            "request_queue": (88, 5),
            "request_prefill": (88, 14),
            "request_decode": (88, 100),
        },
    },
    "vllm-0.8": {
        "requests_running": 3,
        "requests_waiting": 1,
        "kv_cache_usage_ratio": 0.5,
        "kv_cache_capacity_tokens": 16000,
        "input_tokens": {"unknown": 1000},
        "output_tokens": 2000,
        "prefill_seconds": 7,
        "decode_seconds": 50,
        "requests_finished": {"stop": 20, "length": 5, "abort": 2},
        "preemptions": 1,
        "latencies": {
            "time_to_first_token": (46, 9.5),
            "inter_token_latency": (4000, 80),
            "request_duration": (44, 60),
            "request_queue": (44, 2.5),
            "request_prefill": (44, 7),
            "request_decode": (44, 50),
        },
    },
    "sglang": {
        "requests_running": 5,
        "requests_waiting": 1,
        "kv_cache_usage_ratio": 0.5,
        "kv_cache_capacity_tokens": 8192,
        "input_tokens": {"miss": 700, "hit": 300},
        "output_tokens": 2000,
        "requests_finished": {"unknown": 40, "abort": 2},
        "preemptions": 2,
        "latencies": {
            "time_to_first_token": (76, 38),
            "inter_token_latency": (2800, 56),
            "request_duration": (56, 140),
            "request_queue": (48, 3),
        },
    },
    "sglang-0.4": {
        "requests_running": 2,
        "requests_waiting": 1,
        "kv_cache_usage_ratio": 0.25,
        "kv_cache_capacity_tokens": 4096,
        "input_tokens": {"unknown": 900},
        "output_tokens": 1800,
        "requests_finished": {"unknown": 30},
        "latencies": {
            "time_to_first_token": (38, 19),
            "inter_token_latency": (1400, 28),
            "request_duration": (28, 70),
        },
    },
    "llama-server-pages": {
        "requests_running": 0,
        "requests_waiting": 0,
        "request_capacity": 2,
        "kv_cache_usage_ratio": 0,
        "kv_cache_capacity_tokens": 2048,
        "input_tokens": {"miss": 104, "hit": 180},
        "output_tokens": 226,
        "prefill_seconds": 0.688352,
        "decode_seconds": 5.28387,
        "speculative_drafts": 0,
        "speculative_draft_tokens": 0,
        "speculative_accepted_tokens": 0,
    },
    "llama-server-2025": {
        "requests_running": 1,
        "requests_waiting": 2,
        "request_capacity": 1,
        "kv_cache_usage_ratio": 0.125,
        "kv_cache_capacity_tokens": 2048,
        "input_tokens": {"miss": 120},
        "output_tokens": 340,
        "prefill_seconds": 1.5,
        "decode_seconds": 8.25,
    },
    "llama-server-router": {},
    "ollama": {},
    "ollama-0.3": {},
    "tgi": {
        "requests_running": 3,
        "requests_waiting": 2,
        "request_capacity": 128,
        "input_tokens": {"unknown": 4100},
        "output_tokens": 2050,
        "prefill_seconds": 3.5,
        "decode_seconds": 60.25,
        "requests_finished": {"unknown": 41, "error": 3},
        "latencies": {
            "time_per_output_token": (45, 0.82),
            "request_duration": (45, 82),
            "request_queue": (45, 4.1),
        },
    },
    "lmstudio": {},
    "lmstudio-0.3": {},
    "litellm": {
        "input_tokens": {"unknown": 1000},
        "output_tokens": 2000,
        "requests_finished": {"unknown": 47, "error": 3},
        "latencies": {"time_to_first_token": (30, 7.2), "request_duration": (30, 30)},
    },
    "litellm-1.40": {
        "input_tokens": {"unknown": 1000},
        "output_tokens": 2000,
        "latencies": {"time_to_first_token": (30, 7.2), "request_duration": (30, 30)},
    },
    "triton": {
        "requests_running": 6,
        "requests_waiting": 2,
        "request_capacity": 32,
        "kv_cache_usage_ratio": 0.25,
        "kv_cache_capacity_tokens": 64000,
        "requests_finished": {"unknown": 250, "error": 4},
    },
    "triton-2.40": {
        "requests_running": 6,
        "requests_waiting": 3,
        "request_capacity": 32,
        "kv_cache_usage_ratio": 0.25,
        "kv_cache_capacity_tokens": 64000,
        "requests_finished": {"unknown": 250, "error": 4},
    },
    "openai": {},
}
ENGINES["tgi-1.4"] = {**ENGINES["tgi"], "kv_cache_capacity_tokens": 62064}

MODELS: dict[str, list[dict[str, Any]]] = {
    "vllm": [{"name": "Qwen/Qwen3-8B", "loaded": True, "context_length": 40960}],
    "sglang": [{"name": "Qwen/Qwen3-8B", "loaded": True, "context_length": 32768, "load_seconds": 12.5}],
    "sglang-0.4": [{"name": "Qwen/Qwen3-8B", "loaded": True}],
    "llama-server-pages": [
        {
            "name": "gemma-3-270m",
            "loaded": True,
            "quantization": "Q4_K - Medium",
            "parameters": "268M",
            "format": "gguf",
            "context_length": 1024,
        }
    ],
    "llama-server-2025": [
        {"name": "models/llama.gguf", "loaded": True, "parameters": "8.03B", "format": "gguf", "context_length": 2048}
    ],
    "ollama": [
        {
            "name": "llama3.2:latest",
            "aliases": ("llama3.2",),
            "loaded": True,
            "quantization": "Q4_K_M",
            "family": "llama",
            "parameters": "3.2B",
            "format": "gguf",
            "vram_bytes": 2e9,
            "ram_bytes": 1e9,
            "context_length": 4096,
            "expires": pytest.approx(1795349100.123456, rel=0, abs=0.01),
        },
        {
            "name": "nomic-embed-text:v1.5",
            "loaded": True,
            "quantization": "F16",
            "family": "nomic-bert",
            "parameters": "137M",
            "format": "gguf",
            "vram_bytes": 6e8,
            "ram_bytes": 0,
            "context_length": 2048,
        },
    ],
    "ollama-0.3": [
        {
            "name": "mistral:latest",
            "aliases": ("mistral",),
            "loaded": True,
            "quantization": "Q4_0",
            "family": "llama",
            "parameters": "7.2B",
            "format": "gguf",
            "vram_bytes": 5137025024,
            "ram_bytes": 0,
            "expires": pytest.approx(1717537111.83753, rel=0, abs=0.01),
        }
    ],
    "tgi": [{"name": "mistralai/Mistral-7B-Instruct-v0.3", "loaded": True, "context_length": 4096}],
    "tgi-1.4": [
        {
            "name": "mistralai/Mistral-7B-Instruct-v0.3",
            "loaded": True,
            "quantization": "float16",
            "context_length": 4096,
        }
    ],
    "lmstudio": [
        {
            "name": "google/gemma-3-12b",
            "aliases": ("google/gemma-3-12b:2",),
            "loaded": True,
            "quantization": "Q4_K_M",
            "family": "gemma3",
            "parameters": "12B",
            "format": "gguf",
            "context_length": 8192,
        },
        {
            "name": "text-embedding-nomic",
            "loaded": False,
            "quantization": "Q4_0",
            "format": "gguf",
            "context_length": 2048,
        },
    ],
    "lmstudio-0.3": [
        {
            "name": "meta-llama-3.1-8b-instruct",
            "loaded": True,
            "quantization": "Q4_K_M",
            "family": "llama",
            "format": "gguf",
            "context_length": 4096,
        },
        {
            "name": "qwen2-vl-7b-instruct",
            "loaded": False,
            "quantization": "4bit",
            "family": "qwen2_vl",
            "format": "mlx",
            "context_length": 32768,
        },
    ],
    "litellm": [{"name": "gpt-oss-20b"}, {"name": "claude-x"}],
    "triton": [{"name": "tensorrt_llm"}, {"name": "ensemble"}],
    "openai": [{"name": "model-a"}, {"name": "model-b"}],
}
VERSIONS = {
    "vllm": "0.30.0",
    "vllm-0.8": "0.8.5",
    "ollama": "0.13.5",
    "tgi": "3.3.7",
    "litellm": "1.80.5",
    "triton": "2.62.0",
    "llama-server-pages": "b0-unknown",
    "llama-server-router": "b9157-dd56a7377",
    "sglang": "",
}


@pytest.mark.parametrize("folder", ENGINES)
def test_engine(folder: str) -> None:
    """Every number of a captured engine is where its name says, and what it does not say is absent."""
    assert said(snapshot(folder).engine) == ENGINES[folder]


@pytest.mark.parametrize("folder", MODELS)
def test_models(folder: str) -> None:
    """Every model is described as far as its server does, and no further."""
    assert [said(model) for model in snapshot(folder).models] == MODELS[folder]


@pytest.mark.parametrize("folder", VERSIONS)
def test_version(folder: str) -> None:
    """The version is the one that the server tells."""
    assert snapshot(folder).version == VERSIONS[folder]


def test_a_prefix_of_ray_changes_nothing() -> None:
    """Ray's ray_vllm: names are vLLM's own (here of one engine of two)."""
    ray, one = said(snapshot("vllm-ray").engine), said(snapshot("vllm").engine)
    assert ray.keys() == one.keys()
    assert ray["output_tokens"] == 2000


@pytest.mark.parametrize("folder", SERVERS)
def test_a_server_is_recognised(folder: str) -> None:
    """Every captured server is recognised as what it is, by its own pages alone."""
    assert backends.recognise(pages(folder).__getitem__) == SERVERS[folder]


def test_recognising_asks_nothing_that_does_harm() -> None:
    """To know a server none is asked for /health (LiteLLM asks every model), /metrics or /slots (llama.cpp wakes)."""
    fetch = Recording("openai")
    del fetch.pages["/v1/models"]
    assert backends.recognise(fetch) is None
    assert not {path for path in fetch.asked if path.startswith(("/health", "/metrics", "/slots"))} - {
        "/health/readiness"
    }


def test_every_kind_can_be_configured() -> None:
    """The files of the folder, the kinds that are recognised and those of the configuration are the same."""
    assert set(backends.names()) == set(SERVERS.values()) == set(backends._ORDER)
    assert set(get_args(Kind)) == {*backends.names(), "auto"}


@pytest.mark.parametrize("folder", SERVERS)
def test_metrics_off_asks_for_no_metrics(folder: str) -> None:
    """With metrics: off no kind asks for a page of metrics or slots; the models stay known."""
    fetch = Recording(folder)
    found = backends.backend(SERVERS[folder]).snapshot(fetch, Care("off"))
    assert not [path for path in fetch.asked if path.startswith(("/metrics", "/slots"))]
    if folder not in ("triton", "triton-2.40"):
        assert [model.name for model in found.models] == [model.name for model in snapshot(folder).models]


@pytest.mark.parametrize("folder", SERVERS)
def test_a_missing_page_of_metrics_is_absent_not_zero(folder: str) -> None:
    """Where /metrics is not served nothing of it is made up."""
    served = {path: body for path, body in pages(folder).items() if not path.startswith("/metrics")}
    engine = backends.backend(SERVERS[folder]).snapshot(served.__getitem__, Care("on")).engine
    assert said(engine).keys() <= {
        "request_capacity",
        "kv_cache_capacity_tokens",
        "requests_running",
        "kv_cache_usage_ratio",
    }
    assert engine.output_tokens is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), folder=st.sampled_from(sorted(SERVERS)))
def test_lies_about_types_never_raise_anything_unexpected(data: st.DataObject, folder: str) -> None:
    """Whatever JSON stands where, a snapshot is made of finite numbers and text, or the page is said to be none."""
    served = pages(folder)
    path = data.draw(st.sampled_from(sorted(path for path, body in served.items() if body[:1] in b"{[")))
    document = json.loads(served[path])
    broken = data.draw(ANYTHING | st.just(document).map(lambda whole: _replaced(whole, data.draw(ANYTHING))))
    served[path] = json.dumps(broken).encode()
    try:
        found = backends.backend(SERVERS[folder]).snapshot(served.__getitem__, Care("on"))
    except (LookupError, ValueError):
        return
    for model in found.models:
        assert isinstance(model.name, str)
        assert model.name
        for number in (model.vram_bytes, model.ram_bytes, model.context_length, model.expires, model.load_seconds):
            assert number is None or (isinstance(number, float) and math.isfinite(number))
        for text in (model.quantization, model.family, model.parameters, model.format, *model.aliases):
            assert isinstance(text, str)


def _replaced(document: Any, lie: Any) -> Any:
    """Return the document with every plain value replaced by a lie."""
    if isinstance(document, dict):
        return {key: _replaced(value, lie) for key, value in document.items()}
    if isinstance(document, list):
        return [_replaced(value, lie) for value in document]
    return lie


def test_an_engine_without_numbers_says_nothing() -> None:
    """An engine's fields are all absent until something says otherwise."""
    assert said(Engine()) == {}
    assert Engine().tokens is None
