"""Output tokens of each model while its responses are still being generated.

A server reports tokens with the last chunk of a stream: counted by that alone, a long stream generates nothing until
its end and everything at its end. So the chunks of a stream count as they pass, each as many tokens as a chunk of the
model's finished streams had. Once a request has finished, its own number of tokens replaces that estimate, spread over
the time of its generation.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from modelhost_exporter.live.request_totals import ModelKey
    from modelhost_exporter.requests.observation import RequestObservation
    from modelhost_exporter.requests.series_by_model import ByModel

_SHORT_SECONDS = 2.0
"""A generation of less is counted when it ends: it is not longer than the time between two messages."""
_MAX_LONG = 10_000
_MAX_AGE_SECONDS = 30.0
_MIN_DECODE_SECONDS = 1e-6
"""A server's own time of less is none: tokens divided by it may not even be a finite number."""
_WEIGHT_OF_OLDER = 0.9
"""What a finished stream leaves of the weight of those before it in the number of tokens per chunk."""


class Generation(NamedTuple):
    """The generation of one finished response, in seconds of the monotonic clock."""

    start: float
    end: float
    tokens: int
    chunks: int

    def overlap(self, start: float, end: float) -> float:
        """Return the share of its time that is within a span."""
        return max(0.0, min(end, self.end) - max(start, self.start)) / (self.end - self.start)


class ModelTokens(NamedTuple):
    """What finished requests of one model have shown; totals since the start."""

    short_tokens: int = 0
    """Output tokens of short generations."""
    short_chunks: int = 0
    """Chunks of those tokens."""
    stream_tokens: float = 0.0
    """Output tokens of recent streams, weighted."""
    stream_chunks: float = 0.0
    """Their chunks, weighted alike."""
    last_speed: float | None = None
    """Output tokens per second of decode of the stream that finished last."""

    @property
    def tokens_per_chunk(self) -> float:
        """Output tokens in a chunk of a stream; 1 before the first stream has finished."""
        return self.stream_tokens / self.stream_chunks if self.stream_chunks else 1.0

    def with_stream(self, tokens: int, chunks: int, speed: float | None) -> ModelTokens:
        """Return these with one more stream."""
        return self._replace(
            stream_tokens=_WEIGHT_OF_OLDER * self.stream_tokens + tokens,
            stream_chunks=_WEIGHT_OF_OLDER * self.stream_chunks + chunks,
            last_speed=self.last_speed if speed is None else speed,
        )


_NOTHING = ModelTokens()


class TokenReading(NamedTuple):
    """The state at one moment."""

    chunks: ByModel
    """Chunks of all streams since the start, those in progress included."""
    models: Mapping[ModelKey, ModelTokens]
    generations: Mapping[ModelKey, Sequence[Generation]]
    """Longer generations that ended in the last 30 s."""

    def last_speed(self, key: ModelKey) -> float | None:
        """Return output tokens per second of decode of the model's last finished stream; None without one."""
        return self.models.get(key, _NOTHING).last_speed

    def has_tokens(self, key: ModelKey) -> bool:
        """Return whether the model ever had output tokens, as far as is known."""
        return key in self.models or bool(self.chunks.get(key))


class TokenProgress:
    """The output tokens of each model: a request listener, read by the thread of the live feed.

    Memory is bounded by the number of model labels, and by 10,000 generations.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without requests; ``clock`` is monotonic."""
        self._clock = clock
        self._models: dict[ModelKey, ModelTokens] = {}
        self._generations: deque[tuple[ModelKey, Generation]] = deque(maxlen=_MAX_LONG)

    def add(self, observed: RequestObservation) -> None:
        """Count the tokens of a finished request; called by one thread at a time, without a lock."""
        tokens, labels = observed.tokens.output, observed.labels
        if tokens is None or not labels.is_inference:
            return
        key = (labels.server, labels.model)
        counted = self._models.get(key, _NOTHING)
        if observed.chunks and tokens:
            counted = counted.with_stream(tokens, observed.chunks, decode_speed(observed))
        seconds = observed.decode_seconds if observed.chunks and observed.decode_seconds else observed.duration
        if seconds < _SHORT_SECONDS:
            counted = counted._replace(
                short_tokens=counted.short_tokens + tokens, short_chunks=counted.short_chunks + observed.chunks
            )
        else:
            end = self._clock()
            self._generations.append((key, Generation(end - seconds, end, tokens, observed.chunks)))
        self._models[key] = counted

    def remove_model(self, server: str, model: str) -> None:
        """Remove a model whose series were removed; called by the thread that counts."""
        self._models = {key: value for key, value in self._models.items() if key != (server, model)}

    def read(self, chunks: ByModel) -> TokenReading:
        """Return the present state; ``chunks`` are those of all streams so far."""
        oldest = self._clock() - _MAX_AGE_SECONDS
        recent: dict[ModelKey, list[Generation]] = {}
        for key, generation in reversed(self._generations.copy()):
            if generation.end < oldest:
                break
            recent.setdefault(key, []).append(generation)
        return TokenReading(chunks, self._models.copy(), recent)


def tokens_between(key: ModelKey, start: float, first: TokenReading, end: float, last: TokenReading) -> float:
    """Return the output tokens that a model generated between two moments, estimated for streams in progress."""
    before, after = first.models.get(key, _NOTHING), last.models.get(key, _NOTHING)
    if after.short_tokens < before.short_tokens:  # it was removed, and added again
        before = _NOTHING
    tokens = float(after.short_tokens - before.short_tokens)
    chunks = last.chunks.get(key, 0.0) - first.chunks.get(key, 0.0)
    if chunks < 0:  # likewise
        chunks = last.chunks.get(key, 0.0)
    chunks -= after.short_chunks - before.short_chunks
    for generation in last.generations.get(key, ()):
        share = generation.overlap(start, end)
        tokens += share * generation.tokens
        chunks -= share * generation.chunks
    return max(0.0, tokens + chunks * after.tokens_per_chunk)


def decode_speed(observed: RequestObservation) -> float | None:
    """Return output tokens per second of decode: by the server's own time, else by that of the tokens' arrival."""
    tokens, decode = observed.tokens.output, observed.server_seconds.decode or 0.0
    if observed.outcome != "ok" or not tokens:
        return None
    if decode >= _MIN_DECODE_SECONDS:
        return tokens / decode
    return 1 / observed.time_per_output_token if observed.time_per_output_token else None
