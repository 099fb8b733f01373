"""Servers behind the proxy whose kind nobody configured: engines are polled, hosted APIs are not taken as down."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.engines.polling.server_poller import PollDependencies, ServerPoller
from modelhost_exporter.engines.polling.settings import PolledServer
from tests.proxy.upstream import refusing_port
from tests.support.pages import pages
from tests.support.stand_in import StandIn, standing_in, status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelhost_exporter.engines.polling.fetching import Client

INTERVAL = 10.0
UP = "modelhost_engine_up"


@pytest.fixture
def server() -> Iterator[StandIn]:
    """Serve nothing that any kind has."""
    with standing_in({}) as stand_in:
        yield stand_in


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def poller(url: str, clock: Clock | None = None, kind: str = "auto", **changes: object) -> ServerPoller:
    """Return a poller of a server that has a proxy."""
    dependencies = PollDependencies(is_proxied=True, now=clock or Clock())
    server = PolledServer("s", ServerUrl(url), kind=kind, timeout=Seconds(5), interval=INTERVAL)
    return ServerPoller(server, replace(dependencies, **changes))  # type: ignore[arg-type]


def shown(polled: ServerPoller, clock: Clock | None = None) -> float | None:
    """Return whether it is shown as up; None where it has no series at all."""
    polled.poll()
    polled.close()
    if clock is not None:
        clock.now += 1000
    parts = polled.current_parts(INTERVAL)
    assert (UP in parts) == bool(parts)
    return parts[UP].samples[0].value if parts else None


@pytest.mark.parametrize("code", [401, 404, 500])
def test_a_server_of_no_known_kind_is_not_down(server: StandIn, code: int) -> None:
    """A hosted API wants a key, or has none of the pages: it has no series, also when its next poll is far away."""
    server.pages = dict.fromkeys(("/v1/models", "/metrics", "/api/ps"), status(code))
    clock = Clock()
    polled = poller(server.url, clock)
    assert [shown(polled, clock) for _ in range(3)] == [None, None, None]


def test_a_detected_engine_is_down_when_it_stops(server: StandIn) -> None:
    """An engine is detected once it responds; from then on its failures are shown, and what is started there next."""
    polled = poller(server.url)
    assert shown(polled) is None
    for kind in ("ollama", "tgi"):
        server.pages = dict(pages(kind))
        while shown(polled) != 1:  # the pages of the kind before fail once
            pass
        assert polled.kind == kind
        server.pages = {}
        assert shown(polled) == 0


def test_nothing_on_this_machine_is_down() -> None:
    """An address of this machine to which nothing listens was meant for an engine."""
    with refusing_port() as port:
        assert shown(poller(f"http://127.0.0.1:{port}")) == 0


def test_a_configured_kind_is_down_from_the_start(server: StandIn) -> None:
    """A kind in the configuration says that an engine should be there."""
    assert shown(poller(server.url, kind="vllm")) == 0


class Unreachable:
    """A client for which there is no way to the server."""

    def get(self, path: str) -> bytes:
        """Fail."""
        raise TimeoutError(path)

    def post(self, path: str, body: bytes) -> bytes:
        """Fail."""
        raise TimeoutError(path, body)

    def close(self) -> None:
        """Do nothing."""


def _unreachable(_url: str, _headers: Mapping[str, str], _timeout: float) -> Client:
    return Unreachable()


def test_a_server_elsewhere_that_was_never_reached_is_not_down() -> None:
    """A machine without a way to the internet but through its clients' proxy says nothing about a hosted API."""
    assert shown(poller("https://api.example.com", connect=_unreachable)) is None


def test_a_response_to_a_request_starts_the_next_poll() -> None:
    """Polls of a server that is down may be minutes apart: one that responds to a client is polled at once."""
    clock, woken = Clock(), []
    with refusing_port() as port:
        polled = poller(f"http://127.0.0.1:{port}", clock)
        polled.wake = lambda: woken.append(clock.now)
        polled.poll()
        for clock.now in (1.0, INTERVAL, 2 * INTERVAL):
            polled.note_response()
        assert woken == [INTERVAL, 2 * INTERVAL]


def test_responses_start_no_polls_of_what_needs_none(server: StandIn) -> None:
    """A server that is up is polled at its own time, and so is one that responds elsewhere like no engine."""
    clock, woken = Clock(), []
    server.pages = dict(pages("ollama"))
    polled = poller(server.url, clock)
    polled.wake = lambda: woken.append(clock.now)
    assert shown(polled) == 1
    clock.now = 100.0
    polled.note_response()
    assert woken == []
