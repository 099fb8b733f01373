"""Running totals of proxied requests by model, from which rates and the distribution of durations are computed."""

from __future__ import annotations

from bisect import bisect_left
from operator import add, sub
from typing import TYPE_CHECKING

from modelhost_exporter.requests.model_names import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from modelhost_exporter.requests.observation import RequestObservation

ModelKey = tuple[str, str]
"""Server and model."""

_RANGES = {"<100ms": 0.1, "100-500ms": 0.5, "500ms-1s": 1.0, "1-5s": 5.0, ">5s": float("inf")}
_BOUNDS = tuple(_RANGES.values())


class RequestCounts:
    """Numbers of requests for inference by duration, since the start or in a span of time; immutable."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Sequence[int] = (0,) * len(_BOUNDS)) -> None:
        self._counts = tuple(counts)

    def __add__(self, other: RequestCounts) -> RequestCounts:
        return RequestCounts(tuple(map(add, self._counts, other._counts)))

    def __sub__(self, before: RequestCounts) -> RequestCounts:
        return RequestCounts(tuple(map(sub, self._counts, before._counts)))

    def with_request(self, observed: RequestObservation) -> RequestCounts:
        """Return these totals with one more request."""
        counts = list(self._counts)
        counts[bisect_left(_BOUNDS, observed.duration)] += 1
        return RequestCounts(counts)

    @property
    def requests(self) -> int:
        """The number of requests, whatever their outcome."""
        return sum(self._counts)

    def by_range(self) -> dict[str, int]:
        """Return the number of requests in each range of durations."""
        return dict(zip(_RANGES, self._counts, strict=True))


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
