from __future__ import annotations

import math

from modelhost_exporter.engines.kinds.triton import snapshot
from modelhost_exporter.engines.snapshot import EngineHistogram
from tests.support.pages import pages

BUCKETS = ((b"100", 8), (b"500", 30), (b"2000", 36), (b"5000", 37), (b"+Inf", 37))


def test_failures_have_reasons() -> None:
    """A canceled request is aborted, a rejected one never ran, and all others are errors."""
    lines = [b'nv_inference_request_success{model="m",version="1"} 9'] + [
        b'nv_inference_request_failure{model="m",version="1",reason="%s"} %d' % reason
        for reason in ((b"CANCELED", 4), (b"REJECTED", 8), (b"BACKEND", 1), (b"OTHER", 2))
    ]
    engine = snapshot({**pages("triton"), "/metrics": b"\n".join(lines)}.__getitem__).engine
    assert engine.requests_finished == {"unknown": 9, "abort": 4, "error": 3}


def test_the_first_response_is_in_seconds() -> None:
    """Its histogram is in milliseconds; of several models one may be an ensemble, whose requests would count twice."""
    name = b"nv_inference_first_response_histogram_ms"
    of_one = b"\n".join(
        (
            b'nv_inference_request_success{model="m",version="1"} 37',
            *(b'%s_bucket{model="m",version="1",le="%s"} %d' % (name, *bucket) for bucket in BUCKETS),
            b'%s_count{model="m",version="1"} 37' % name,
            b'%s_sum{model="m",version="1"} 10771' % name,
        )
    )
    served = {**pages("triton"), "/metrics": of_one}
    found = snapshot(served.__getitem__).engine.latencies["time_to_first_token"]
    assert found == EngineHistogram(((0.1, 8), (0.5, 30), (2, 36), (5, 37), (math.inf, 37)), 10.771)
    served["/metrics"] += b"\n" + of_one.replace(b'"m"', b'"ensemble"')
    assert snapshot(served.__getitem__).engine.latencies == {}


def test_a_load_is_that_of_a_model() -> None:
    """Of several versions the slowest counts; 0 means that it is not known."""
    page = b"\n".join(
        (
            b'nv_inference_request_success{model="m",version="1"} 1',
            b'nv_inference_request_success{model="n",version="1"} 1',
            b'nv_model_load_duration_secs{model="m",version="1"} 2.5',
            b'nv_model_load_duration_secs{model="m",version="2"} 3.5',
            b'nv_model_load_duration_secs{model="n",version="1"} 0',
        )
    )
    models = snapshot({**pages("triton"), "/metrics": page}.__getitem__).models
    assert {model.name: model.load_seconds for model in models} == {"m": 3.5, "n": None}


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
