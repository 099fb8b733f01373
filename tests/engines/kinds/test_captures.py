from __future__ import annotations

import pytest

from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.pages import PollPolicy
from modelhost_exporter.engines.snapshot import Engine
from tests.engines.kinds.captured import polled, said, snapshot
from tests.engines.kinds.expected_engines import ENGINES
from tests.engines.kinds.expected_families import FAMILIES
from tests.engines.kinds.expected_models import MODELS, VERSIONS
from tests.support.pages import SERVERS, pages


def test_every_capture_has_expected_values() -> None:
    """Each captured server is compared as a whole: a real one by what a poll shows, a written one by its snapshot."""
    assert SERVERS.keys() == FAMILIES.keys() | (ENGINES.keys() & MODELS.keys())
    assert not FAMILIES.keys() & ENGINES.keys()


@pytest.mark.parametrize("folder", FAMILIES)
def test_every_sample_of_a_poll(folder: str) -> None:
    """A poll of a real server's pages shows these samples of all families, and no others."""
    shown, expected = polled(folder), FAMILIES[folder]
    assert sorted(shown) == sorted(expected)
    assert shown == pytest.approx(expected)


@pytest.mark.parametrize("folder", ENGINES)
def test_engine(folder: str) -> None:
    """Every number of a captured engine is in the right field, and numbers that it lacks are absent."""
    assert said(snapshot(folder).engine) == ENGINES[folder]


@pytest.mark.parametrize("folder", MODELS)
def test_models(folder: str) -> None:
    """Every model has the fields that its server reports, and no others."""
    assert [said(model) for model in snapshot(folder).models] == MODELS[folder]


@pytest.mark.parametrize("folder", VERSIONS)
def test_version(folder: str) -> None:
    """The version is the one that the server reports."""
    assert snapshot(folder).version == VERSIONS[folder]


@pytest.mark.parametrize("folder", SERVERS)
def test_a_missing_page_of_metrics_is_absent_not_zero(folder: str) -> None:
    """Without the page of its numbers these are absent."""
    numbers = ("/metrics", "/prometheus/metrics", "/api/extra/perf")
    served = {path: body for path, body in pages(folder).items() if not path.startswith(numbers)}
    engine = kinds.engine_kind(SERVERS[folder]).snapshot(served.__getitem__, PollPolicy("on")).engine
    assert said(engine).keys() <= {
        "request_capacity",
        "kv_cache_capacity_tokens",
        "requests_running",
        "kv_cache_usage_ratio",
    }
    assert engine.output_tokens is None


def test_an_engine_without_numbers_says_nothing() -> None:
    """Every field of an engine is absent by default."""
    assert said(Engine()) == {}
    assert Engine().tokens is None
