from __future__ import annotations

import pytest

from modelhost_exporter.engines.polling.idle_time import IdleTime
from modelhost_exporter.engines.polling.proxy_totals import Passed, SentToReplica
from modelhost_exporter.engines.snapshot import Engine

QUIET = Engine(requests_running=0, output_tokens=50)


@pytest.mark.parametrize(
    ("before", "after", "idle"),
    [
        (QUIET, QUIET, True),
        (QUIET, Engine(requests_running=1, output_tokens=50), False),
        (Engine(requests_running=1, output_tokens=50), QUIET, False),
        (QUIET, Engine(requests_running=0, requests_waiting=2, output_tokens=50), False),
        (QUIET, Engine(requests_running=0, output_tokens=51), False),
        (QUIET, Engine(requests_running=0, output_tokens=50, input_tokens={"miss": 1}), False),
        (QUIET, Engine(requests_running=0, output_tokens=3), False),
        (Engine(requests_finished={"stop": 2}), Engine(requests_finished={"stop": 2}), True),
        (Engine(requests_finished={"stop": 2}), Engine(requests_finished={"stop": 2, "length": 1}), False),
        (Engine(), Engine(), None),
        (Engine(), QUIET, None),
        (QUIET, Engine(), None),
    ],
)
def test_two_polls_show_whether_there_were_requests(before: Engine, after: Engine, idle: bool | None) -> None:
    """A request in progress at either poll, or a total that changed between them, is a request."""
    time = IdleTime()
    assert time.note(before, None) is None
    assert time.note(after, None) is idle


def test_an_engine_that_counts_nothing_is_judged_by_its_proxy() -> None:
    """Requests that passed the proxy, or are in it, are known also of an engine without counters."""
    time = IdleTime()
    steps = (
        Passed(),
        Passed(),
        Passed(in_flight={"m": 1}),
        Passed(requests={"m": 1}),
        Passed(requests={"m": 1}),
        Passed(requests={"m": 2}),
    )
    assert [time.note(Engine(), passed) for passed in steps] == [None, True, False, False, True, False]


def test_a_replica_is_idle_while_others_work() -> None:
    """Of several replicas, what the proxy sent to this one counts."""
    time = IdleTime()
    time.note(Engine(), Passed(requests={"m": 1}, attempts=SentToReplica(5, 0)))
    assert time.note(Engine(), Passed(requests={"m": 9}, in_flight={"m": 2}, attempts=SentToReplica(5, 0))) is True
    assert time.note(Engine(), Passed(requests={"m": 9}, attempts=SentToReplica(6, 0))) is False


def test_after_a_failed_poll_nothing_is_known() -> None:
    """What happened while the server did not answer is not known."""
    time = IdleTime()
    time.note(QUIET, None)
    time.forget()
    assert time.note(QUIET, None) is None
