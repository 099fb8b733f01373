"""Per-server proxy totals, used to detect traffic and tokens that bypassed the proxy."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.proxy.self_metrics import UPSTREAM_IN_FLIGHT, UPSTREAM_REQUESTS
from modelhost_exporter.requests.model_names import UNKNOWN
from modelhost_exporter.requests.series_by_model import in_flight_by_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prometheus_client import CollectorRegistry

    from modelhost_exporter.engines.snapshot import PromptCount
    from modelhost_exporter.requests.observation import RequestObservation
    from modelhost_exporter.requests.series_by_model import ByModel

_IN_FLIGHT_MAX_AGE_SECONDS = 1.0
_WINDOW_SECONDS = 3600.0


class Passed(NamedTuple):
    """What passed the proxy for one server since the exporter started."""

    tokens: float = 0.0
    """Input and output tokens, each prompt once."""
    requests: Mapping[str, float] = {}
    """Finished requests for inference, by the label of the model."""
    in_flight: Mapping[str, float] = {}
    """Requests for inference in progress, likewise."""
    attempts: SentToReplica | None = None
    """What was sent to the polled replica; None where the server has one URL."""
    prompts: RepeatedPrompts | None = None
    """Of requests that want several answers to a prompt; None where there were none."""

    def tokens_as_counted(self, count: PromptCount) -> float:
        """Return the tokens as an engine counts them, which may count a prompt once for each answer."""
        if self.prompts is None or count == "once":
            return self.tokens
        prefixes = self.prompts.tokens if count == "per_choice_and_prefix" else 0
        return self.tokens + self.prompts.repeated_tokens + prefixes


class RepeatedPrompts(NamedTuple):
    """Input tokens of requests that want several answers (``n``) to a prompt."""

    tokens: float = 0.0
    repeated_tokens: float = 0.0
    """Those that an engine counts beyond them when it counts the prompt for each answer: n - 1 times as many."""


class SentToReplica(NamedTuple):
    """Requests of all kinds that the proxy sent to one replica."""

    ended: float = 0.0
    in_flight: float = 0.0


class ProxyTotals:
    """Totals of proxied requests by server: a request listener, read by the threads of the pollers.

    Memory is bounded like the metrics of requests, by the number of model labels.
    """

    def __init__(self, registry: CollectorRegistry, now: Callable[[], float] = time.monotonic) -> None:
        """Start at zero. Requests in progress are read from ``registry``, at most once a second for all servers."""
        self._tokens: dict[str, int] = {}
        self._prompts: dict[str, RepeatedPrompts] = {}
        self._requests: dict[str, dict[str, int]] = {}
        self._registry = registry
        self._now = now
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._in_flight: ByModel = {}
        self._attempts: Mapping[tuple[str, str], SentToReplica] = {}

    def add(self, observed: RequestObservation) -> None:
        """Count a finished request; called by one thread at a time, without a lock."""
        labels, tokens = observed.labels, observed.tokens
        if not labels.is_inference:
            return
        self._tokens[labels.server] = self._tokens.get(labels.server, 0) + (tokens.input or 0) + (tokens.output or 0)
        if tokens.input and observed.choices > 1:
            before = self._prompts.get(labels.server, RepeatedPrompts())
            repeated = before.repeated_tokens + tokens.input * (observed.choices - 1)
            self._prompts[labels.server] = RepeatedPrompts(before.tokens + tokens.input, repeated)
        requests = self._requests.setdefault(labels.server, {})
        requests[labels.model] = requests.get(labels.model, 0) + 1

    def remove_model(self, server: str, model: str) -> None:
        """Remove a model whose series were removed; called by the thread that counts.

        Its requests are counted as those of an unknown model, so that the sum never decreases.
        """
        requests = self._requests.get(server, {})
        if (count := requests.pop(model, None)) is not None:
            requests[UNKNOWN] = requests.get(UNKNOWN, 0) + count

    def of(self, server: str, upstream: str = "") -> Passed:
        """Return the totals of a server, with what was sent to one of its replicas; zero for one without a proxy."""
        all_in_flight, all_attempts = self._read_registry()
        in_flight = {model: count for (name, model), count in all_in_flight.items() if name == server}
        attempts = all_attempts.get((server, upstream), SentToReplica()) if upstream else None
        requests = self._requests.get(server, {}).copy()
        return Passed(self._tokens.get(server, 0), requests, in_flight, attempts, self._prompts.get(server))

    def _read_registry(self) -> tuple[ByModel, Mapping[tuple[str, str], SentToReplica]]:
        with self._lock:
            if self._read_at is None or self._now() - self._read_at >= _IN_FLIGHT_MAX_AGE_SECONDS:
                self._in_flight = in_flight_by_model(self._registry)
                self._attempts = _attempts_by_upstream(self._registry)
                self._read_at = self._now()
            return self._in_flight, self._attempts


def _attempts_by_upstream(registry: CollectorRegistry) -> Mapping[tuple[str, str], SentToReplica]:
    """Return what was sent to each (server, upstream); empty without ``SelfMetrics``."""
    sums: dict[str, dict[tuple[str, str], float]] = {UPSTREAM_REQUESTS.name: {}, UPSTREAM_IN_FLIGHT.name: {}}
    for family in registry.restricted_registry(tuple(sums)).collect():
        for sample in family.samples:
            key = sample.labels["server"], sample.labels["upstream"]
            of_family = sums[sample.name]
            of_family[key] = of_family.get(key, 0.0) + sample.value
    ended, in_flight = sums.values()
    return {key: SentToReplica(ended.get(key, 0.0), in_flight.get(key, 0.0)) for key in {**ended, **in_flight}}


class ProxyTraffic:
    """Detects requests since the last check, for a server or for one of its models.

    The proxy does not count by replica and model. So a replica has traffic of a model when the server has and when any
    request was sent to the replica since its poll before: polls of one that gets no requests must not keep it awake.
    """

    def __init__(self, passed: Callable[[], Passed]) -> None:
        self._passed = passed
        self._seen: dict[str, float] = {}
        """By the proxy's labels, which are few: an engine may list other names in each poll."""
        self._seen_of_all = 0.0
        self._attempts_seen = 0.0
        self._is_reached = True

    def begin_poll(self) -> None:
        """Note whether requests were sent to the polled replica since the last poll, or are in progress there."""
        attempts = self._passed().attempts
        if attempts is not None:
            self._is_reached = attempts.ended != self._attempts_seen or attempts.in_flight > 0
            self._attempts_seen = attempts.ended

    def __call__(self, names: frozenset[str] | None) -> bool:
        """Return whether requests for a model of these names (None: for any) came, or are in progress."""
        return self._is_reached and self._came(names)  # in this order: what was sent is counted up to a second later

    def _came(self, names: frozenset[str] | None) -> bool:
        passed = self._passed()
        if names is None:
            requests = sum(passed.requests.values())
            came = requests > self._seen_of_all or sum(passed.in_flight.values()) > 0
            self._seen_of_all = requests
            return came
        for name in self._seen.keys() - passed.requests.keys():
            del self._seen[name]  # removed: counts from 0 when it is used again
        counts = {name: count for name, count in passed.requests.items() if name in names}
        came = any(count != self._seen.get(name, 0.0) for name, count in counts.items())
        self._seen |= counts
        return came or any(count > 0 for name, count in passed.in_flight.items() if name in names)


class TokenTotals(NamedTuple):
    """Tokens of one replica's last hour: as its engine counts them, and those of all replicas that passed the proxy."""

    engine: float
    proxied: float


class RecentTokens:
    """The tokens of one engine, and those that passed its server's proxy, over the last hour."""

    def __init__(self, window_seconds: float = _WINDOW_SECONDS) -> None:
        self._window = window_seconds
        self._steps: deque[tuple[float, float, float]] = deque()
        self._last: tuple[float, float] | None = None

    def note(self, at: float, engine_tokens: float | None, proxied_tokens: float) -> None:
        """Note both totals; an engine's total that fell is a restart, and counts from 0; None where it is not known."""
        if engine_tokens is not None:
            if self._last is not None:
                engine, proxied = self._last
                step = engine_tokens - engine if engine_tokens >= engine else engine_tokens
                if step or proxied_tokens != proxied:
                    self._steps.append((at, step, proxied_tokens - proxied))
            self._last = (engine_tokens, proxied_tokens)
        while self._steps and self._steps[0][0] < at - self._window:
            self._steps.popleft()

    def totals(self) -> TokenTotals | None:
        """Return the sums; None where the engine never counted tokens."""
        if self._last is None:
            return None
        return TokenTotals(sum(step for _, step, _ in self._steps), sum(step for _, _, step in self._steps))


def unproxied_ratio(replicas: Sequence[TokenTotals]) -> float | None:
    """Return the share of the tokens of a server's replicas that did not pass its proxy; None while they did nothing.

    The proxy counts by server: the polls of every replica see the same tokens pass, those of the oldest poller most.
    """
    engine = sum(replica.engine for replica in replicas)
    proxied = max((replica.proxied for replica in replicas), default=0.0)
    return min(1.0, max(0.0, 1 - proxied / engine)) if engine > 0 else None
