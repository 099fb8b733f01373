"""Proxied requests: running totals by model, and their rates and quantiles over a span of time."""

from __future__ import annotations

from operator import add, sub
from typing import TYPE_CHECKING

from prometheus_client.utils import floatToGoString

from modelhost_exporter.live.quantiles import quantile
from modelhost_exporter.metrics.families import NAMESPACE
from modelhost_exporter.requests.metrics import DURATION
from modelhost_exporter.requests.observation import ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from modelhost_exporter.live.family_lookup import Families

Key = tuple[str, ...]
"""Server and model."""

_FAMILIES = ("requests_total", "request_duration_seconds", "request_time_to_first_token_seconds", "output_tokens_total")
_OTHER = "other"
_RANGES = {"<100ms": 0.1, "100-500ms": 0.5, "500ms-1s": 1.0, "1-5s": 5.0, ">5s": float("inf")}
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_MS = 1e3

_GOOD, _BAD, _NEITHER, _SECONDS, _FIRST_TOKENS, _FIRST_TOKEN_SECONDS, _OUTPUT_TOKENS, _WITHIN = range(8)
_BOUNDS = (*DURATION, float("inf"))
_BOUND_AT = {floatToGoString(bound): _WITHIN + index for index, bound in enumerate(_BOUNDS)}  # type: ignore[no-untyped-call] # has no types
_SIZE = _WITHIN + len(_BOUNDS)


def _outcome_at(labels: Mapping[str, str]) -> int:
    """Return where a request counts: client errors and disconnects are neither good nor bad."""
    outcome = labels["outcome"]
    return _GOOD if outcome == "ok" else _BAD if outcome in ERRORS else _NEITHER


# which number a sample adds to
_PLACES: Mapping[str, Callable[[Mapping[str, str]], int]] = {
    f"{NAMESPACE}requests_total": _outcome_at,
    f"{NAMESPACE}request_duration_seconds_bucket": lambda labels: _BOUND_AT[labels["le"]],
    f"{NAMESPACE}request_duration_seconds_sum": lambda _: _SECONDS,
    f"{NAMESPACE}request_time_to_first_token_seconds_count": lambda _: _FIRST_TOKENS,
    f"{NAMESPACE}request_time_to_first_token_seconds_sum": lambda _: _FIRST_TOKEN_SECONDS,
    f"{NAMESPACE}output_tokens_total": lambda _: _OUTPUT_TOKENS,
}

SAMPLES = (*_PLACES, f"{NAMESPACE}requests_in_flight")
"""The names of every sample that is needed."""


class Counts:
    """Totals of requests for inference, of one model or several: since the start, or in a span of time."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: Sequence[float] = (0.0,) * _SIZE) -> None:
        self._numbers = tuple(numbers)

    def __add__(self, other: Counts) -> Counts:
        return Counts(tuple(map(add, self._numbers, other._numbers)))

    def __sub__(self, before: Counts) -> Counts:
        return Counts(tuple(map(sub, self._numbers, before._numbers)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counts) and self._numbers == other._numbers

    def __hash__(self) -> int:
        return hash(self._numbers)

    def follows(self, before: Counts) -> bool:
        """Return whether these totals are at least as large as those, so that no counter was reset."""
        return all(now >= then for now, then in zip(self._numbers, before._numbers, strict=True))

    @property
    def requests(self) -> float:
        """All of them."""
        return self._numbers[_GOOD] + self._numbers[_BAD] + self._numbers[_NEITHER]

    @property
    def output_tokens(self) -> float:
        """Tokens out, as servers counted them; 0 as well where none did."""
        return self._numbers[_OUTPUT_TOKENS]

    def error_percent(self) -> float | None:
        """Return the share of errors among what was good or bad."""
        good, bad = self._numbers[_GOOD], self._numbers[_BAD]
        return 100.0 * bad / (good + bad) if good + bad else None

    def mean_ms(self) -> float | None:
        """Return the mean duration."""
        return _mean_ms(self._numbers[_SECONDS], self._numbers[-1])

    def first_token_ms(self) -> float | None:
        """Return the mean time to the first token."""
        return _mean_ms(self._numbers[_FIRST_TOKEN_SECONDS], self._numbers[_FIRST_TOKENS])

    def quantiles_ms(self) -> dict[str, float | None]:
        """Return quantiles of the duration, as histogram_quantile() does, by name."""
        within = self._numbers[_WITHIN:]
        return {
            name: None if (seconds := quantile(share, _BOUNDS, within)) is None else seconds * _MS
            for name, share in _QUANTILES.items()
        }

    def by_range(self) -> dict[str, int]:
        """Return how many requests took how long."""
        up_to = [0.0, *(self._numbers[_WITHIN + _BOUNDS.index(bound)] for bound in _RANGES.values())]
        return {name: int(up_to[index + 1] - up_to[index]) for index, name in enumerate(_RANGES)}


NOTHING = Counts()


def together(counts: Iterable[Counts]) -> Counts:
    """Return the totals of several."""
    return sum(counts, NOTHING)


def by_model(families: Families, before: Mapping[Key, Counts]) -> dict[Key, Counts]:
    """Return the totals of each model; what did not change since ``before`` is the same object, which saves memory."""
    sums: dict[Key, list[float]] = {}
    for family in _FAMILIES:
        for sample in families.samples(family):
            place, labels = _PLACES.get(sample.name), sample.labels
            if place is not None and labels["operation"] != _OTHER:
                key = (labels["server"], labels["model"])
                sums.setdefault(key, [0.0] * _SIZE)[place(labels)] += sample.value
    new = {key: Counts(numbers) for key, numbers in sums.items()}
    return {key: before[key] if before.get(key) == counts else counts for key, counts in new.items()}


def in_flight(families: Families) -> dict[Key, float]:
    """Return the requests for inference under way, by model."""
    sums = families.by("requests_in_flight", "server", "model", "operation")
    found: dict[Key, float] = {}
    for (server, model, operation), count in sums.items():
        if operation != _OTHER:
            found[server, model] = found.get((server, model), 0.0) + count
    return found


def _mean_ms(seconds: float, count: float) -> float | None:
    return seconds / count * _MS if count else None
