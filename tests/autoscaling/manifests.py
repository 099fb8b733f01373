"""The manifests of deploy/autoscaling, read for the tests."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).parents[2] / "deploy" / "autoscaling"
SCALED_OBJECTS = sorted(FOLDER.glob("keda-*.yaml"))
RULES = FOLDER / "rules.yml"


@dataclass(frozen=True)
class Signal:
    """One number that an autoscaler reads."""

    query: str
    target: float
    is_average: bool
    """Whether it is divided by the number of replicas (AverageValue), or compared as it is (Value)."""
    activation: float = 0.0


@dataclass(frozen=True)
class Policy:
    """At most so many pods, or percent of them, in so many seconds."""

    kind: str
    value: int
    seconds: float


@dataclass(frozen=True)
class Direction:
    """The rules for one direction of scaling."""

    window: float
    policies: tuple[Policy, ...]


@dataclass(frozen=True)
class Scaling:
    """What a manifest wants."""

    minimum: int
    maximum: int
    signals: tuple[Signal, ...]
    up: Direction
    down: Direction
    cooldown: float = 300.0

    def only(self, *numbers: int) -> Scaling:
        """Return the same with some of its signals only."""
        return replace(self, signals=tuple(self.signals[number] for number in numbers))


def read(path: Path) -> Any:
    """Return the one document of a file."""
    return yaml.safe_load(path.read_text())


def recording_rules() -> dict[str, str]:
    """Return the expression of each record."""
    return {rule["record"]: rule["expr"] for group in read(RULES)["groups"] for rule in group["rules"]}


def scaled_object(name: str) -> Scaling:
    """Return what a ScaledObject of KEDA wants."""
    spec = read(FOLDER / name)["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    return Scaling(
        spec["minReplicaCount"],
        spec["maxReplicaCount"],
        tuple(_trigger(trigger) for trigger in spec["triggers"]),
        _direction(behavior["scaleUp"]),
        _direction(behavior["scaleDown"]),
        spec.get("cooldownPeriod", 300.0),
    )


def _trigger(trigger: Mapping[str, Any]) -> Signal:
    metadata = trigger["metadata"]
    activation = float(metadata.get("activationThreshold", 0))
    is_average = trigger["metricType"] == "AverageValue"
    return Signal(metadata["query"], float(metadata["threshold"]), is_average, activation)


def horizontal_pod_autoscaler() -> Scaling:
    """Return what the HorizontalPodAutoscaler wants, with the queries that prometheus-adapter makes for it."""
    manifest = read(FOLDER / "hpa.yaml")
    spec, namespace = manifest["spec"], manifest["metadata"]["namespace"]
    return Scaling(
        spec["minReplicas"],
        spec["maxReplicas"],
        tuple(_external(metric["external"], namespace) for metric in spec["metrics"]),
        _direction(spec["behavior"]["scaleUp"]),
        _direction(spec["behavior"]["scaleDown"]),
    )


def _external(external: Mapping[str, Any], namespace: str) -> Signal:
    (rule,) = read(FOLDER / "prometheus-adapter.yaml")["rules"]["external"]
    (series,) = [name for name in recording_rules() if external_name(rule, name) == external["metric"]["name"]]
    (overridden,) = rule["resources"]["overrides"]
    labels = {overridden: namespace, **external["metric"]["selector"]["matchLabels"]}
    template = {
        "<<.Series>>": series,
        "<<.LabelMatchers>>": ",".join(f'{name}="{value}"' for name, value in labels.items()),
        "<<.GroupBy>>": "",  # of an external metric there is nothing to group by
    }
    query = rule["metricsQuery"]
    for variable, value in template.items():
        query = query.replace(variable, value)
    return Signal(query, float(external["target"]["averageValue"]), is_average=True)


def external_name(rule: Mapping[str, Any], series: str) -> str | None:
    """Return the name that prometheus-adapter gives to a series; None if it does not match."""
    name = rule["name"]
    found = re.search(name["matches"], series)
    return found.expand(name["as"].replace("$1", r"\1")) if found else None


def _direction(rules: Mapping[str, Any]) -> Direction:
    policies = (Policy(one["type"], one["value"], one["periodSeconds"]) for one in rules["policies"])
    return Direction(rules["stabilizationWindowSeconds"], tuple(policies))
