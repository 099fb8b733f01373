"""A mix of requests of all kinds that an engine serves, and what two responses to the same one have in common."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import aiohttp

    from tests.real_engines.conftest import RealEngine

_WORDS = "river stone cloud lamp garden train paper silver window bridge apple summer music north salt"
_SAMPLING = {"temperature": 0, "seed": 7}
_IDS = re.compile(
    rb'"(id|item_id|request_id|call_id|previous_response_id|obfuscation|resp_id|message_id|signature|'
    rb'generation_settings)":\s*(?:"[^"]*"|null)'
)
_FINGERPRINT = re.compile(rb',"system_fingerprint":"[^"]*"')
"""vLLM puts it into the last frame of a stream, which is that of the usage where the proxy has asked for it."""
_NUMBERS = re.compile(
    rb'"(created|created_at|completed_at|cached_tokens|cache_n|prompt_n|\w+_ms|\w+_per_second|\w+_duration|id_slot|'
    rb'sequence_number|tokens_cached|tokens_evaluated|cache_read_input_tokens|input_tokens|stop_time|start_time)":\s*'
    rb'(?:[-0-9.e+]+|"[^"]*"|null)'
)
_TEXT = re.compile(rb'"(content|text|delta|token_ids)":\s*("(?:[^"\\]|\\.)*"|\[[0-9, ]*\])')
_USAGE_OBJECT = re.compile(rb'"usage":\s*(\{"(?:[^{}]|\{[^{}]*\})*\})')
_INDEX = re.compile(rb'"index":(\d+)')
_VOLATILE_HEADERS = frozenset({"date", "connection", "keep-alive", "transfer-encoding", "content-length", "server"})
_VOLATILE_PREFIXES = ("x-litellm", "llm_provider", "x-request-id", "x-ratelimit")


class Mixed(NamedTuple):
    """One request."""

    path: str
    body: bytes | None
    choices: int = 1
    """Sequences; vLLM counts the prompt of each."""


class Answer(NamedTuple):
    """What a client received."""

    status: int
    headers: dict[str, str]
    body: bytes

    def comparable(self) -> tuple[int, dict[str, str], bytes]:
        """Return it without what differs between two equal requests: ids, times, and what was cached."""
        headers = {
            name: value
            for name, value in self.headers.items()
            if name not in _VOLATILE_HEADERS and not name.startswith(_VOLATILE_PREFIXES)
        }
        return self.status, headers, _NUMBERS.sub(rb'"\1":0', _IDS.sub(rb'"\1":""', _FINGERPRINT.sub(b"", self.body)))

    def merged(self) -> tuple[int, dict[str, str], dict[bytes, bytes], set[bytes]]:
        """Return it with the texts of each choice joined: engines put two tokens into a frame when they are fast."""
        status, headers, body = self.comparable()
        texts: dict[bytes, bytes] = {}
        frames = set()
        for frame in body.split(b"\n\n"):
            index = _INDEX.search(frame)
            for name, text in _TEXT.findall(frame):
                key = name + (index[1] if index else b"")
                texts[key] = texts.get(key, b"") + text[1:-1]
            if b'"finish_reason":null' not in frame:
                frames.add(_TEXT.sub(b"", frame))
        return status, headers, texts, frames

    @property
    def usage(self) -> dict[str, int] | None:
        """The last usage in the response; None where it has none."""
        found = _USAGE_OBJECT.findall(self.body)
        return json.loads(found[-1]) if found else None


def without_usage(engine: RealEngine) -> list[Mixed]:
    """Return the streams that do not request usage."""
    rng = random.Random(1)  # noqa: S311 - no secret
    return [make(rng, engine.model) for make in _WITHOUT_USAGE]


def mix(engine: RealEngine, count: int, seed: int = 1) -> Iterator[Mixed]:
    """Yield requests; the same ones for a seed."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    kinds = [*_COMMON, *_OF_KIND.get(engine.kind, ())]
    for number in range(count):
        made = kinds[number % len(kinds)](rng, engine.model)
        yield _uncached(made) if engine.kind == "llamacpp" else made


async def send(session: aiohttp.ClientSession, url: str, sent: Mixed) -> Answer:
    """Send a request; return what arrived."""
    method = "GET" if sent.body is None else "POST"
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    async with session.request(method, url + sent.path, data=sent.body, headers=headers) as response:
        received = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, received, await response.read())


def _uncached(sent: Mixed) -> Mixed:
    """Return a request whose prompt is computed as a whole: what a cache holds of it decides near ties of tokens."""
    if not (sent.body or b"").startswith(b'{"temperature"'):
        return sent
    return sent._replace(body=json.dumps({**json.loads(sent.body or b""), "cache_prompt": False}).encode())


def _prompt(rng: random.Random) -> str:
    return " ".join(rng.choices(_WORDS.split(), k=rng.randrange(3, 20)))


def _tokens(rng: random.Random) -> int:
    return rng.choice((1, 2, 5, 9))


def _json(path: str, stream: bool = False, choices: int = 1, **members: Any) -> Mixed:
    if stream:
        members["stream"] = True
    return Mixed(path, json.dumps({**_SAMPLING, **members}).encode(), choices)


def _chat(**members: Any) -> Callable[[random.Random, str], Mixed]:
    def make(rng: random.Random, model: str) -> Mixed:
        messages = [{"role": "user", "content": _prompt(rng)}]
        return _json(
            "/v1/chat/completions",
            model=model,
            messages=messages,
            max_tokens=_tokens(rng),
            choices=members.get("n", 1),
            **members,
        )

    return make


def _completion(*, prompts: int = 1, **members: Any) -> Callable[[random.Random, str], Mixed]:
    def make(rng: random.Random, model: str) -> Mixed:
        prompt: str | list[str] = (
            _prompt(rng) if prompts == 1 else [_prompt(rng) + f" {_WORDS}" * each for each in range(prompts)]
        )
        return _json("/v1/completions", model=model, prompt=prompt, max_tokens=_tokens(rng), **members)

    return make


def _messages(**members: Any) -> Callable[[random.Random, str], Mixed]:
    def make(rng: random.Random, model: str) -> Mixed:
        messages = [{"role": "user", "content": _prompt(rng)}]
        return _json("/v1/messages", model=model, messages=messages, max_tokens=_tokens(rng), **members)

    return make


def _responses(**members: Any) -> Callable[[random.Random, str], Mixed]:
    def make(rng: random.Random, model: str) -> Mixed:
        return _json("/v1/responses", model=model, input=_prompt(rng), max_output_tokens=_tokens(rng), **members)

    return make


def _fixed(path: str, body: bytes | None) -> Callable[[random.Random, str], Mixed]:
    return lambda _rng, _model: Mixed(path, body)


_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
_COMMON = (
    _chat(),
    _chat(stream=True, **_USAGE),
    _completion(),
    _completion(stream=True, **_USAGE),
    _messages(),
    _messages(stream=True),
    _responses(),
    _responses(stream=True),
    _fixed("/v1/chat/completions", b'{"model": '),
    _fixed("/v1/models", None),
    _fixed("/no/such/path", None),
)
_WITHOUT_USAGE = (_chat(stream=True), _completion(stream=True))
"""Streams of which LiteLLM reports no usage, and counts an estimate."""
_OF_KIND = {
    "vllm": (
        *_WITHOUT_USAGE,
        _chat(n=3, temperature=0.5),
        _chat(n=3, temperature=0.5, stream=True, **_USAGE),
        _completion(prompts=2),
        _completion(prompts=2, stream=True, **_USAGE),
        _fixed("/v1/chat/completions", b'{"model": "no-such-model", "messages": [{"role": "user", "content": "x"}]}'),
        lambda rng, model: _json("/tokenize", model=model, prompt=_prompt(rng)),
        lambda _, model: _json("/v1/completions", model=model, prompt="x " * 3000, max_tokens=5),
        _fixed("/version", None),
    ),
    "llamacpp": (
        *_WITHOUT_USAGE,
        _completion(prompts=2, stream=True),
        lambda rng, _: _json("/completion", prompt=_prompt(rng), n_predict=_tokens(rng), cache_prompt=False),
        lambda rng, _: _json("/completion", prompt=_prompt(rng), n_predict=_tokens(rng), stream=True),
        lambda rng, model: _json("/v1/embeddings", model=model, input=_prompt(rng)),
        lambda rng, _: _json("/tokenize", content=_prompt(rng)),
        lambda _, model: _json("/v1/completions", model=model, prompt="x " * 9000, max_tokens=5),
        _fixed("/health", None),
    ),
    "litellm": (
        _fixed("/v1/chat/completions", b'{"model": "no-such-model", "messages": [{"role": "user", "content": "x"}]}'),
    ),
}
