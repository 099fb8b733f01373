"""Several processes that answer on one port in turn: noticed soon, and never seen in what one process does."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.engines.discovery import discover, report
from modelhost_exporter.engines.polling.answering_processes import AnsweringProcesses, start_time
from modelhost_exporter.engines.polling.server_poller import PollDependencies, ServerPoller
from modelhost_exporter.engines.polling.settings import PolledServer
from modelhost_exporter.engines.snapshot import Engine, EngineHistogram, ServerSnapshot
from tests.support.pages import pages
from tests.support.stand_in import StandIn, reply, standing_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from http.server import BaseHTTPRequestHandler

API_SERVERS = (Path(__file__).parents[2] / "captures/vllm-0.32/api2.prom").read_bytes()
_COUNTER = re.compile(rb"^(vllm:\w+(?:_total|_count|_sum|_bucket)\{.*\}) \S+$", re.MULTILINE)
FAILED = -1.0
"""A poll that failed."""
COUNTERS = ("modelhost_engine_output_tokens_total", "modelhost_engine_input_tokens_total")


def page(count: int, began: float | None = None) -> bytes:
    """Return vLLM's page with every counter at a value, and the start time of its process, if it has one."""
    body = _COUNTER.sub(rb"\1 %d" % count, API_SERVERS)
    return body if began is None else body + b"process_start_time_seconds %.2f\n" % began


class Balanced:
    """vLLM's processes behind one address: each request for metrics reaches the next."""

    def __init__(self, server: StandIn, processes: Sequence[Iterator[bytes]]) -> None:
        self._processes = itertools.cycle(processes)
        server.pages = {**pages("vllm"), "/metrics": self._answer}

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 200, next(next(self._processes)))


def process(first: int, step: int, began: float | None = None) -> Iterator[bytes]:
    """Yield the pages of a process whose counters begin at a value."""
    for count in itertools.count(first, step):
        yield page(count, began)


@pytest.fixture
def server() -> Iterator[StandIn]:
    """Serve what a test chooses."""
    with standing_in({}) as stand_in:
        yield stand_in


def polls(server: StandIn, count: int) -> ServerPoller:
    """Poll a server so often, each time on a new connection."""
    poller = ServerPoller(PolledServer("s", ServerUrl(server.url), kind="vllm"), PollDependencies(is_proxied=True))
    for _ in range(count):
        poller.poll()
        poller.close()
    return poller


@pytest.mark.parametrize("start_times", [(None, None), (1e9, 1e9 + 5)])
@pytest.mark.parametrize("steps", [(0, 0), (700, 40), (40, 700)])
def test_two_processes_in_turn(
    server: StandIn,
    start_times: tuple[float | None, ...],
    steps: tuple[int, int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Within six polls counters are withheld, since their rate would be a hundred times the truth; it stays up."""
    firsts = (100_000, 20)
    Balanced(server, [process(*each) for each in zip(firsts, steps, start_times, strict=True)])
    poller = polls(server, 7)
    assert poller.parts["modelhost_engine_up"].samples[0].value == 1
    assert poller.parts["modelhost_engine_several_processes"].samples[0].value == 1
    assert not poller.parts.keys() & {*COUNTERS, "modelhost_engine_request_duration_seconds"}
    assert "modelhost_engine_requests_running" in poller.parts
    assert poller.tokens is None
    assert [record.getMessage() for record in caplog.records if "several" in record.getMessage()] == [
        "several processes answer here in turn: counters are withheld"
    ]


def test_one_process_with_several_api_servers(server: StandIn) -> None:
    """VLLM's API servers share one registry: their pages are of one history, and are shown."""
    Balanced(server, [process(5, 10)])
    poller = polls(server, 20)
    assert poller.parts["modelhost_engine_several_processes"].samples[0].value == 0
    assert poller.parts.keys() >= set(COUNTERS)


def test_discover_says_so(server: StandIn) -> None:
    """The printed configuration has a comment beside a server whose processes answer in turn, and only there."""
    Balanced(server, [process(100, 1, 1e9), process(7, 1, 1e9 + 1)])
    with standing_in(pages("vllm")) as plain:
        text = report("two ports", discover([server.url, plain.url], 5), "modelhost-exporter")
    assert text.count("several processes answer here in turn") == 1
    assert f"url: {server.url}\n    kind: vllm\n    # several processes" in text


def noted(*counts: float | None, began: Sequence[float] | None = None) -> bool:
    """Return whether several processes are noticed at any poll of one that counts so."""
    answering = AnsweringProcesses()
    found = False
    for number, count in enumerate(counts):
        if count == FAILED:
            answering.note_failure()
            continue
        engine = Engine() if count is None else Engine(output_tokens=count, input_tokens={"hit": count // 3})
        body = b"process_start_time_seconds %f\n" % began[number] if began else b""
        answering.note({"/metrics": body}, ServerSnapshot("k", engine=engine))
        found = found or answering.are_several
    return found


@pytest.mark.parametrize(
    "counts",
    [
        [*range(1000, 1100, 10), *range(0, 3000, 9)],
        [*range(1000, 1100, 10), *range(0, 3000, 900)],
        [1000, 0, 0, 0, 1000, 2000],
        [1000, 5, 4, 3, 2, 1, 0],
        [*[5, 9, FAILED, 0] * 30],
        [10, 20, 5, 15, 25, 0, 1000],
        [100, None, 100, None, 120, None],
        [0] * 50,
    ],
    ids=[
        "slow",
        "fast",
        "idle",
        "restarts, ever earlier",
        "a loop of restarts",
        "three",
        "pages fail",
        "idle for long",
    ],
)
def test_restarts_are_no_second_process(counts: list[float | None]) -> None:
    """Counters that begin anew, however often and however fast they grow, are those of one process."""
    assert not noted(*counts)


def test_start_times_of_restarts_are_no_second_process() -> None:
    """Each start has a time of its own, though the counters look like those of before."""
    counts = [5, 9, 5, 9, 5, 9, 5, 9]
    assert not noted(*counts, began=[1, 2, 3, 4, 5, 6, 7, 8])
    assert noted(*counts, began=[1, 2, 1, 2, 1, 2, 1, 2])
    assert noted(*counts, began=[1] * 8)


def test_more_than_two_processes_at_random() -> None:
    """Five processes in any order are noticed."""
    counts = {process: 1000.0 * process for process in range(5)}
    order = [0, 3, 1, 1, 4, 2, 0, 3, 2, 4, 1, 0, 4, 3]
    assert noted(*[counts[process] + poll for poll, process in enumerate(order)])


def test_one_that_remains_is_shown_again() -> None:
    """Once a single process has answered for long, its counters are shown."""
    answering = AnsweringProcesses()
    for count in (100.0, 5.0) * 4:
        answering.note({}, ServerSnapshot("k", engine=Engine(output_tokens=count)))
    assert answering.are_several
    for count in range(100, 140):
        answering.note({}, ServerSnapshot("k", engine=Engine(output_tokens=count)))
    assert not answering.are_several


def test_a_routers_models_have_histories_of_their_own() -> None:
    """Counters of a model that is loaded again and again begin anew each time."""
    answering = AnsweringProcesses()
    for count in (100.0, 5.0) * 9:
        answering.note({}, ServerSnapshot("k", engine_by_model={"m": Engine(output_tokens=count)}))
    assert not answering.are_several


def test_histograms_count() -> None:
    """An engine that only has histograms is noticed too."""
    answering = AnsweringProcesses()
    for count in (100.0, 5.0) * 4:
        engine = Engine(latencies={"request_duration": EngineHistogram(((float("inf"), count),), count)})
        answering.note({}, ServerSnapshot("k", engine=engine))
    assert answering.are_several


@pytest.mark.parametrize(
    ("body", "began"),
    [
        (b"process_start_time_seconds 1.75e+09\n", 1.75e9),
        (b"a 1\nprocess_start_time_seconds 17.5", 17.5),
        (b"# TYPE process_start_time_seconds gauge\n", None),
        (b"process_start_time_seconds \n", None),
        (b"process_start_time_seconds x" + b"9" * 100, None),
        (b"", None),
    ],
)
def test_start_times_are_read(body: bytes, began: float | None) -> None:
    """The start time is found on its own line; anything else is none."""
    assert start_time(body) == began
