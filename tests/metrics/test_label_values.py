"""Labels of any length, told apart and bounded."""

from __future__ import annotations

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from modelhost_exporter.metrics.exposition import OPENMETRICS, TEXT, Format
from modelhost_exporter.metrics.families import gauge
from modelhost_exporter.metrics.label_values import DEFAULT_MAX_BYTES, bounded, shortened


@pytest.mark.parametrize("character", ["a", "é", "€", "😀"])
@pytest.mark.parametrize("limit", range(32, 37))
def test_text_is_cut_between_characters(character: str, limit: int) -> None:
    """What fits stays as it is; else as many whole characters as fit remain, before the hash of the whole."""
    size = len(character.encode())
    fits = character * (limit // size)
    assert shortened(fits, limit) == fits
    cut = shortened(fits + character, limit)
    assert cut == f"{character * ((limit - 9) // size)}~{cut[-8:]}"
    assert shortened(fits + character * 2, limit) not in (cut, fits)


def test_half_a_surrogate_pair_is_cut_too() -> None:
    """Text that cannot be encoded becomes text that can."""
    assert shortened("\ud800" * 100, 32).encode() == b"?" * 23 + shortened("\ud800" * 100, 32)[-9:].encode()


@pytest.mark.parametrize("form", [TEXT, OPENMETRICS])
@pytest.mark.parametrize("character", ["x", "\\", "\n", '"', "😀", "\udcff"])
def test_every_label_of_a_page_is_bounded(form: Format, character: str) -> None:
    """Device, mount point, GPU, process: whatever it is, its value has at most 200 bytes, and stays apart."""
    values = [character * length for length in (1000, 1001)]
    family = gauge("it", "Help.", "device").by(((value,), 1.0) for value in values)
    plain = Metric("plain", "Help.", "gauge")
    for value in values:
        plain.add_sample("plain", {"device": value.replace("\udcff", "?")}, 1.0)
    page = form.page([form.render([*family, plain])]).decode()
    for metric in text_string_to_metric_families(page):
        found = {sample.labels["device"] for sample in metric.samples}
        assert len(found) == len(metric.samples) == 2
        assert max(len(value.encode()) for value in found) <= DEFAULT_MAX_BYTES


def test_short_values_stay() -> None:
    """The longest value that fits is written as it is."""
    assert bounded("x" * 200) == "x" * 200
    assert bounded("é" * 100) == "é" * 100
