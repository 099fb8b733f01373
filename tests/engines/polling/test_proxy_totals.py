from __future__ import annotations

import tracemalloc

from prometheus_client import CollectorRegistry

from modelhost_exporter.engines.polling.proxy_totals import (
    Passed,
    ProxyTotals,
    ProxyTraffic,
    RecentTokens,
    RepeatedPrompts,
    SentToReplica,
    TokenTotals,
    unproxied_ratio,
)
from modelhost_exporter.proxy.self_metrics import SelfMetrics
from modelhost_exporter.requests.metrics import RequestMetrics
from modelhost_exporter.requests.observation import RequestLabels, RequestObservation, Tokens
from modelhost_exporter.requests.slo import Objectives


def observed(
    model: str = "m", operation: str = "chat", tokens: Tokens | None = None, *, server: str = "a"
) -> RequestObservation:
    """Return a successful request."""
    labels = RequestLabels(server, model, operation)
    return RequestObservation(labels, False, "ok", "200", 1.0, tokens=tokens or Tokens(10, output=5))


def test_totals_are_counted_by_server() -> None:
    """Tokens, requests and requests in flight are those of RequestMetrics; health checks of clients are no traffic."""
    registry = CollectorRegistry()
    counts = ProxyTotals(registry)
    metrics = RequestMetrics(registry, (counts.add,))
    for model in ("m", "m", "n"):
        metrics.record(observed(model, tokens=Tokens(10, input_cache_hit=4, output=5)), Objectives())
    metrics.record(observed("unknown", "other", Tokens()), Objectives())
    metrics.record(observed(server="b"), Objectives())
    metrics.in_flight(RequestLabels("a", "m", "chat"), "waiting").inc()
    metrics.in_flight(RequestLabels("a", "unknown", "other"), "blocking").inc()
    assert counts.of("a") == Passed(45, {"m": 2, "n": 1}, {"m": 1})
    assert counts.of("b") == Passed(15, {"m": 1}, {})
    assert counts.of("c") == Passed()


def test_prompts_of_several_answers_are_counted_as_the_engine_counts_them() -> None:
    """A prompt that gets three answers passes once: vLLM counts it three times, SGLang once more for the prefix."""
    counts = ProxyTotals(CollectorRegistry())
    counts.add(observed(tokens=Tokens(100, output=60)))
    assert counts.of("a").prompts is None
    counts.add(observed(tokens=Tokens(123, output=60))._replace(choices=3))
    counts.add(observed(tokens=Tokens(7, output=4))._replace(choices=2))
    counts.add(observed(tokens=Tokens())._replace(choices=2))
    passed = counts.of("a")
    assert passed.prompts == RepeatedPrompts(130, 253)
    assert [passed.tokens_as_counted(count) for count in ("once", "per_choice", "per_choice_and_prefix")] == [
        *(354, 354 + 2 * 123 + 7, 354 + 3 * 123 + 2 * 7)
    ]
    assert Passed(5).tokens_as_counted("per_choice") == 5


def test_requests_in_progress_are_read_once_for_all_servers() -> None:
    """Fifty simultaneous polls read the registry once; a second later it is read again."""
    registry, now = CollectorRegistry(), [0.0]
    counts = ProxyTotals(registry, lambda: now[0])
    metrics = RequestMetrics(registry, (counts.add,))
    assert counts.of("a").in_flight == {}
    metrics.in_flight(RequestLabels("a", "m", "chat"), "waiting").inc()
    metrics.record(observed(), Objectives())
    assert counts.of("a") == Passed(15, {"m": 1}, {})
    now[0] = 1.0
    assert counts.of("a").in_flight == {"m": 1}


def test_totals_that_were_read_stay_as_they_were() -> None:
    """Requests that finish later do not change the totals that a poll compares."""
    counts = ProxyTotals(CollectorRegistry())
    counts.add(observed())
    before = counts.of("a")
    counts.add(observed())
    assert (before.requests, counts.of("a").requests) == ({"m": 1}, {"m": 2})


def test_totals_are_zero_without_a_proxy() -> None:
    """A registry without request metrics is no error."""
    assert ProxyTotals(CollectorRegistry()).of("a") == Passed()


def test_a_removed_model_leaves_its_share_of_the_sum() -> None:
    """Traffic is found although a model's requests were removed with its series, for all models and for that one."""
    counts = ProxyTotals(CollectorRegistry())
    of_all, of_model = ProxyTraffic(lambda: counts.of("a")), ProxyTraffic(lambda: counts.of("a"))
    counts.add(observed("m"))
    counts.add(observed("m"))
    assert (of_all(None), of_model(frozenset("m"))) == (True, True)
    counts.remove_model("a", "m")
    counts.remove_model("b", "m")
    assert counts.of("a") == Passed(30, {"unknown": 2}, {})
    assert (of_all(None), of_model(frozenset("m"))) == (False, False)
    counts.add(observed("m"))
    assert (of_all(None), of_model(frozenset("m"))) == (True, True)


def test_traffic_is_reported_once() -> None:
    """A finished request counts as traffic once; one in flight counts until it ends, and once more then."""
    passed = [Passed()]
    traffic = ProxyTraffic(lambda: passed[0])
    assert not traffic(None)
    passed[0] = Passed(requests={"m": 1})
    assert [traffic(None), traffic(None)] == [True, False]
    passed[0] = Passed(requests={"m": 1}, in_flight={"m": 1})
    assert [traffic(None), traffic(None)] == [True, True]
    passed[0] = Passed(requests={"m": 2}, in_flight={"m": 0})
    assert [traffic(None), traffic(None)] == [True, False]


def test_traffic_is_told_apart_by_model() -> None:
    """Requests for one model are not traffic of another, under any of its names."""
    traffic = ProxyTraffic(lambda: Passed(requests={"big": 1}))
    assert not traffic(frozenset({"small"}))
    assert traffic(frozenset({"org/big:Q4", "big"}))
    assert traffic(None)


def test_an_engine_that_lists_other_names_in_each_poll_takes_no_memory() -> None:
    """The stored state is limited by the proxy's labels, not by the engine's models and their aliases."""
    traffic = ProxyTraffic(lambda: Passed(requests={"m": 1}))

    def poll(number: int) -> None:
        for model in range(100):
            traffic(frozenset({"m", f"{'x' * 200}-{number}-{model}"}))

    poll(0)
    tracemalloc.start()
    try:
        for number in range(1, 20):
            poll(number)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


def share(*steps: tuple[float, float | None, float]) -> float | None:
    """Return the ratio after these totals."""
    tokens = RecentTokens(window_seconds=100)
    for at, engine, proxied in steps:
        tokens.note(at, engine, proxied)
    totals = tokens.totals()
    return unproxied_ratio([totals]) if totals is not None else None


def test_the_unobserved_share() -> None:
    """The share is that of the engine's tokens since the first poll that did not pass the proxy."""
    assert share((0, 1000, 0), (10, 1100, 25)) == 0.75
    assert share((0, 1000, 50), (10, 1100, 150)) == 0
    assert share((0, 1000, 0), (10, 1100, 0)) == 1


def test_the_share_is_absent_without_traffic() -> None:
    """The share is absent until the engine has counted tokens."""
    assert share() is None
    assert share((0, 1000, 0), (10, 1000, 0)) is None
    assert share((0, None, 0), (10, None, 10)) is None


def test_the_share_survives_a_restart_of_the_engine() -> None:
    """A total that decreased has restarted at 0: its value is the increase."""
    assert share((0, 1000, 0), (10, 100, 50)) == 0.5


def test_a_proxy_that_saw_more_than_the_engine_is_no_negative_share() -> None:
    """The two counters are read at different times; the share stays within 0 and 1."""
    assert share((0, 0, 0), (10, 100, 110)) == 0


def test_the_share_is_of_the_last_hour() -> None:
    """Values older than the window are dropped."""
    assert share((0, 0, 0), (10, 100, 0), (150, 200, 100)) == 0


def test_attempts_are_counted_by_replica() -> None:
    """What the proxy sent to a replica, whatever the outcome; a server with one URL has no such count."""
    registry = CollectorRegistry()
    upstreams = SelfMetrics(registry).upstreams
    counts = ProxyTotals(registry)
    for outcome in ("ok", "ok", "server_error"):
        upstreams.begin("a", "h:1")
        upstreams.end("a", "h:1", outcome)
    upstreams.begin("a", "h:2")
    assert counts.of("a", "h:1").attempts == SentToReplica(3, 0)
    assert counts.of("a", "h:2").attempts == SentToReplica(0, 1)
    assert counts.of("a", "h:3").attempts == SentToReplica()
    assert counts.of("a").attempts is None


def test_a_replica_has_the_traffic_that_was_sent_to_it() -> None:
    """Every model's traffic counts in a poll for which requests were sent, or are in progress there; not in others."""
    passed = [Passed(attempts=SentToReplica())]
    traffic = ProxyTraffic(lambda: passed[0])

    def polled(totals: Passed) -> list[bool]:
        passed[0] = totals
        traffic.begin_poll()
        return [traffic(frozenset({model})) for model in ("m", "n")]

    assert polled(Passed(requests={"m": 1}, attempts=SentToReplica())) == [False, False]
    assert polled(Passed(requests={"m": 2, "n": 1}, attempts=SentToReplica(1))) == [True, True]
    assert polled(Passed(requests={"m": 3, "n": 1}, attempts=SentToReplica(1))) == [False, False]
    assert polled(Passed(requests={"m": 4, "n": 1}, attempts=SentToReplica(1, 1))) == [True, False]


def test_traffic_of_a_replica_that_is_counted_late_is_not_missed() -> None:
    """The count by replica is up to a second older than that of the server: a poll in between waits for it."""
    passed = [Passed(requests={"m": 1}, attempts=SentToReplica())]
    traffic = ProxyTraffic(lambda: passed[0])
    traffic.begin_poll()
    assert not traffic(None)
    passed[0] = Passed(requests={"m": 1}, attempts=SentToReplica(1))
    traffic.begin_poll()
    assert traffic(None)
    traffic.begin_poll()
    assert not traffic(None)


def test_the_share_of_several_replicas() -> None:
    """Their engines' tokens are added up; what passed is the same for all, and most where the polls began first."""
    assert unproxied_ratio([TokenTotals(300, 200), TokenTotals(100, 180)]) == 0.5
    assert unproxied_ratio([TokenTotals(0, 0), TokenTotals(0, 0)]) is None
    assert unproxied_ratio([]) is None
