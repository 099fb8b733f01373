from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter import collectors
from modelhost_exporter.collector import CollectorContext, CollectorOptions
from modelhost_exporter.metrics import exporter_metrics
from modelhost_exporter.metrics.exporter_metrics import ExporterMetrics
from modelhost_exporter.metrics.exposition import OPENMETRICS, TEXT
from modelhost_exporter.metrics.families import Family, counter, gauge
from modelhost_exporter.proxy import self_metrics
from modelhost_exporter.requests import metrics as request_metrics
from modelhost_exporter.scraping import scrape
from modelhost_exporter.scraping.scrape import Scrape
from tests.support.machine import every_collector

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.metrics.exposition import Format

NAMES = collectors.names()


def shape(family: Metric) -> tuple[str, str, str, tuple[str, ...]]:
    """Return name, type, HELP and labels of a family."""
    if family.type == "histogram":
        ((labels),) = {tuple(name for name in sample.labels if name != "le") for sample in family.samples}
        return family.name, family.type, family.documentation, labels
    ((name, labels),) = {(sample.name, tuple(sample.labels)) for sample in family.samples}
    return name, family.type, family.documentation, labels


def declared(families: Iterable[Family]) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Return name, type, HELP and labels of declarations."""
    return [(family.name, family.type, family.help, family.labels) for family in families]


def test_every_collector_has_its_full_machine(tmp_path: Path) -> None:
    """Each collector has a machine in tests/support/machine.py; otherwise the tests below would not cover it."""
    assert set(every_collector(tmp_path)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_collector_emits_what_it_declares(name: str, tmp_path: Path) -> None:
    """On a machine that provides everything, a collector emits each declared family once, and no others.

    But for those of files that other programs write, which have names of their own.
    """
    emitted = [shape(family) for family in every_collector(tmp_path)[name].collect()]
    ours = [family for family in emitted if name != "textfile" or family[0].startswith("modelhost_")]
    assert sorted(ours) == sorted(declared(collectors.module(name).FAMILIES))


@pytest.mark.parametrize("name", NAMES)
def test_a_module_is_a_collector(name: str) -> None:
    """A file in the folder has FAMILIES, frozen CollectorOptions, create, and a docstring of one sentence."""
    module, options = collectors.module(name), collectors.options_of(name)
    assert module.FAMILIES
    assert issubclass(options, CollectorOptions)
    assert dataclasses.is_dataclass(options)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options().enabled = True  # type: ignore[misc]
    assert callable(module.create(options(), CollectorContext()).collect)
    first_line, second_line, *_ = f"{module.__doc__}\n\n".splitlines()
    assert first_line.endswith(".")
    assert first_line[0].isupper()
    assert not second_line


def test_a_name_is_declared_once() -> None:
    """No two collectors, nor the exporter's own metrics, share a family's name."""
    everything = [exporter_metrics.FAMILIES, scrape.FAMILIES, *(collectors.module(name).FAMILIES for name in NAMES)]
    names = [family.name for families in everything for family in families]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("name", NAMES)
def test_a_declaration_keeps_the_contract(name: str) -> None:
    """Names carry the namespace, counters alone end in _total, units are base units, HELP is a sentence."""
    for family in collectors.module(name).FAMILIES:
        words = family.name.split("_")
        assert words[0] == "modelhost"
        assert (words[-1] == "total") == (family.type == "counter")
        assert not {"percent", "mhz", "mib", "kib", "gib", "milliseconds", "ms", "created"} & set(words)
        assert ":" not in family.name
        assert not family.help[0].islower()
        assert family.help.endswith(".")


def test_own_families_are_on_the_page_as_declared() -> None:
    """The exporter's own families have the declared names, types, labels and HELP."""
    own = ExporterMetrics(simulated=True)
    own.set_energy_price("EUR", 0.32)
    emitted = [shape(family) for family in own.collect() if family.name.startswith("modelhost_")]
    assert sorted(emitted) == sorted(declared(exporter_metrics.FAMILIES))
    page = Scrape({}, 1.0, own=own).page(TEXT).decode()
    for family in (*exporter_metrics.FAMILIES, scrape.TIMEOUT):
        assert f"# TYPE {family.name} {family.type}\n" in page


def test_a_family_without_known_values_is_absent() -> None:
    """A family without samples is not emitted."""
    family = gauge("x", "X.", "device")
    assert not list(family.by([]))
    assert not list(family.by([(("a",), None)]))
    assert not list(family.of(None))


def test_zero_is_a_value() -> None:
    """A zero that was measured is a sample like any other; only None is unknown."""
    ((metric),) = gauge("x", "X.", "device").by([(("a",), 0.0), (("b",), None)])
    assert [(sample.labels, sample.value) for sample in metric.samples] == [({"device": "a"}, 0.0)]


def test_every_label_needs_a_value() -> None:
    """Label values that do not fit the declared labels are a programming error, never a silently shorter series."""
    with pytest.raises(ValueError, match="zip"):
        [family.samples for family in counter("x", "X.", "device", "mode").by([(("a",), 1.0)])]


@pytest.mark.parametrize("format_", [TEXT, OPENMETRICS], ids=["text", "openmetrics"])
@pytest.mark.parametrize("value", ["/mnt/é", "/mnt/\udcff", "\ud800", 'a"b\\c\nd', ""])
def test_any_label_value_can_be_written(value: str, format_: Format) -> None:
    """Any name from the kernel or a client can be rendered, on one line."""
    rendered = format_.render(list(gauge("x", "X.", "device").by([((value,), 1)])))
    assert len([line for line in rendered.decode().splitlines() if line.startswith("modelhost_x{")]) == 1


def test_undecodable_names_stay_apart() -> None:
    """Two names that differ only in bytes that are not UTF-8 are two series, not one series twice."""
    ((metric),) = gauge("x", "X.", "device").by([(("\udcff",), 1), (("\udcfe",), 2)])
    assert len({sample.labels["device"] for sample in metric.samples}) == 2


def test_bytes_that_are_utf8_are_shown_as_text() -> None:
    """Names that an ASCII locale cannot decode are UTF-8 on the page."""
    name = "é".encode().decode("ascii", "surrogateescape")
    ((metric),) = gauge("x", "X.", "device").by([((name,), 1)])
    assert metric.samples[0].labels == {"device": "é"}


def test_counters_are_written_with_total_and_their_type() -> None:
    """A counter's samples end in _total and its type is a counter, in both formats."""
    metrics = list(counter("reads", "Reads.").of(3))
    assert b"modelhost_reads_total 3.0\n" in TEXT.render(metrics)
    assert b"# TYPE modelhost_reads counter\n" in OPENMETRICS.render(metrics)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, -(10**400)])
def test_impossible_values_are_left_out(value: float) -> None:
    """NaN, infinity and values beyond a double are not on the page; the other samples are."""
    (family,) = gauge("g", "A gauge.", "name").by([(("odd",), value), (("sound",), -1.5)])
    assert [(sample.labels, sample.value) for sample in family.samples] == [({"name": "sound"}, -1.5)]
    assert list(counter("c", "A counter.").of(value)) == []


def test_a_counter_below_zero_is_absent() -> None:
    """Counters count from 0."""
    assert list(counter("c", "A counter.").of(-1)) == []
    assert list(counter("c", "A counter.").of(0)) != []


def test_different_names_are_different_labels() -> None:
    """Escaped invalid bytes, and names that contain such an escape, never result in the same series twice."""
    family = gauge("x", "Help.", "name")
    names = (
        b"\xff",
        rb"\xff",
        rb"\\xff",
        rb"\\\xff",
        b"\xff\\",
        b"\\\xff",
        rb"\udcff",
        b"C:\\",
        "\u00ff".encode(),
        b"\xed\xb3\xbf",
    )
    values = [name.decode("utf-8", "surrogateescape") for name in names]
    (metric,) = family.by(((value,), 1.0) for value in (*values, "\ud800", r"\ud800"))
    labels = [sample.labels["name"] for sample in metric.samples]
    assert len(set(labels)) == len(labels)
    assert labels[0] == r"\xff"
    assert r"C:\ "[:-1] in labels
    assert "\n".join(labels).encode()


def test_families_of_replicas_say_how_they_are_put_together() -> None:
    """Each family with the label ``upstream`` declares it, and no other does."""
    families = [family for name in NAMES for family in collectors.module(name).FAMILIES]
    families += [*exporter_metrics.FAMILIES, *self_metrics.FAMILIES, *request_metrics.FAMILIES, *scrape.FAMILIES]
    assert len([family for family in families if "upstream" in family.labels]) > 30
    for family in families:
        assert ("upstream" in family.labels) == bool(family.combine), family.name
        assert family.type == "gauge" or family.combine in ("", "sum"), "counters and buckets can only be added up"
    assert not any("upstream" in family.labels for family in request_metrics.FAMILIES)
