from __future__ import annotations

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelhost_exporter.metrics.text_format import parse_text

TEXT = r"""
# HELP backup_bytes_total Bytes\nof a "backup" \\.
# TYPE backup_bytes_total counter
# A comment.
backup_bytes_total{job="a\"b\\c\nd",} 1e3
  backup_bytes_total { job = "x" }   -0.5
# TYPE seconds histogram
seconds_bucket{le="1"} 2
seconds_bucket{le="+Inf"} 3
seconds_sum 4
seconds_count 3
# TYPE size summary
size{quantile="0.5"} NaN
size_sum 1
size_count 1
seconds_other +Inf
# HELP empty without a sample
alone 7
"""


def test_families() -> None:
    """Families have their samples under their types, and all that a text may have is read."""
    families = parse_text(TEXT)
    assert {name: (family.type, len(family.samples)) for name, family in families.items()} == {
        "backup_bytes_total": ("counter", 2),
        "seconds": ("histogram", 4),
        "size": ("summary", 3),
        "seconds_other": ("untyped", 1),
        "alone": ("untyped", 1),
    }
    assert families["backup_bytes_total"].help == 'Bytes\nof a "backup" \\.'
    assert families["backup_bytes_total"].samples[0].labels == {"job": 'a"b\\c\nd'}
    assert families["seconds_other"].samples[0].value == float("inf")


def test_the_same_as_prometheus_client() -> None:
    """Every sample is read as by Prometheus' own library."""
    ours = {(s.name, *s.labels.items()): repr(float(s.value)) for f in parse_text(TEXT).values() for s in f.samples}
    theirs = {
        (s.name, *s.labels.items()): repr(float(s.value))
        for f in text_string_to_metric_families(TEXT)
        for s in f.samples
    }
    assert ours == theirs


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a 1 1700000000000", "time"),
        ("a", "no sample"),
        ("a{b} 1", "labels"),
        ('a{b="1" c="2"} 1', "labels"),
        ('a{b="1",b="2"} 1', "labels"),
        ('a{__name__="x"} 1', "labels"),
        ('a{b="\\x"} 1', "labels"),
        ('a{b="1} 1', "no sample"),
        ("a 1_0", "no value"),
        ("a infinity", "no value"),
        ("a \u0661", "no value"),
        ("a-b 1", "no sample"),
        ("# TYPE a odd", "unknown type"),
        ("a 1\na 2", "twice"),
        ('a{x="1",y="2"} 1\na{y="2",x="1"} 2', "twice"),
        ("a 1\n# TYPE a gauge", "below"),
    ],
)
def test_what_is_not_allowed(line: str, problem: str) -> None:
    """The number of the line is named."""
    number = 2 + line.count("\n")
    with pytest.raises(ValueError, match=rf"line {number}: .*{problem}"):
        parse_text(f"good 1\n{line}\n")


@pytest.mark.parametrize("part", ['a{b="', 'b="1",', "\\", "{", '"', " ", "\t", "1", "a", "# HELP ", '\\"'])
def test_the_time_is_linear(part: str) -> None:
    """Eight times the text takes about eight times as long, not sixty-four times; a twentieth of a second is noise."""

    def seconds(length: int) -> float:
        text = "a{" + part * (length // len(part))
        began = time.process_time()
        with pytest.raises(ValueError, match="line 1"):
            parse_text(text)
        return time.process_time() - began

    assert seconds(800_000) < 24 * seconds(100_000) + 0.05
