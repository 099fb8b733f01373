from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.engines.kinds.sglang import snapshot
from tests.support.pages import pages

if TYPE_CHECKING:
    from modelhost_exporter.engines.snapshot import Engine


def test_ranks_of_one_engine_count_once() -> None:
    """Tensor-parallel ranks report the same requests and count once; data-parallel engines are summed."""
    lines = [
        f'sglang:{name}{{model_name="m",tp_rank="{tp}",dp_rank="{dp}"}} {value}'
        for name, value in (("num_running_reqs", 3), ("max_total_num_tokens", 100))
        for tp in (0, 1)
        for dp in (0, 1)
    ]
    lines += ['sglang:generation_tokens_total{model_name="m"} 50']
    engine = snapshot({**pages("sglang"), "/metrics": "\n".join(lines).encode()}.__getitem__).engine
    assert (engine.requests_running, engine.kv_cache_capacity_tokens, engine.output_tokens) == (6, 200, 50)


def engine_of(*lines: str, **info: object) -> Engine:
    """Return the engine of a SGLang with these metrics and this /server_info."""
    served = {**pages("sglang"), "/metrics": "\n".join(lines).encode(), "/server_info": json.dumps(info).encode()}
    return snapshot(served.__getitem__).engine


def test_requests_by_priority_are_parts_of_the_total() -> None:
    """With priority scheduling priority="" is the total: three running requests are three, on each rank."""
    lines = [
        f'sglang:num_{queue}_reqs{{tp_rank="{rank}",dp_rank="0",priority="{priority}"}} {value}'
        for queue in ("running", "queue")
        for rank in (0, 1)
        for priority, value in (("", 3), ("0", 1), ("7", 2))
    ]
    engine = engine_of(*lines)
    assert (engine.requests_running, engine.requests_waiting) == (3, 3)
    plain = engine_of('sglang:num_running_reqs{tp_rank="0"} 2')
    assert plain.requests_running == 2, "without it there is no such label"


@pytest.mark.parametrize("label", ["is_streaming", "stream"])
def test_the_time_to_first_token_is_that_of_streams(label: str) -> None:
    """The first token of a request that is not streamed is its last; a page without the label has all requests."""
    name = "sglang:time_to_first_token_seconds"
    lines = [
        f"{name}{sample}{{{labels}}} {value}"
        for streams, value in (("true", 2), ("false", 50))
        for sample, labels in (
            ("_bucket", f'{label}="{streams}",le="+Inf"'),
            ("_sum", f'{label}="{streams}"'),
        )
    ]
    found = engine_of(*lines).latencies["time_to_first_token"]
    assert (found.count, found.sum) == (2, 2)
    old = engine_of(f'{name}_bucket{{le="+Inf"}} 4', f"{name}_sum 4").latencies["time_to_first_token"]
    assert old.count == 4


def test_outcomes_are_finish_reasons() -> None:
    """Successful requests ended for a reason that is not known; refused ones never began."""
    outcomes = ("success", "abort", "rejected", "invalid_request", "engine_fault", "other")
    lines = [f'sglang:finished_requests_by_outcome_total{{outcome="{name}"}} {n}' for n, name in enumerate(outcomes, 1)]
    found = engine_of(*lines, 'sglang:num_requests_total{is_streaming="true"} 9').requests_finished
    assert found == {"unknown": 1, "abort": 2, "error": 5, "other": 6}


def test_requests_that_run_side_by_side_are_those_in_force() -> None:
    """The limit of each data-parallel engine counts, not the configured one; that is used where it is all there is."""
    limit = "effective_max_running_requests_per_dp"
    assert engine_of(internal_states=[{limit: 48}, {limit: 48}], max_running_requests=200).request_capacity == 96
    assert engine_of(internal_states=[{limit: 48}, {}], max_running_requests=64).request_capacity == 64
    assert engine_of(max_running_requests=None).request_capacity is None
    assert engine_of("sglang:max_running_requests 7").request_capacity is None, "no such metric exists"


def test_the_time_of_a_load_is_that_of_its_weights() -> None:
    """Phases of the start overlap; the older metric has that of each rank, of which the slowest counts."""
    phases = 'sglang:startup_time_seconds{phase="load_weight"} 6\nsglang:startup_time_seconds{phase="scheduler_e2e"} 30'
    older = "\n".join(f'sglang:engine_load_weights_time{{dp_rank="{rank}"}} {4 + rank}' for rank in (0, 1))
    for metrics, seconds in ((phases, 6), (older, 5)):
        (model,) = snapshot({**pages("sglang"), "/metrics": metrics.encode()}.__getitem__).models
        assert model.load_seconds == seconds


def test_an_older_server_has_its_information_elsewhere() -> None:
    """Before /server_info there was /get_server_info."""
    served = pages("sglang")
    served["/get_server_info"] = served.pop("/server_info")
    assert snapshot(served.__getitem__).version == "0.5.17"
