from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.engines.polling.detected_kind import DetectedKind
from modelhost_exporter.engines.polling.poll_session import PollSession
from modelhost_exporter.engines.polling.server_poller import PollDependencies, ServerPoller
from modelhost_exporter.engines.polling.settings import PolledServer
from modelhost_exporter.engines.snapshot import ServerSnapshot
from tests.support.pages import pages
from tests.support.stand_in import StandIn, cut_off, standing_in, status

if TYPE_CHECKING:
    from collections.abc import Iterator

GENERIC = {"/v1/models": b'{"object":"list","data":[{"id":"m","object":"model","owned_by":"someone"}]}'}


@pytest.fixture
def server() -> Iterator[StandIn]:
    """Serve Ollama's pages, and a list of models that any kind of server has."""
    with standing_in(pages("ollama") | GENERIC) as stand_in:
        yield stand_in


def poller(server: StandIn, timeout: float = 5) -> ServerPoller:
    """Return a poller of a server whose kind is detected."""
    found = ServerPoller(PolledServer("s", ServerUrl(server.url), timeout=Seconds(timeout)), PollDependencies())
    server.clients.append(found.close)
    return found


def polled_kind(poller: ServerPoller) -> str | None:
    """Return the kind that a poll shows; None when it failed."""
    poller.poll()
    return poller.snapshot.kind if isinstance(poller.snapshot, ServerSnapshot) else None


@pytest.mark.parametrize("refusal", [status(500), status(503), status(401), b"<html></html>", b'{"models":7}'])
def test_a_kind_outlives_failed_polls(server: StandIn, refusal: Any) -> None:
    """A server whose own page fails is down, and never another kind that its remaining pages resemble."""
    polled = poller(server)
    assert polled_kind(polled) == "ollama"
    running = server.pages["/api/ps"]
    server.pages["/api/ps"] = refusal
    assert [polled_kind(polled) for _ in range(3)] == [None, None, None]
    server.pages["/api/ps"] = running
    assert polled_kind(polled) == "ollama"


def test_a_kind_outlives_a_page_that_hangs(server: StandIn) -> None:
    """After a time-out the kind is kept, and no page of other kinds is requested."""
    polled = poller(server, 0.3)
    polled_kind(polled)
    running = server.pages["/api/ps"]
    server.pages["/api/ps"] = server.hang
    assert polled_kind(polled) is None
    server.pages["/api/ps"] = running
    server.asked.clear()
    assert polled_kind(polled) == "ollama"
    assert set(server.asked) <= {"/api/ps", "/api/version"}


def test_another_server_on_the_same_port_is_detected(server: StandIn) -> None:
    """Pages of another kind, on which only it could be running there, replace the kind."""
    polled = poller(server)
    polled_kind(polled)
    server.pages = dict(pages("tgi"))
    assert [polled_kind(polled) for _ in range(3)] == [None, "tgi", "tgi"]


@pytest.mark.parametrize("stopped", [502, 504])
def test_a_generic_server_is_detected_after_a_stop(server: StandIn, stopped: int) -> None:
    """A reverse proxy responds so while no server runs behind it: the next one is detected anew."""
    polled = poller(server)
    polled_kind(polled)
    server.pages = dict.fromkeys(server.pages, status(stopped))
    assert polled_kind(polled) is None
    server.pages = dict(GENERIC)
    assert polled_kind(polled) == "openai"


def test_a_generic_server_is_detected_where_nothing_listened() -> None:
    """A refused connection means that the process ended: what is started there may be of any kind."""
    kind = DetectedKind("auto")
    for served in (pages("ollama"), GENERIC):
        session = PollSession(served.__getitem__, print)
        kind.keep(kind.find(session), session)
        assert kind.name == ("ollama" if "/api/ps" in served else "openai")
        kind.failed(ConnectionRefusedError())
        assert kind.name is None


def test_a_generic_kind_is_provisional_while_pages_do_not_respond(server: StandIn) -> None:
    """A server whose own page hangs at the first poll looks generic, and is detected at the next one."""
    polled = poller(server, 0.3)
    running = server.pages["/api/ps"]
    server.pages["/api/ps"] = cut_off
    assert polled_kind(polled) == "openai"
    server.pages["/api/ps"] = running
    assert polled_kind(polled) == "ollama"


def test_a_configured_kind_never_changes() -> None:
    """No failure leads to a detection of a kind that the configuration names."""
    kind = DetectedKind("vllm")
    for error in (ConnectionRefusedError(), LookupError("", 502), ValueError()):
        kind.failed(error)
        assert kind.find(PollSession(GENERIC.__getitem__, print)) == "vllm"
