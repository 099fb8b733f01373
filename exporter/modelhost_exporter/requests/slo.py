"""Objectives: how fast a share of the requests has to be, decided per request and exactly."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

from modelhost_exporter.config.duration import Seconds  # noqa: TC001 - read at run time, by the parser of the configuration
from modelhost_exporter.requests.observation import ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelhost_exporter.requests.observation import RequestObservation


@dataclass(frozen=True)
class Objective:
    """A share of at least ``target`` of the requests takes at most ``threshold`` seconds."""

    threshold: Seconds
    target: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ValueError("target must be between 0 and 1, such as 0.99")


@dataclass(frozen=True)
class Objectives:
    """The objectives of a server or a model; None for an objective that is not configured."""

    ttft: Objective | None = None
    tpot: Objective | None = None
    duration: Objective | None = None

    @cached_property
    def given(self) -> Sequence[tuple[str, Objective]]:
        """The configured objectives as (name, objective)."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return tuple((name, objective) for name, objective in pairs if objective is not None)

    def verdicts(self, observed: RequestObservation) -> Mapping[str, bool]:
        """Return for each objective that applies to a request whether the request met it.

        ttft and tpot apply to streams only. A failed request meets none. No objective applies to client errors and
        disconnects, nor to a success without the measured value (one token has no time per output token).
        """
        failed = observed.outcome in ERRORS
        if not observed.labels.is_inference or (observed.outcome != "ok" and not failed):
            return {}
        measured = {
            "ttft": observed.time_to_first_token,
            "tpot": observed.time_per_output_token,
            "duration": observed.duration,
        }
        applicable = [(n, o) for n, o in self.given if n == "duration" or observed.stream]
        if failed:
            return dict.fromkeys((name for name, _ in applicable), False)
        return {n: seconds <= o.threshold for n, o in applicable if (seconds := measured[n]) is not None}
