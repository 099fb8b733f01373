from __future__ import annotations

from modelhost_exporter.engines.kinds.triton import snapshot
from tests.support.pages import pages


def test_requests_of_one_model_are_counted_those_of_several_are_not() -> None:
    """One of several models may be an ensemble, whose requests are also counted by its parts."""
    alone = b"\n".join(
        b'nv_%s{model="m",version="1"} %d' % line
        for line in (
            (b"inference_request_success", 7),
            (b"inference_request_failure", 1),
            (b"inference_pending_request_count", 2),
        )
    )
    served = {**pages("triton"), "/metrics": alone}
    engine = snapshot(served.__getitem__).engine
    assert (engine.requests_finished, engine.requests_waiting) == ({"unknown": 7, "error": 1}, 2)
    served["/metrics"] += alone.replace(b'"m"', b'"ensemble"').join((b"\n", b"\n"))
    engine = snapshot(served.__getitem__).engine
    assert (engine.requests_finished, engine.requests_waiting) == ({}, None)
