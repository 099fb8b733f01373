"""The outcome of one collector in one scrape: its families, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelhost_exporter.collector import Unavailable, Undetermined
from modelhost_exporter.process.error_frames import described

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.process.run import Run

State = Literal["ok", "unavailable", "failed", "timeout"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one collector in one scrape."""

    state: State
    seconds: float
    detail: str = ""
    families: Sequence[Metric] = ()
    undetermined: bool = False
    """Of an unavailable one: whether it is not known that the machine has nothing to measure."""


def outcome_of(run: Run[list[Metric]], timeout: float, began: float) -> Outcome:
    """Wait for a run and return its outcome.

    The deadline is ``timeout`` seconds after ``began``, the scrape's start (monotonic), or the run's if earlier.
    """
    if not run.wait_until(timeout + (min(run.started, began) if run.is_begun else began)):
        return Outcome("timeout", run.age(), f"no answer within {timeout:g} s")
    if isinstance(run.error, Unavailable):
        undetermined = isinstance(run.error, Undetermined)
        return Outcome("unavailable", run.seconds, str(run.error), undetermined=undetermined)
    if run.error is not None:
        return Outcome("failed", run.seconds, described(run.error))
    if not run.value:
        return Outcome("unavailable", run.seconds, "nothing to measure")
    return Outcome("ok", run.seconds, families=run.value)
