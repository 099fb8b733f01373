from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.engines.kinds.litellm import snapshot
from tests.support.pages import pages

if TYPE_CHECKING:
    from modelhost_exporter.engines.snapshot import Engine


def engine_of(*lines: str) -> Engine:
    """Return the engine of a LiteLLM with these metrics."""
    served = {**pages("litellm-1.95"), "/metrics/": "\n".join(lines).encode()}
    return snapshot(served.__getitem__).engine


@pytest.mark.parametrize(("counted", "running"), [(1, 0), (2, 1), (0, 0)])
def test_the_request_for_its_page_is_none_that_runs(counted: int, running: int) -> None:
    """Its gauge is written while it serves the page itself: a server that does nothing has 1 (seen with 1.95.1)."""
    assert engine_of(f"litellm_in_flight_requests {counted}").requests_running == running


def test_what_a_provider_does_not_report_is_unknown() -> None:
    """Cached tokens are counted where a provider reports some: of others it is not known whether they were cached."""
    lines = [
        *(
            f'litellm_input_tokens_metric_total{{api_provider="{p}",model="{m}",team="{t}"}} {n}'
            for p, m, t, n in ASKED
        ),
        'litellm_input_cached_tokens_metric_total{api_provider="openai",model="m",team="a"} 40',
        'litellm_input_cache_creation_tokens_metric_total{api_provider="anthropic",model="m",team="a"} 30',
    ]
    assert engine_of(*lines).input_tokens == {"hit": 40, "miss": 330, "write": 30, "unknown": 50}


ASKED = (("openai", "m", "a", 100), ("openai", "m", "b", 200), ("anthropic", "m", "a", 100), ("openai", "n", "a", 50))


def test_more_cached_than_read_is_unknown() -> None:
    """Counters that contradict each other say nothing about the cache."""
    lines = ('litellm_input_tokens_metric_total{model="m"} 5', 'litellm_input_cached_tokens_metric_total{model="m"} 6')
    assert engine_of(*lines).input_tokens == {"unknown": 5}
