from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.kinds.tgi import snapshot
from tests.support.pages import pages

if TYPE_CHECKING:
    from modelhost_exporter.engines.snapshot import Engine


def engine_of(metrics: bytes = b"", **info: Any) -> Engine:
    """Return the engine of a TGI with these metrics and this /info."""
    served = {"/info": json.dumps({"model_id": "m", **info}).encode(), "/metrics": metrics}
    return snapshot(served.__getitem__).engine


def test_the_limit_of_admission_is_no_capacity() -> None:
    """max_concurrent_requests includes those that wait; the size of a batch is what runs side by side."""
    assert engine_of(max_concurrent_requests=128).request_capacity is None
    assert engine_of(max_concurrent_requests=128, max_batch_size=16).request_capacity == 16
    assert engine_of(max_concurrent_requests=128, max_batch_size=None).request_capacity is None


def test_refused_requests_are_no_errors() -> None:
    """Bad or too many requests are refused before they run, and one whose client left is aborted."""
    refused = b"".join(
        b'tgi_request_failure{err="%s"} 3\n' % err for err in (b"validation", b"overloaded", b"template")
    )
    assert engine_of(refused + b"tgi_request_success 7\n").requests_finished == {"unknown": 7}
    ran = b"".join(b'tgi_request_failure{err="%s"} 2\n' % err for err in (b"generation", b"incomplete", b"dropped"))
    assert engine_of(refused + ran).requests_finished == {"error": 4, "abort": 2}


def test_the_time_per_token_is_not_that_of_output() -> None:
    """Its mean time per token includes the time of the prompt."""
    served = pages("tgi")
    assert b"tgi_request_mean_time_per_token_duration_bucket" in served["/metrics"]
    assert "time_per_output_token" not in snapshot(served.__getitem__).engine.latencies
