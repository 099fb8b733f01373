"""The expected models and version of each captured server, by folder."""

from __future__ import annotations

from typing import Any

import pytest

MODELS: dict[str, list[dict[str, Any]]] = {
    "vllm-0.8": [{"name": "Qwen/Qwen3-8B", "loaded": True, "context_length": 40960}],
    "vllm-ray": [{"name": "Qwen/Qwen3-8B", "loaded": True, "context_length": 40960}],
    "sglang": [{"name": "Qwen/Qwen3-8B", "loaded": True, "context_length": 32768, "load_seconds": 12.5}],
    "sglang-0.4": [{"name": "Qwen/Qwen3-8B", "loaded": True}],
    "llama-server-2025": [
        {"name": "models/llama.gguf", "loaded": True, "parameters": "8.03B", "format": "gguf", "context_length": 2048}
    ],
    "llama-server-router": [
        {
            "name": "org/big:Q4_K_M",
            "aliases": ("big",),
            "loaded": True,
            "quantization": "Q4_K - Medium",
            "parameters": "7.24B",
            "format": "gguf",
            "context_length": 8192,
        },
        {
            "name": "small",
            "loaded": True,
            "quantization": "Q8_0",
            "parameters": "268M",
            "format": "gguf",
            "context_length": 4096,
        },
        {"name": "asleep", "loaded": False, "asleep": True, "format": "gguf"},
        {"name": "cold", "loaded": False, "format": "gguf"},
        {"name": "broken", "loaded": False, "format": "gguf"},
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
    "litellm-1.40": [{"name": "gpt-oss-20b"}],
    "triton": [{"name": "tensorrt_llm", "load_seconds": 21.5}, {"name": "ensemble", "load_seconds": 0.002}],
    "triton-2.40": [{"name": "tensorrt_llm"}, {"name": "ensemble"}],
    "openai": [{"name": "model-a"}, {"name": "model-b"}],
    "lmdeploy": [{"name": "Qwen/Qwen3-8B", "loaded": True}],
    "trtllm": [{"name": "Qwen3-8B", "loaded": True}],
    "mistralrs": [{"name": "Qwen/Qwen3-4B", "loaded": True}, {"name": "google/gemma-3-4b-it", "loaded": False}],
    "tei": [
        {
            "name": "bge-m3",
            "aliases": ("BAAI/bge-m3",),
            "loaded": True,
            "quantization": "float16",
            "context_length": 8192,
        }
    ],
    "localai": [{"name": "gemma-3-4b-it", "loaded": False}, {"name": "qwen3-8b", "loaded": True}],
    "localai-unloaded": [{"name": "gemma-3-4b-it", "loaded": False}],
    "lemonade": [
        {"name": "Qwen3-8B-GGUF", "loaded": True, "format": "gguf", "context_length": 16384},
        {"name": "nomic-embed-text-v2-GGUF", "loaded": False, "format": "gguf", "context_length": 2048},
    ],
    "lemonade-empty": [],
    "llama-swap": [
        {"name": "cold", "loaded": False},
        {"name": "qwen3-8b", "aliases": ("gpt-4o-mini", "qwen"), "loaded": True, "context_length": 16384},
        {"name": "starts", "loaded": False},
        {"name": "hidden", "loaded": True},
        {"name": "remote/big"},
    ],
    "llama-swap-empty": [],
    "koboldcpp": [{"name": "koboldcpp/Qwen3-8B-Q4_K_M", "loaded": True, "format": "gguf", "context_length": 8192}],
    "docker": [
        {
            "name": "docker.io/ai/gemma3:latest",
            "aliases": ("ai/gemma3", "ai/gemma3:latest", "gemma3"),
            "loaded": True,
            "quantization": "IQ2_XXS/Q4_K_M",
            "family": "gemma3",
            "parameters": "3.88B",
            "context_length": 131072,
        },
        {
            "name": "docker.io/ai/smollm2:latest",
            "aliases": ("ai/smollm2", "ai/smollm2:latest", "smollm2"),
            "loaded": False,
            "quantization": "IQ2_XXS/Q4_K_M",
            "family": "llama",
            "parameters": "361.82M",
            "context_length": 8192,
        },
        {
            "name": "docker.io/ai/qwen3-vllm:latest",
            "aliases": ("ai/qwen3-vllm", "ai/qwen3-vllm:latest", "qwen3-vllm"),
            "loaded": True,
        },
    ],
    "docker-empty": [],
}
VERSIONS = {
    "vllm-0.8": "0.8.5",
    "ollama": "0.13.5",
    "tgi": "3.3.7",
    "litellm": "1.80.5",
    "triton": "2.62.0",
    "llama-server-router": "b9157-dd56a7377",
    "sglang": "0.5.17",
    "sglang-0.4": "",
    "docker": "v1.2.6",
    "koboldcpp": "1.113.1",
    "lemonade": "11.7.0",
    "llama-swap": "250",
    "lmdeploy": "",
    "localai": "v4.9.0 (82c191afa)",
    "mistralrs": "",
    "tei": "1.9.3",
    "trtllm": "1.3.0rc9",
}
