"""Manifests are accepted by the schemas of their kinds, and read numbers that the rules record."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.autoscaling.manifests import (
    FOLDER,
    RULES,
    SCALED_OBJECTS,
    external_name,
    horizontal_pod_autoscaler,
    read,
    recording_rules,
    scaled_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KUBERNETES = "1.35"
SCHEMA = json.loads((Path(__file__).parent / "scaled_object.schema.json").read_text())


@pytest.mark.parametrize("path", SCALED_OBJECTS, ids=lambda path: path.stem)
def test_scaled_objects_are_valid(path: Path) -> None:
    """They have the fields of KEDA and of its Prometheus scaler, and no others."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.validate(read(path), SCHEMA)


def test_the_schema_refuses_what_keda_refuses() -> None:
    """A field that does not exist, and an obsolete one of the scaler."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    for spoil in (_unknown_field, _obsolete_metadata):
        manifest = read(SCALED_OBJECTS[0])
        spoil(manifest["spec"])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(manifest, SCHEMA)


def _unknown_field(spec: dict[str, Any]) -> None:
    spec["minReplicas"] = 1


def _obsolete_metadata(spec: dict[str, Any]) -> None:
    spec["triggers"][0]["metadata"]["metricName"] = "queue"


def test_the_horizontal_pod_autoscaler_is_valid() -> None:
    """Kubernetes' own schema accepts it."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    kubernetes_validate.validate(read(FOLDER / "hpa.yaml"), KUBERNETES, strict=True)


def _queries() -> Iterator[str]:
    for path in SCALED_OBJECTS:
        yield from (signal.query for signal in scaled_object(path.name).signals)
    yield from (signal.query for signal in horizontal_pod_autoscaler().signals)


def test_every_query_reads_one_recorded_number() -> None:
    """Of one server in one namespace, since KEDA refuses several; and each number is used."""
    read_by_a_manifest = set()
    for query in _queries():
        (name,) = re.findall(r"model:\w+:\w+", query)
        assert re.search(r'namespace="models", ?server="chat"', query)
        read_by_a_manifest.add(name)
    assert read_by_a_manifest == set(recording_rules())


def test_nothing_is_scaled_down_without_data() -> None:
    """Each trigger reports an empty result as an error, which KEDA and the HorizontalPodAutoscaler wait out."""
    for path in SCALED_OBJECTS:
        for trigger in read(path)["spec"]["triggers"]:
            assert trigger["metadata"]["ignoreNullValues"] == "false"
            assert "vector(" not in trigger["metadata"]["query"]


def test_quantiles_are_not_divided_by_the_number_of_replicas() -> None:
    """They are compared as they are, sums of all replicas by replica."""
    for path in SCALED_OBJECTS:
        for signal in scaled_object(path.name).signals:
            assert signal.is_average != ("p95" in signal.query)


def test_each_recorded_number_is_an_external_metric() -> None:
    """The adapter's rule finds all of them and gives each a name of its own."""
    (rule,) = read(FOLDER / "prometheus-adapter.yaml")["rules"]["external"]
    (pattern,) = re.findall(r'__name__=~"([^"]+)"', rule["seriesQuery"])
    assert all(re.fullmatch(pattern, name) for name in recording_rules())
    names = {external_name(rule, name) for name in recording_rules()}
    assert len(names - {None}) == len(recording_rules())


def test_the_horizontal_pod_autoscaler_is_the_scaled_object_without_keda() -> None:
    """hpa.yaml has the targets, limits and behavior of keda-queue.yaml."""
    with_keda, without = scaled_object("keda-queue.yaml"), horizontal_pod_autoscaler()
    targets = [[(signal.target, signal.is_average) for signal in one.signals] for one in (with_keda, without)]
    assert targets[0] == targets[1]
    assert with_keda.only() == without.only()


def test_rules_are_evaluated_as_often_as_they_are_read() -> None:
    """A KEDA that polls twice before a new value exists would count one twice."""
    (interval,) = {group["interval"] for group in read(RULES)["groups"]}
    assert {f"{read(path)['spec']['pollingInterval']}s" for path in SCALED_OBJECTS} == {interval}
