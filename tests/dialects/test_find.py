"""Finding a dialect by path, and parsing requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.dialects import FORMATS, Call, find

from .feeding import unhurried


@pytest.mark.parametrize(
    ("path", "name", "operation"),
    [
        ("/v1/chat/completions", "openai_chat", "chat"),
        ("/chat/completions", "openai_chat", "chat"),
        ("/api/v1/chat/completions", "openai_chat", "chat"),
        ("/openai/v1/chat/completions", "openai_chat", "chat"),
        ("/api/v0/chat/completions", "openai_chat", "chat"),
        ("//v1/chat/completions/", "openai_chat", "chat"),
        ("/v1/completions", "openai_completions", "text_completion"),
        ("/any/prefix/v1/completions", "openai_completions", "text_completion"),
        ("/completions", "llamacpp", "text_completion"),
        ("/completion", "llamacpp", "text_completion"),
        ("/upstream/model/infill", "llamacpp", "text_completion"),
        ("/v1/responses", "openai_responses", "responses"),
        ("/v1/messages", "anthropic_messages", "messages"),
        ("/v1/embeddings", "openai_embeddings", "embeddings"),
        ("/api/embeddings", "ollama_embeddings", "embeddings"),
        ("/api/v1/embeddings", "openai_embeddings", "embeddings"),
        ("/api/embed", "ollama_embeddings", "embeddings"),
        ("/embed", "openai_embeddings", "embeddings"),
        ("/rerank", "openai_rerank", "rerank"),
        ("/v2/rerank", "openai_rerank", "rerank"),
        ("/v1/audio/speech", "openai_audio", "other"),
        ("/api/chat", "ollama", "chat"),
        ("/ollama/api/chat", "ollama", "chat"),
        ("/api/generate", "ollama", "generate"),
        ("/api/v1/chat", "lmstudio", "chat"),
    ],
)
def test_known_paths(path: str, name: str, operation: str) -> None:
    """A path is matched by its last segments, and the longest match wins."""
    found = find(path)
    assert found is not None
    assert (found[0].NAME, found[1]) == (name, operation)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/health",
        "/v1/models",
        "/v1/messages/count_tokens",
        "/v1/responses/resp_1",
        "/v1/xchat/xcompletions",
        "/chat",
        "/v1/chat",
        "/messages",
        "/V1/CHAT/COMPLETIONS",
        "/api/embedded",
    ],
)
def test_other_paths(path: str) -> None:
    """A path that is not for inference, or unknown, has no dialect."""
    assert find(path) is None


def test_names_are_file_names() -> None:
    """Each dialect has the name of its file."""
    assert [f"modelhost_exporter.dialects.{format_.NAME}" for format_ in FORMATS] == [
        format_.__name__  # type: ignore[attr-defined] # each is a module
        for format_ in FORMATS
    ]


def test_paths_are_documented() -> None:
    """The table of docs/proxy.md has every dialect and every path."""
    text = (Path(__file__).parents[2] / "docs/proxy.md").read_text()
    table = text[text.index("## APIs") : text.index("## Token usage")]
    words = [word for format_ in FORMATS for word in (format_.NAME, *format_.PATHS)]
    assert [word for word in words if f"`{word}`" not in table] == []


def call(path: str, body: object) -> Call | None:
    """Return what a request to a path says."""
    found = find(path)
    assert found is not None
    return found[0].call(body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/chat/completions", {"model": "m"}, Call("m", stream=False)),
        ("/v1/chat/completions", {"model": "m", "stream": True}, Call("m", stream=True)),
        ("/v1/chat/completions", {"stream": True, "stream_options": None}, Call(None, stream=True)),
        (
            "/v1/completions",
            {"model": "m", "stream": True, "stream_options": {"include_usage": True}},
            Call("m", stream=True),
        ),
        ("/v1/chat/completions", {"model": 5, "stream": "yes"}, Call(None, stream=False)),
        ("/v1/chat/completions", {"model": "m", "n": 3}, Call("m", stream=False, choices=3)),
        ("/v1/completions", {"model": "m", "n": 2, "stream": True}, Call("m", stream=True, choices=2)),
        ("/v1/chat/completions", {"model": "m", "n": 10**9}, Call("m", stream=False)),
        ("/v1/chat/completions", {"model": "m", "n": True}, Call("m", stream=False)),
        ("/v1/chat/completions", {"model": "m", "n": 0}, Call("m", stream=False)),
        ("/v1/responses", {"model": "m", "stream": True}, Call("m", stream=True)),
        ("/v1/messages", {"model": "m"}, Call("m", stream=False)),
        ("/api/chat", {"model": "m"}, Call("m", stream=True)),
        ("/api/generate", {"model": "m", "stream": None}, Call("m", stream=True)),
        ("/api/generate", {"model": "m", "stream": False}, Call("m", stream=False)),
        ("/api/embed", {"model": "m"}, Call("m", stream=False)),
        ("/api/v1/chat", {"model": "m", "stream": True}, Call("m", stream=True)),
        ("/v1/embeddings", {"model": "m", "stream": True}, Call("m", stream=False)),
        ("/v1/rerank", {"model": " m "}, Call("m", stream=False)),
        ("/completion", {"prompt": "x", "stream": True}, Call(None, stream=True)),
        ("/v1/audio/speech", {"model": "m", "stream_format": "sse"}, Call("m", stream=True)),
        ("/v1/audio/speech", {"model": "m"}, Call("m", stream=False)),
    ],
)
def test_requests(path: str, body: dict[str, Any], expected: Call) -> None:
    """A request's model and stream flag are parsed, with the dialect's default."""
    assert call(path, body) == expected


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="model"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n'
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--x\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n--x--\r\n'
)


def test_forms() -> None:
    """A form's fields are found, also if only its beginning is available."""
    assert call("/v1/audio/transcriptions", FORM) == Call("whisper-1", stream=True)
    assert call("/v1/audio/transcriptions", FORM[:100]) == Call(None, stream=False)


@pytest.mark.parametrize("path", [path for format_ in FORMATS for path in format_.PATHS])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_requests_that_say_nothing(path: str, body: bytes) -> None:
    """A body that is not a JSON object has no fields, and does not raise."""
    assert call(path, body) is None


@unhurried
@given(st.sampled_from([path for format_ in FORMATS for path in format_.PATHS]), st.binary(max_size=80))
def test_requests_of_noise(path: str, body: bytes) -> None:
    """Parsing a request never raises."""
    call(path, body)
