from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.engines.pages import NotServed
from modelhost_exporter.engines.polling.fetching import CannotFetch, Fetcher, reason_of
from tests.support.programs import free_port
from tests.support.stand_in import StandIn, cut_off, huge, not_http, standing_in, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler


@pytest.fixture
def server() -> Iterator[StandIn]:
    """Serve one valid page."""
    with standing_in({"/page": b"hello"}) as stand_in:
        yield stand_in


def fetcher(server: StandIn, timeout_seconds: float = 10.0) -> Fetcher:
    """Return a client of a server."""
    return Fetcher(server.url, {"Authorization": "Bearer key"}, timeout_seconds)


def failure(server: StandIn, path: str, timeout_seconds: float = 10.0) -> str:
    """Return the reason why a page cannot be fetched."""
    client = fetcher(server, timeout_seconds)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the reason is compared
        client.get(path)
    client.close()
    return reason_of(caught.value)


def test_one_connection_serves_many_requests(server: StandIn) -> None:
    """Consecutive requests share a connection, error responses included, and send the configured headers."""
    client = fetcher(server)
    assert [client.get("/page") for _ in range(3)] == [b"hello"] * 3
    with pytest.raises(NotServed):
        client.get("/nothing")
    assert client.get("/page") == b"hello"
    client.close()
    assert server.connections == 1
    assert all(headers["Authorization"] == "Bearer key" for headers in server.headers)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
    ],
)
def test_a_server_may_close_after_its_answer(server: StandIn, head: bytes) -> None:
    """Responses that end with the connection (llama.cpp's router, HTTP/1.0) are read completely, repeatedly."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(head)
        handler.close_connection = True

    server.pages["/page"] = write
    client = fetcher(server)
    assert [client.get("/page") for _ in range(3)] == [b"hello"] * 3
    client.close()
    assert server.connections == 3


def test_a_path_in_front_is_kept() -> None:
    """Pages are requested below the path of the URL."""
    with standing_in({"/llm/v1/models": b"{}"}) as server:
        client = Fetcher(f"{server.url}/llm", {}, 10)
        assert client.get("/v1/models") == b"{}"
        client.close()


@pytest.mark.parametrize("code", [400, 401, 404, 500, 501, 503])
def test_an_error_status_is_a_page_that_is_not_served(server: StandIn, code: int) -> None:
    """A server that responds with an error is reachable, whatever the status is."""
    server.pages["/page"] = status(code, b"no")
    client = fetcher(server)
    with pytest.raises(NotServed):
        client.get("/page")
    client.close()


def test_a_redirect_within_the_server_is_followed(server: StandIn) -> None:
    """LiteLLM's redirect of /metrics to /metrics/ is followed, with the headers, because it is on the same server."""
    server.pages["/old"] = status(307, Location="/page")
    server.pages["/older"] = status(301, Location=f"{server.url}/old")
    client = fetcher(server)
    assert client.get("/older") == b"hello"
    client.close()


def test_a_redirect_to_another_server_is_not_followed(server: StandIn) -> None:
    """Headers with keys never reach a server that was not configured."""
    with standing_in({"/page": b"stolen"}) as other:
        server.pages["/away"] = status(302, Location=f"{other.url}/page")
        assert failure(server, "/away") == "redirect"
        assert other.asked == []


def test_a_redirect_loop_ends(server: StandIn) -> None:
    """A redirect loop ends after a few requests."""
    server.pages["/loop"] = status(302, Location="/loop")
    assert failure(server, "/loop") == "redirect"
    assert server.asked.count("/loop") <= 4


def test_100_megabytes_are_not_taken(server: StandIn) -> None:
    """Reading a body stops at the size limit."""
    server.pages["/huge"] = huge
    assert failure(server, "/huge") == "too_large"


@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_the_time_out_is_of_the_whole_request(server: StandIn, kind: str) -> None:
    """A server that does not respond, or sends single bytes, delays the poll by one timeout at most."""
    server.pages["/slow"] = getattr(server, kind)
    began = time.monotonic()
    assert failure(server, "/slow", timeout_seconds=0.2) == "timeout"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("page", [cut_off, not_http])
def test_what_is_no_http_is_named(server: StandIn, page: object) -> None:
    """A truncated response, or one of another protocol, is a separate error, and no partial page is returned."""
    server.pages["/odd"] = page  # type: ignore[assignment]
    assert failure(server, "/odd") == "not_http"


def test_nobody_there_is_unreachable() -> None:
    """A port without a listener is unreachable, at once."""
    client = Fetcher(f"http://127.0.0.1:{free_port()}", {}, 10)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the reason is compared
        client.get("/")
    assert reason_of(caught.value) == "unreachable"


def test_a_connection_that_was_closed_meanwhile_is_opened_anew(server: StandIn) -> None:
    """A server that closes each connection without announcing it costs a second connection, not a failure."""

    def close_after(handler: object) -> None:
        status(200, b"bye")(handler)  # type: ignore[arg-type]
        handler.close_connection = True  # type: ignore[attr-defined]

    server.pages["/page"] = close_after
    client = fetcher(server)
    assert [client.get("/page") for _ in range(3)] == [b"bye"] * 3
    client.close()


def test_a_post_is_not_sent_twice(server: StandIn) -> None:
    """A probe without a response on a kept connection is an error, since only GET requests are repeated."""

    def leave(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    server.pages["/leave"] = leave
    client = fetcher(server)
    client.get("/page")
    with pytest.raises(OSError):  # noqa: PT011 - any
        client.post("/leave", b"{}")
    assert server.asked.count("/leave") == 1
    client.get("/page")
    with pytest.raises(OSError):  # noqa: PT011 - any
        client.get("/leave")
    assert server.asked.count("/leave") == 3
    client.close()


def test_after_a_failure_the_next_request_works(server: StandIn) -> None:
    """After an invalid page the connection is not reused."""
    server.pages["/odd"] = cut_off
    client = fetcher(server)
    with pytest.raises(CannotFetch):
        client.get("/odd")
    assert client.get("/page") == b"hello"
    client.close()


def test_https_is_verified(server: StandIn) -> None:
    """An https URL uses TLS: a server with an invalid certificate is unreachable."""
    client = Fetcher(server.url.replace("http:", "https:"), {}, 5)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the kind is compared
        client.get("/page")
    assert isinstance(caught.value, ssl.SSLError | ConnectionError)
