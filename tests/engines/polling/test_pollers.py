from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.engines.polling.pollers import Pollers, pause, run_schedule
from modelhost_exporter.engines.polling.server_poller import PollDependencies, ServerPoller
from modelhost_exporter.engines.polling.settings import PolledServer, Probe
from modelhost_exporter.process import daemon_thread
from modelhost_exporter.requests.observation import RequestLabels, RequestObservation, ServerSeconds, Tokens
from tests.support.pages import pages
from tests.support.programs import wait_until
from tests.support.readings import readings
from tests.support.stand_in import StandIn, standing_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.readings import Readings

HOUR = 3600.0


@pytest.fixture
def pollers() -> Iterator[Pollers]:
    """Yield pollers that are closed at the end; waits until their threads have ended."""
    pollers = Pollers(CollectorRegistry())
    yield pollers
    pollers.close()
    wait_until(lambda: not any(map(watches, daemon_thread.names())), "nothing is polled")


def watches(thread: str) -> bool:
    """Return whether a thread polls or probes a server."""
    return thread.startswith(("poll-", "probe-"))


@pytest.fixture
def server() -> Iterator[StandIn]:
    """Serve Ollama's pages."""
    with standing_in(pages("ollama")) as stand_in:
        yield stand_in


def configured(name: str, server: StandIn, timeout: float = 5.0, interval: float = HOUR) -> PolledServer:
    """Return the settings of a server."""
    return PolledServer(name, ServerUrl(server.url), timeout=Seconds(timeout), interval=interval)


def poller(pollers: Pollers, name: str) -> ServerPoller:
    """Return the poller of a server with one URL."""
    (only,) = pollers._by_name[name]
    return only


def read(pollers: Pollers) -> Readings:
    """Return what a scrape shows."""
    return readings(pollers.collect())


def up(pollers: Pollers) -> dict[tuple[str, ...], float]:
    """Return which servers are up."""
    return read(pollers).get("engine_up", {})


def test_one_dead_server_delays_nothing(pollers: Pollers, server: StandIn) -> None:
    """While one server hangs until its timeout the others are polled and exported, and a scrape polls none."""
    with standing_in({}) as dead:
        dead.pages = dict.fromkeys(("/v1/models", "/props", "/api/ps"), dead.hang)
        pollers.watch([configured("dead", dead, 20), configured("a", server), configured("b", server)])
        wait_until(lambda: len(up(pollers)) == 2, "the living are up")
        assert up(pollers) == {("a",): 1, ("b",): 1}
        asked = len(server.asked)
        for _ in range(5):
            read(pollers)
        assert len(server.asked) == asked
        dead.released.set()


def test_a_reload_keeps_what_did_not_change(pollers: Pollers, server: StandIn) -> None:
    """Unchanged servers keep their thread and counters; new ones start, and removed ones leave the page."""
    keep, leave = configured("keep", server), configured("leave", server)
    pollers.watch([keep, leave])
    wait_until(lambda: len(up(pollers)) == 2, "both are up")
    before = poller(pollers, "keep")
    asked = len(server.asked)
    pollers.watch([configured("new", server), keep])
    wait_until(lambda: up(pollers).keys() == {("keep",), ("new",)}, "the new one is up, the other gone")
    assert poller(pollers, "keep") is before
    wait_until(lambda: len(server.asked) > asked, "the new one has asked")
    wait_until(lambda: "poll-leave" not in daemon_thread.names(), "its thread has ended")


def test_a_changed_server_is_watched_anew(pollers: Pollers, server: StandIn) -> None:
    """New settings of a server with the same name take effect at once."""
    pollers.watch([configured("a", server)])
    before = poller(pollers, "a")
    pollers.watch([configured("a", server, 7)])
    assert poller(pollers, "a") is not before
    pollers.watch([configured("a", server, 7, 2 * HOUR)])
    assert poller(pollers, "a").server.timeout == Seconds(7)


def test_a_closed_fleet_has_no_threads(server: StandIn) -> None:
    """Polling stops after close."""
    pollers = Pollers(CollectorRegistry())
    pollers.watch([configured("closing", server)])
    pollers.close()
    wait_until(lambda: "poll-closing" not in daemon_thread.names(), "the thread has ended")
    assert read(pollers) == {}


class OncePolled:
    """A schedule that runs each action once, in the caller's thread, and raises if no thread is free."""

    def __init__(self) -> None:
        self.threads_left = 1000
        self.is_alive = True
        self.stopped: dict[str, threading.Event] = {}
        self.closes: list[Callable[[], None]] = []

    def __call__(  # noqa: PLR0913 - as Schedule
        self,
        action: Callable[[], bool],
        interval_seconds: float,
        stopped: threading.Event,
        name: str,
        close: Callable[[], None],
        *,
        at_once: bool = True,
    ) -> Started:
        """Poll once; RuntimeError if no thread is free."""
        del interval_seconds
        if self.threads_left == 0:
            raise RuntimeError("can't start new thread")
        self.threads_left -= 1
        self.stopped[name] = stopped
        self.closes.append(close)
        if at_once:
            action()
        return Started(self)

    def ended(self) -> set[str]:
        """Return the names of the threads that were told to end."""
        return {name for name, stopped in self.stopped.items() if stopped.is_set()}


@pytest.fixture
def schedule() -> Iterator[OncePolled]:
    """Yield a schedule whose connections are closed at the end."""
    schedule = OncePolled()
    yield schedule
    for close in schedule.closes:
        close()


class Started:
    """A thread of the schedule."""

    def __init__(self, schedule: OncePolled) -> None:
        self._schedule = schedule

    def is_alive(self) -> bool:
        """Return whether it still polls."""
        return self._schedule.is_alive


def test_a_change_that_cannot_be_started_changes_nothing(server: StandIn, schedule: OncePolled) -> None:
    """Pollers and probes that were started for it are stopped, and the current ones do not change."""
    schedule.threads_left = 4
    pollers = Pollers(CollectorRegistry(), schedule=schedule)
    pollers.watch([configured("a", server), configured("b", server)])
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pollers.prepare(
            [configured("a", server), configured("c", server), replace(configured("d", server), probe=Probe())],
        )
    assert up(pollers) == {("a",): 1, ("b",): 1}
    assert schedule.ended() == {"poll-c", "poll-d"}


def test_a_change_is_undone_as_a_whole(server: StandIn, schedule: OncePolled) -> None:
    """A prepared change exports nothing; after undoing it its servers are no longer polled."""
    pollers = Pollers(CollectorRegistry(), schedule=schedule)
    pollers.watch([configured("a", server)])
    change = pollers.prepare([configured("a", server), configured("b", server)])
    assert up(pollers) == {("a",): 1}
    change.undo()
    assert schedule.ended() == {"poll-b"}


def test_overdue_polls_are_no_success(server: StandIn, schedule: OncePolled, caplog: pytest.LogCaptureFixture) -> None:
    """A server whose thread has died is not up; the page has the age of its last poll, and one line is logged."""
    clock = [100.0]
    pollers = Pollers(CollectorRegistry(), dependencies=PollDependencies(now=lambda: clock[0]), schedule=schedule)
    pollers.watch([configured("a", server, timeout=1, interval=10)])
    fresh = read(pollers)
    clock[0] += 32
    assert read(pollers) == fresh, "a poll may take a while"
    clock[0] += 2
    for _ in range(2):
        overdue = read(pollers)
    assert overdue["engine_up"] == {("a",): 0}
    assert overdue["engine_last_success_timestamp_seconds"] == fresh["engine_last_success_timestamp_seconds"]
    assert overdue["model_loads_total"] == fresh["model_loads_total"]
    assert "engine_info" not in overdue
    assert "model_loaded" not in overdue
    assert [record.message for record in caplog.records].count("polls are overdue") == 1


def test_a_server_that_was_never_polled_is_not_up(server: StandIn) -> None:
    """A first poll that does not end is overdue as well."""
    clock = [100.0]

    def never(*_: object, **__: object) -> None:
        pass

    pollers = Pollers(CollectorRegistry(), dependencies=PollDependencies(now=lambda: clock[0]), schedule=never)
    pollers.watch([configured("a", server, timeout=1, interval=10)])
    assert up(pollers) == {}
    clock[0] += 34
    assert up(pollers) == {("a",): 0}


def test_a_reload_replaces_a_thread_that_has_died(server: StandIn, schedule: OncePolled) -> None:
    """The configuration is unchanged, and a new thread polls the server."""
    pollers = Pollers(CollectorRegistry(), schedule=schedule)
    pollers.watch([configured("a", server)])
    before = poller(pollers, "a")
    pollers.watch([configured("a", server)])
    assert poller(pollers, "a") is before
    schedule.is_alive = False
    pollers.watch([configured("a", server)])
    assert poller(pollers, "a") is not before


def test_a_server_is_polled_again_and_again(pollers: Pollers, server: StandIn) -> None:
    """Polling continues on its own schedule."""
    pollers.watch([configured("a", server, interval=0.01)])
    wait_until(lambda: server.asked.count("/api/ps") >= 3, "several polls")


@pytest.mark.parametrize(
    ("interval", "failures", "chance", "seconds"),
    [
        (10, 0, 0.5, 10),
        (10, 0, 0.0, 9),
        (10, 0, 1.0, 11),
        (10, 1, 0.5, 10),
        (10, 2, 0.5, 20),
        (10, 3, 0.5, 40),
        (10, 4, 0.5, 60),
        (10, 5000, 0.5, 60),
        (300, 2, 0.5, 300),
    ],
)
def test_pauses_are_jittered_and_back_off(interval: float, failures: int, chance: float, seconds: float) -> None:
    """An interval varies by a tenth at random, and doubles with each further failure, up to a minute."""
    assert pause(interval, failures, chance) == pytest.approx(seconds)


def test_a_schedule_ends_with_its_close() -> None:
    """A stopped action is not run again, and its connections are closed."""
    ran, closed, stopped = threading.Event(), threading.Event(), threading.Event()

    def act() -> bool:
        ran.set()
        stopped.set()
        return True

    run_schedule(act, HOUR, stopped, "test-schedule", closed.set).join(10)
    assert ran.is_set()
    assert closed.is_set()


def test_a_schedule_survives_its_action() -> None:
    """An unexpected error is a failure like any other: the next run follows after its pause."""
    stopped = threading.Event()
    runs: list[int] = []

    def act() -> bool:
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("unforeseen")
        stopped.set()
        return True

    run_schedule(act, 0.001, stopped, "test-schedule", stopped.set).join(10)
    assert len(runs) == 2


def test_probes_wait_for_the_first_poll(pollers: Pollers, server: StandIn) -> None:
    """The first probes follow after an interval, when the models are known, and then continue."""
    server.pages["/v1/chat/completions"] = b'{"choices":[{}]}'
    probe = Probe(interval=Seconds(0.05))
    pollers.watch([replace(configured("a", server), probe=probe)])
    wait_until(
        lambda: read(pollers).get("probes_total", {}).get(("a", "llama3.2:latest", "ok"), 0) >= 2, "it is probed"
    )
    pollers.watch([configured("b", server)])
    wait_until(lambda: up(pollers) == {("b",): 1}, "another server is there")
    assert "probes_total" not in read(pollers), "a server that is no longer configured has no series"


def test_probes_start_at_0(schedule: OncePolled, server: StandIn) -> None:
    """Of the models that the next round probes, every outcome; they end with the probe."""
    pollers = Pollers(CollectorRegistry(), schedule=schedule)
    probed = replace(configured("a", server), probe=Probe(models=("llama3.2:latest",)))
    pollers.watch([probed, configured("b", server)])
    outcomes = ("ok", "client_error", "server_error", "timeout", "upstream_unreachable", "not_understood")
    assert read(pollers)["probes_total"] == {("a", "llama3.2:latest", outcome): 0 for outcome in outcomes}
    pollers.watch([replace(probed, probe=None)])
    assert "probes_total" not in read(pollers)


def test_listed_models_are_those_of_the_last_poll(schedule: OncePolled, server: StandIn) -> None:
    """Loaded or not; none of a server that does not respond, nor of one that is not polled."""
    pollers = Pollers(CollectorRegistry(), schedule=schedule)
    pollers.watch([configured("a", server)])
    labels = {label for label, _ in poller(pollers, "a").history.models()}
    assert "llama3.2:latest" in labels
    assert pollers.listed_models("a") == labels
    assert pollers.listed_models("b") == set()
    server.pages = {}
    poller(pollers, "a").poll()
    assert pollers.listed_models("a") == set()


def observed(
    model: str, duration: float, ttft: float | None = None, *, server: str = "ollama", **changes: object
) -> RequestObservation:
    """Return a request that went well."""
    return RequestObservation(
        RequestLabels(server, model, "chat"),
        ttft is not None,
        "ok",
        "200",
        duration,
        time_to_first_token=ttft,
        **changes,  # type: ignore[arg-type]
    )


def test_cold_starts_are_marked(pollers: Pollers, server: StandIn) -> None:
    """A request whose model was not loaded counts as a cold start, with time to first token and load; others do not."""
    pollers.watch([configured("ollama", server)])
    wait_until(lambda: up(pollers) == {("ollama",): 1}, "it is up")
    pollers.note_request(observed("llama3.2", 0.0, 0.0))
    pollers.note_request(observed("mistral", 1e-9, 1e-9, server_seconds=ServerSeconds(load=2.5)))
    pollers.note_request(observed("mistral", 0.0, server="elsewhere"))
    pollers.note_request(observed("mistral", 0.0)._replace(labels=RequestLabels("ollama", "mistral", "other")))
    shown = read(pollers)
    assert shown["request_cold_starts_total"] == {("ollama", "mistral", "chat"): 1}
    assert shown["request_cold_start_time_to_first_token_seconds_count"] == {("ollama", "mistral", "chat"): 1}


def test_a_removed_model_has_no_cold_starts(pollers: Pollers, server: StandIn) -> None:
    """The series of its cold starts go with its others; those of other models stay."""
    pollers.watch([configured("ollama", server)])
    wait_until(lambda: up(pollers) == {("ollama",): 1}, "it is up")
    assert pollers.is_listed("ollama", "llama3.2:latest")
    assert pollers.is_listed("ollama", "llama3.2")
    assert not pollers.is_listed("ollama", "mistral")
    assert not pollers.is_listed("elsewhere", "llama3.2")
    for model in ("mistral", "another"):
        pollers.note_request(observed(model, 1e-9, 1e-9))
    pollers.remove_model("elsewhere", "mistral")
    pollers.remove_model("ollama", "mistral")
    shown = read(pollers)
    assert shown["request_cold_starts_total"] == {("ollama", "another", "chat"): 1}
    assert shown["request_cold_start_time_to_first_token_seconds_count"] == {("ollama", "another", "chat"): 1}


def replicas(*servers: StandIn, **changes: Any) -> list[PolledServer]:
    """Return the settings of the replicas of one server."""
    return [replace(configured("r", server), upstream=f"127.0.0.1:{server.port}", **changes) for server in servers]


@pytest.fixture
def other() -> Iterator[StandIn]:
    """Serve Ollama's pages once more."""
    with standing_in(pages("ollama")) as stand_in:
        yield stand_in


def test_replicas_have_the_name_of_their_server(schedule: OncePolled, server: StandIn, other: StandIn) -> None:
    """Each has series of its own under one name; where one is down, the others are not."""
    other.pages.clear()
    first, second = replicas(server, other, probe=Probe())
    pollers = Pollers(CollectorRegistry(), schedule=schedule)
    pollers.watch([first, second, configured("a", server)])
    assert up(pollers) == {first.key: 1, second.key: 0, ("a",): 1}
    assert read(pollers)["model_loaded"].keys() >= {(*first.key, "llama3.2:latest"), ("a", "llama3.2:latest")}
    assert {f"poll-r-{first.upstream}", f"probe-r-{second.upstream}", "poll-a"} <= schedule.stopped.keys()


def test_a_reload_replaces_the_replica_that_changed(schedule: OncePolled, server: StandIn, other: StandIn) -> None:
    """The other one keeps its poller; series of the one that was removed end, those of its probes too."""
    first, second = replicas(server, other)
    pollers = Pollers(CollectorRegistry(), schedule=schedule)
    pollers.watch([first, second])
    kept = pollers._by_name["r"][0]
    for one in (first, second):
        pollers._probe_metrics.record(one.key, "m", "ok", 0.1)
    assert read(pollers)["probes_total"].keys() == {(*first.key, "m", "ok"), (*second.key, "m", "ok")}
    pollers.watch([first])
    assert pollers._by_name["r"] == [kept]
    assert up(pollers).keys() == {first.key}
    assert read(pollers)["probes_total"].keys() == {(*first.key, "m", "ok")}
    assert schedule.ended() == {f"poll-r-{second.upstream}"}


def test_the_engine_of_a_server_is_that_of_all_replicas(schedule: OncePolled, server: StandIn, other: StandIn) -> None:
    """A model is listed where any replica lists it; a kind is known where those that answer have the same."""
    pollers = Pollers(CollectorRegistry(), schedule=schedule)
    with standing_in({}) as dead:
        pollers.watch(replicas(dead, server))
    assert (pollers.kind_of("r"), pollers.is_listed("r", "llama3.2")) == ("ollama", True)
    assert not pollers.is_listed("r", "mistral")
    assert [pollers.label_of("r", name) for name in ("llama3.2", "llama3.2:latest", "mistral")] == [
        "llama3.2:latest",
        "llama3.2:latest",
        None,
    ]
    other.pages = dict(pages("vllm"))
    pollers.watch(replicas(server, other))
    assert pollers.kind_of("r") is None
    assert pollers.is_listed("r", "tiny")


def test_a_cold_start_with_replicas(schedule: OncePolled, server: StandIn, other: StandIn) -> None:
    """It is not known which replica had the request, so that the model must be loaded by none that answers."""
    pollers = Pollers(CollectorRegistry(), schedule=schedule)
    other.pages["/api/ps"] = b'{"models":[]}'
    with standing_in({}) as dead:
        pollers.watch(replicas(server, other, dead))
    pollers.note_request(observed("llama3.2", 1e-9, 1e-9, server="r"))
    assert "request_cold_starts_total" not in read(pollers)
    pollers.note_request(observed("mistral", 1e-9, 1e-9, server="r", server_seconds=ServerSeconds(load=2.5)))
    shown = read(pollers)
    assert shown["request_cold_starts_total"] == {("r", "mistral", "chat"): 1}
    assert "model_load_duration_seconds" not in shown, "of which replica is not known"


def test_unproxied_tokens_are_those_of_all_replicas(schedule: OncePolled) -> None:
    """The proxy counts for all replicas together, so that the share has no replica; a dead one had no tokens."""
    with standing_in(pages("vllm")) as one, standing_in(pages("vllm")) as two, standing_in({}) as dead:
        pollers = Pollers(CollectorRegistry(), schedule=schedule)
        pollers.watch(replicas(one, two, dead), {"r"})
        served = pages("vllm")["/metrics"]
        one.pages["/metrics"] = served.replace(b" 376.0\n", b" 676.0\n")
        two.pages["/metrics"] = served.replace(b" 376.0\n", b" 476.0\n")
        pollers.note_request(observed("m", 1.0, server="r", tokens=Tokens(100, output=200)))
        for watch in pollers._by_name["r"]:
            watch.poll()
        assert read(pollers)["engine_unproxied_tokens_ratio"] == {("r",): 0.25}
        two.pages["/metrics"] = b""
        pollers._by_name["r"][1].poll()
        assert read(pollers)["engine_unproxied_tokens_ratio"] == {("r",): 0.25}, "its tokens of the last hour count"
        for server in (one, two):
            server.pages.clear()
        for watch in pollers._by_name["r"]:
            watch.poll()
        assert "engine_unproxied_tokens_ratio" not in read(pollers)


def test_the_share_is_unknown_where_a_replica_counts_no_tokens(schedule: OncePolled, server: StandIn) -> None:
    """Tokens that it generated would be taken for none."""
    with standing_in(pages("vllm")) as counting:
        pollers = Pollers(CollectorRegistry(), schedule=schedule)
        pollers.watch(replicas(counting, server), {"r"})
        counting.pages["/metrics"] = pages("vllm")["/metrics"].replace(b" 376.0\n", b" 476.0\n")
        pollers._by_name["r"][0].poll()
        assert "engine_unproxied_tokens_ratio" not in read(pollers)
