"""Running totals of proxied requests by model, from which rates, means and quantiles are computed."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from operator import add, sub
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.live.quantiles import quantile
from modelhost_exporter.requests.metrics import DURATION
from modelhost_exporter.requests.model_names import UNKNOWN
from modelhost_exporter.requests.observation import ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from modelhost_exporter.requests.observation import RequestObservation

ModelKey = tuple[str, str]
"""Server and model."""

_RANGES = {"<100ms": 0.1, "100-500ms": 0.5, "500ms-1s": 1.0, "1-5s": 5.0, ">5s": float("inf")}
_QUANTILES = (0.5, 0.95, 0.99)
_MS = 1e3

_OK, _ERRORS, _OTHER_OUTCOMES, _SECONDS, _FIRST_TOKENS, _FIRST_TOKEN_SECONDS, _OUTPUT_TOKENS, _BUCKETS = range(8)
_BOUNDS = (*DURATION, float("inf"))
_SIZE = _BUCKETS + len(_BOUNDS)


class Quantiles(NamedTuple):
    """Quantiles of the duration of requests; None without requests."""

    p50: float | None
    p95: float | None
    p99: float | None


class RequestCounts:
    """Totals of requests for inference of one or several models, since the start or in a span of time; immutable."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: Sequence[float] = (0.0,) * _SIZE) -> None:
        self._numbers = tuple(numbers)

    def __add__(self, other: RequestCounts) -> RequestCounts:
        return RequestCounts(tuple(map(add, self._numbers, other._numbers)))

    def __sub__(self, before: RequestCounts) -> RequestCounts:
        return RequestCounts(tuple(map(sub, self._numbers, before._numbers)))

    def with_request(self, observed: RequestObservation) -> RequestCounts:
        """Return these totals with one more request."""
        numbers = list(self._numbers)
        outcome = observed.outcome
        numbers[_OK if outcome == "ok" else _ERRORS if outcome in ERRORS else _OTHER_OUTCOMES] += 1
        numbers[_SECONDS] += observed.duration
        numbers[_BUCKETS + bisect_left(_BOUNDS, observed.duration)] += 1
        if outcome == "ok" and observed.time_to_first_token is not None:
            numbers[_FIRST_TOKENS] += 1
            numbers[_FIRST_TOKEN_SECONDS] += observed.time_to_first_token
        numbers[_OUTPUT_TOKENS] += observed.tokens.output or 0
        return RequestCounts(numbers)

    @property
    def requests(self) -> float:
        """The number of requests, whatever their outcome."""
        return self._numbers[_OK] + self._numbers[_ERRORS] + self._numbers[_OTHER_OUTCOMES]

    @property
    def output_tokens(self) -> float:
        """Output tokens as servers counted them; 0 also where none did."""
        return self._numbers[_OUTPUT_TOKENS]

    @property
    def eligible(self) -> float:
        """The number of successes and errors: client errors and disconnects are neither."""
        return self._numbers[_OK] + self._numbers[_ERRORS]

    def error_percent(self) -> float | None:
        """Return errors in percent of errors and successes; None without them."""
        return 100.0 * self._numbers[_ERRORS] / self.eligible if self.eligible else None

    def mean_ms(self) -> float | None:
        """Return the mean duration in milliseconds; None without requests."""
        return _mean_ms(self._numbers[_SECONDS], self.requests)

    def first_token_ms(self) -> float | None:
        """Return the mean time to the first token in milliseconds; None without streams."""
        return _mean_ms(self._numbers[_FIRST_TOKEN_SECONDS], self._numbers[_FIRST_TOKENS])

    def quantiles_ms(self) -> Quantiles:
        """Return quantiles of the duration in milliseconds, computed like histogram_quantile() does."""
        cumulative = self._cumulative()
        seconds = (quantile(wanted, _BOUNDS, cumulative) for wanted in _QUANTILES)
        return Quantiles(*(None if value is None else value * _MS for value in seconds))

    def by_range(self) -> dict[str, int]:
        """Return the number of requests in each range of durations."""
        cumulative = self._cumulative()
        up_to = [0.0, *(cumulative[_BOUNDS.index(bound)] for bound in _RANGES.values())]
        return {name: int(up_to[index + 1] - up_to[index]) for index, name in enumerate(_RANGES)}

    def _cumulative(self) -> list[float]:
        """Return the number of requests up to each bound of the duration."""
        return list(accumulate(self._numbers[_BUCKETS:]))


NO_REQUESTS = RequestCounts()


class RequestTotals:
    """The totals of each model since the start: a request listener, read by the thread of the live feed.

    Memory is bounded like the metrics of requests, by the number of model labels.
    """

    def __init__(self) -> None:
        self._by_model: dict[ModelKey, RequestCounts] = {}

    def add(self, observed: RequestObservation) -> None:
        """Count a finished request; called by one thread at a time, without a lock."""
        labels = observed.labels
        if labels.is_inference:
            key = (labels.server, labels.model)
            self._by_model[key] = self._by_model.get(key, NO_REQUESTS).with_request(observed)

    def remove_model(self, server: str, model: str) -> None:
        """Remove a model whose series were removed; called by the thread that counts.

        Its requests are counted as those of an unknown model, so that the totals of all models stay the same.
        """
        counts = self._by_model.get((server, model))
        if counts is not None:
            key = (server, UNKNOWN)
            self._by_model = {
                **{each: value for each, value in self._by_model.items() if each != (server, model)},
                key: self._by_model.get(key, NO_REQUESTS) + counts,
            }

    def by_model(self) -> Mapping[ModelKey, RequestCounts]:
        """Return a copy of the totals. Models without new requests keep the same object, which saves memory."""
        return self._by_model.copy()


def total(counts: Iterable[RequestCounts]) -> RequestCounts:
    """Return the sum of several."""
    return sum(counts, NO_REQUESTS)


def _mean_ms(seconds: float, count: float) -> float | None:
    return seconds / count * _MS if count else None
