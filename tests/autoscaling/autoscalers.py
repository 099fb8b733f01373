"""The documented algorithms of Kubernetes' HorizontalPodAutoscaler and of KEDA."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.autoscaling.manifests import Policy, Scaling, Signal

TOLERANCE = 0.1


def proposal(signal: Signal, value: float, replicas: int) -> int:
    """Return how many replicas one signal wants."""
    ratio = value / (signal.target * (replicas if signal.is_average else 1))
    if abs(ratio - 1) <= TOLERANCE + 1e-9:
        return replicas
    return math.ceil(round(ratio * replicas, 9))


class HorizontalPodAutoscaler:
    """Desired numbers of replicas from the values of signals, stabilised and limited by policies."""

    def __init__(self, scaling: Scaling) -> None:
        self._scaling = scaling
        self._proposals: list[tuple[float, int]] = []
        self._changes: list[tuple[float, int]] = []

    def scale(self, now: float, replicas: int, values: Sequence[float | None]) -> int:
        """Return the number of replicas from now on."""
        pairs = zip(self._scaling.signals, values, strict=True)
        proposals = [proposal(signal, value, replicas) for signal, value in pairs if value is not None]
        if not proposals:
            return replicas
        wanted = max(proposals)
        if None in values:
            wanted = max(wanted, replicas)  # a signal without a value never lets it scale down
        wanted = min(max(wanted, self._scaling.minimum, 1), self._scaling.maximum)
        result = self._limited(now, replicas, self._stabilised(now, replicas, wanted))
        if result != replicas:
            self._changes.append((now, result - replicas))
        return result

    def _stabilised(self, now: float, replicas: int, wanted: int) -> int:
        """Return the lowest of the last proposals to scale up, the highest to scale down."""
        least, most = (
            choose(
                [wanted, *(number for at, number in self._proposals if at > now - direction.window)],
            )
            for choose, direction in ((min, self._scaling.up), (max, self._scaling.down))
        )
        self._proposals.append((now, wanted))
        return min(max(replicas, least), most)

    def _limited(self, now: float, replicas: int, wanted: int) -> int:
        if wanted > replicas:
            allowed = max(self._bound(now, replicas, policy, 1) for policy in self._scaling.up.policies)
            return min(wanted, max(allowed, replicas))
        if wanted < replicas:
            allowed = min(self._bound(now, replicas, policy, -1) for policy in self._scaling.down.policies)
            return max(wanted, min(allowed, replicas))
        return replicas

    def _bound(self, now: float, replicas: int, policy: Policy, sign: int) -> int:
        """Return how far a policy allows to scale in a direction: from where its period began."""
        began = replicas - sum(change for at, change in self._changes if at > now - policy.seconds)
        if policy.kind == "Pods":
            return began + sign * policy.value
        share = began * (1 + sign * policy.value / 100)
        return math.ceil(share) if sign > 0 else math.floor(share)


class Keda:
    """KEDA: to one replica and to zero by itself, between them by a HorizontalPodAutoscaler."""

    def __init__(self, scaling: Scaling) -> None:
        self._scaling = scaling
        self._pods = HorizontalPodAutoscaler(scaling)
        self._active = -math.inf

    def scale(self, now: float, replicas: int, values: Sequence[float | None]) -> int:
        """Return the number of replicas from now on."""
        pairs = zip(self._scaling.signals, values, strict=True)
        if any(value is not None and value > signal.activation for signal, value in pairs):
            self._active = now
            if replicas == 0:
                return max(self._scaling.minimum, 1)
        elif self._may_sleep(now, values):
            return 0
        return self._pods.scale(now, replicas, values) if replicas else 0

    def _may_sleep(self, now: float, values: Sequence[float | None]) -> bool:
        """Return whether nothing was active for long enough; a signal without a value is an error, not inactivity."""
        return self._scaling.minimum == 0 and None not in values and now - self._active > self._scaling.cooldown
