"""Per-server proxy totals, used to detect traffic and tokens that bypassed the proxy."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.requests.metrics import IN_FLIGHT, INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.samples import Sample

_FRESH_SECONDS = 1.0
_WINDOW_SECONDS = 3600.0
_NAMES = tuple(family.name for family in (REQUESTS, IN_FLIGHT, INPUT_TOKENS, OUTPUT_TOKENS))


class Passed(NamedTuple):
    """What passed the proxy for one server since the exporter started."""

    tokens: float = 0.0
    requests: Mapping[str, float] = {}
    """Requests for inference that are over, by the label of the model."""
    in_flight: Mapping[str, float] = {}


class ProxyTotals:
    """The proxy's counters by server, read at most once a second."""

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._now = now
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._passed: dict[str, Passed] = {}

    def of(self, server: str) -> Passed:
        """Return the totals of a server; zero for one without a proxy."""
        with self._lock:
            if self._read_at is None or self._now() - self._read_at >= _FRESH_SECONDS:
                self._passed = _by_server(self._samples())
                self._read_at = self._now()
            return self._passed.get(server, Passed())

    def _samples(self) -> Iterable[Sample]:
        for family in self._registry.restricted_registry(_NAMES).collect():
            yield from family.samples


def _by_server(samples: Iterable[Sample]) -> dict[str, Passed]:
    tokens: dict[str, float] = {}
    requests: dict[str, dict[str, float]] = {}
    in_flight: dict[str, dict[str, float]] = {}
    for sample in samples:
        server, model = sample.labels["server"], sample.labels["model"]
        if sample.name in (INPUT_TOKENS.name, OUTPUT_TOKENS.name):
            tokens[server] = tokens.get(server, 0.0) + sample.value
        elif sample.labels["operation"] != "other":
            counts = (requests if sample.name == REQUESTS.name else in_flight).setdefault(server, {})
            counts[model] = counts.get(model, 0.0) + sample.value
    return {
        server: Passed(tokens.get(server, 0.0), requests.get(server, {}), in_flight.get(server, {}))
        for server in {*tokens, *requests, *in_flight}
    }


class ProxyTraffic:
    """Detects requests since the last check, for a server or for one of its models."""

    def __init__(self, passed: Callable[[], Passed]) -> None:
        self._passed = passed
        self._seen: dict[str, float] = {}
        """By the proxy's labels, which are few: an engine may list other names in each poll."""
        self._seen_of_all = 0.0

    def __call__(self, names: frozenset[str] | None) -> bool:
        """Return whether requests for a model of these names (None: for any) came, or are in progress."""
        passed = self._passed()
        if names is None:
            requests = sum(passed.requests.values())
            came = requests > self._seen_of_all or sum(passed.in_flight.values()) > 0
            self._seen_of_all = requests
            return came
        counts = {name: count for name, count in passed.requests.items() if name in names}
        came = any(count > self._seen.get(name, 0.0) for name, count in counts.items())
        self._seen |= counts
        return came or any(count > 0 for name, count in passed.in_flight.items() if name in names)


class UnproxiedShare:
    """The share of an engine's tokens that did not pass the proxy, over the last hour."""

    def __init__(self, window_seconds: float = _WINDOW_SECONDS) -> None:
        self._window = window_seconds
        self._steps: deque[tuple[float, float, float]] = deque()
        self._last: tuple[float, float] | None = None

    def note(self, at: float, engine_tokens: float | None, proxied_tokens: float) -> None:
        """Note both totals; an engine's total that fell is a restart, and counts from 0."""
        if engine_tokens is None:
            return
        if self._last is not None:
            engine, proxied = self._last
            step = engine_tokens - engine if engine_tokens >= engine else engine_tokens
            if step or proxied_tokens != proxied:
                self._steps.append((at, step, proxied_tokens - proxied))
        self._last = (engine_tokens, proxied_tokens)
        while self._steps and self._steps[0][0] < at - self._window:
            self._steps.popleft()

    def ratio(self) -> float | None:
        """Return the share; None while the engine did nothing."""
        engine = sum(step for _, step, _ in self._steps)
        proxied = sum(step for _, _, step in self._steps)
        return min(1.0, max(0.0, 1 - proxied / engine)) if engine > 0 else None
