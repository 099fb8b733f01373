from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from modelhost_exporter.engines.label_rules import COPY, only, parts
from modelhost_exporter.engines.metrics_page import MAX_LINE_BYTES, MAX_SAMPLES, EnginePage, parse_labels
from modelhost_exporter.engines.pages import UnexpectedContent
from modelhost_exporter.engines.snapshot import EngineHistogram as Buckets
from tests.support.pages import CAPTURES, PREFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

PAGES = sorted(CAPTURES.glob("*/*.prom"))


def _sorted(samples: Iterable[tuple[str, Mapping[str, str], float]]) -> list[tuple[str, list[tuple[str, str]], float]]:
    """Return samples in a fixed order; prometheus_client appends _total to every counter."""
    return sorted((name.removesuffix("_total"), sorted(labels.items()), value) for name, labels, value in samples)


@pytest.mark.parametrize("file", PAGES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_sample_is_prometheus_client_s(file: Path) -> None:
    """On every captured page, the engine's samples have the labels and values that prometheus_client parses."""
    text = file.read_text()
    prefix = next(prefix for prefix in PREFIXES if f"\n{prefix}" in f"\n{text}")
    theirs = [
        (sample.name.removeprefix(prefix), sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(prefix) and math.isfinite(sample.value)
    ]
    series = EnginePage(text.encode(), prefix)._series
    ours = [(name, parse_labels(labels), value) for name, of_one in series.items() for labels, value in of_one.items()]
    assert ours
    assert _sorted(ours) == _sorted(theirs)


def test_a_page_is_split_by_a_label() -> None:
    """Each value of the label has a page of its series; series without the label are in none."""
    page = b'a_x{m="1",n="p"} 1\na_x{m="1",n="q"} 2\na_x{m="2"} 4\na_y{m="2"} 8\na_y 16\n'
    parts = EnginePage(page, "a_").split("m")
    assert {value: (part.total("x"), part.total("y")) for value, part in parts.items()} == {"1": (3, None), "2": (4, 8)}


@given(value=st.text(max_size=30).filter(lambda text: "\r" not in text))
def test_any_label_value_is_read_back(value: str) -> None:
    """Values that prometheus_client escapes (quotes, backslashes, line ends, braces) are unescaped."""
    registry = CollectorRegistry()
    Counter("vllm_things", "Things.", ["name"], registry=registry).labels(value).inc(3)
    page = EnginePage(generate_latest(registry), "vllm_")
    expected = value.encode("utf-8", "replace").decode()
    if not {"\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\x0b", "\x0c"} & set(value):
        assert page.by("name", "things_total") == {expected: 3}


def test_what_is_no_number_is_left_out() -> None:
    """NaN, infinity, negative numbers and text are skipped; the other series are read."""
    lines = [
        "x:a 1",
        "x:a NaN",
        "x:a +Inf",
        "x:a -1",
        "x:a many",
        'x:a{b="}"} 2',
        "x:a{ 3",
        "x:a",
        'x:a{c="d"} 4 1700000000000',
    ]
    page = EnginePage("\n".join(lines).encode(), "x:")
    assert page.total("a") == 7


def test_a_series_that_is_there_twice_counts_once() -> None:
    """Of duplicate series, which are invalid, the last is used."""
    assert EnginePage(b'x:a{b="c"} 1\nx:a{b="c"} 2\nx:a 4', "x:").total("a") == 6


def test_copies_count_once() -> None:
    """Series that differ only in labels of copies count once, with the maximum; other labels distinguish series."""
    lines = [
        *(f'x:a{{tp="{tp}",dp="{dp}",q="a\\"b"}} {value}' for tp, dp, value in ((0, 0, 1), (1, 0, 2), (0, 1, 4))),
        *(f'x:h_bucket{{le="{bound}",tp="{tp}"}} 3' for bound in ("1", "+Inf") for tp in (0, 1)),
        *(f'x:h_sum{{tp="{tp}"}} 5' for tp in (0, 1)),
    ]
    page = EnginePage("\n".join(lines).encode(), "x:", rules={"a": {"tp": COPY} | parts("dp"), "h": {"tp": COPY}})
    assert page.total("a") == 6
    assert page.by("q", "a") == {'a"b': 6}
    assert page.histogram("h") == Buckets(((1, 3), (math.inf, 3)), 5)


def test_of_a_total_and_its_parts_one_counts() -> None:
    """Series with chosen values of a label count, and those without it; an empty value is one to choose, too."""
    lines = ['x:a{p=""} 3', 'x:a{p="0"} 1', 'x:a{p="9"} 2', "x:a 10"]
    assert EnginePage("\n".join(lines).encode(), "x:", rules={"a": {"p": only("")}}).total("a") == 13
    assert EnginePage("\n".join(lines).encode(), "x:", rules={"a": {"p": only("0", "9")}}).total("a") == 13
    assert EnginePage("\n".join(lines[1:3]).encode(), "x:", rules={"a": {"p": only("")}}).total("a") is None


def test_metrics_without_rules_are_not_read() -> None:
    """What is not in the table of rules is left out; a histogram is there under its name without suffix."""
    lines = ["x:a 1", "x:b 1", "x:h_sum 2", 'x:h_bucket{le="+Inf"} 1', "x:pending_count 3"]
    page = EnginePage("\n".join(lines).encode(), "x:", rules={"a": {}, "h": {}, "pending_count": {}})
    assert [page.total(name) for name in ("a", "b", "h_sum", "pending_count")] == [1, None, 2, 3]
    assert page.histogram("h") is not None


def test_sums_by_several_labels() -> None:
    """Values of the labels are the key; a missing label is None."""
    page = EnginePage(b'x:a{b="1",c="2",d="3"} 1\nx:a{b="1",c="2",d="4"} 2\nx:a{b="1"} 4', "x:")
    assert page.grouped(("b", "c"), "a") == {("1", "2"): 3, ("1", None): 4}


def test_the_first_prefix_on_the_page_counts() -> None:
    """A page with an engine's old and new names is not counted twice."""
    page = EnginePage(b"sglang_n 1\nsglang:n 1\n", "sglang:", "sglang_")
    assert page.total("n") == 1
    assert not EnginePage(b"other 1\n", "sglang:", "sglang_")


def test_a_mean_that_is_no_ratio_is_absent() -> None:
    """A usage above 1 is no share, and is left out."""
    assert EnginePage(b'x:u{e="0"} 0.25\nx:u{e="1"} 0.75\n', "x:").ratio("u") == 0.5
    assert EnginePage(b"x:u 45\n", "x:").ratio("u") is None


def test_histograms_are_summed_by_bound() -> None:
    """Series of one histogram are added by bucket, as prometheus_client renders them."""
    registry = CollectorRegistry()
    times = Histogram("x_t_seconds", "Times.", ["engine"], buckets=(0.1, 1), registry=registry)
    for engine, value in (("0", 0.05), ("0", 0.5), ("1", 0.5), ("1", 5.0)):
        times.labels(engine).observe(value)
    found = EnginePage(generate_latest(registry), "x_").histogram("t_seconds")
    assert found is not None
    assert list(found.buckets) == [(0.1, 1), (1, 3), (math.inf, 4)]
    assert found.count == 4
    assert found.sum == pytest.approx(6.05)


@pytest.mark.parametrize(
    "page",
    [
        'x_t_bucket{le="1"} 2\nx_t_sum 1\n',
        'x_t_bucket{le="1"} 3\nx_t_bucket{le="+Inf"} 2\nx_t_sum 1\n',
        'x_t_bucket{le="1"} 1\nx_t_bucket{le="+Inf"} 2\n',
        'x_t_bucket{le="-1"} 0\nx_t_bucket{le="1"} 1\nx_t_bucket{le="+Inf"} 2\nx_t_sum 1\n',
        'x_t_bucket{le="1",e="0"} 1\nx_t_bucket{le="+Inf",e="0"} 2\nx_t_bucket{le="+Inf",e="1"} 2\nx_t_sum 1\n',
        'x_t_bucket{le="one"} 1\nx_t_sum 1\n',
        'x_t_bucket{le="NaN"} 1\nx_t_bucket{le="nan"} 1\nx_t_sum 1\n',
        "".join(f'x_t_bucket{{le="{bound}"}} 1\n' for bound in (*range(128), "+Inf")) + "x_t_sum 1\n",
    ],
)
def test_a_histogram_that_is_not_whole_is_absent(page: str) -> None:
    """A histogram without +Inf or sum, with decreasing counts, other bounds or invalid bounds is left out."""
    assert EnginePage(page.encode(), "x_").histogram("t") is None


def test_a_long_line_costs_itself() -> None:
    """A line over 4 kB is skipped; one of 4 kB and all others are read."""
    name = "b" * (MAX_LINE_BYTES - 10)
    page = EnginePage(f'x:a{{{name}="b"}} 8\nx:a{{{name[5:]}="c"}} 1\nx:a{{d="e"}} 2\n'.encode(), "x:")
    assert page.total("a") == 3


@pytest.mark.parametrize("written", ["1e308", "9" * 300, "1.1e100", "1e999"])
def test_numbers_that_would_overflow_are_left_out(written: str) -> None:
    """Sums and products of the accepted values are finite, however many there are."""
    lines = [f'x:a{{b="{number}"}} {written}\nx:c{{b="{number}"}} 1e100' for number in range(1000)]
    page = EnginePage("\n".join([*lines, "x:a 1"]).encode(), "x:")
    assert page.total("a") == 1
    assert page.by("b", "a") == {}
    assert page.total("c") == pytest.approx(1e103)
    assert page.ratio("c") is None


def test_a_page_of_too_many_samples_is_not_understood() -> None:
    """A partial page would result in wrong sums."""
    line = 'x:a{b="%d"} 1\n'
    assert EnginePage("".join(line % n for n in range(MAX_SAMPLES)).encode(), "x:").total("a") == MAX_SAMPLES
    with pytest.raises(UnexpectedContent, match="more than 50000 samples"):
        EnginePage(b"x:a 1\n" * (MAX_SAMPLES + 1), "x:")
