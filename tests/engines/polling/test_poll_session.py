from __future__ import annotations

import pytest

from modelhost_exporter.engines.polling.fetching import CannotFetch
from modelhost_exporter.engines.polling.poll_session import PollSession


class Pages:
    """Responses by path: a body, or an exception to raise."""

    def __init__(self, **pages: bytes | Exception) -> None:
        self.pages = pages
        self.asked: list[str] = []

    def __call__(self, path: str) -> bytes:
        """Return or raise."""
        self.asked.append(path)
        page = self.pages[path]
        if isinstance(page, Exception):
            raise page
        return page


def test_each_page_is_fetched_once() -> None:
    """Detection and snapshot share fetched pages, error responses included."""
    pages = Pages(a=b"1", b=KeyError("b"))
    visit = PollSession(pages, pytest.fail)
    assert (visit("a"), visit("a")) == (b"1", b"1")
    for _ in range(2):
        with pytest.raises(KeyError):
            visit("b")
    assert pages.asked == ["a", "b"]


def test_a_server_that_never_answered_is_away() -> None:
    """Until a page was received, a failure is the server's, and is counted."""
    reasons: list[str] = []
    visit = PollSession(Pages(a=TimeoutError()), reasons.append)
    with pytest.raises(TimeoutError):
        visit("a")
    assert reasons == ["timeout"]


def test_a_page_that_times_out_costs_the_others() -> None:
    """After a timeout no further page is requested: a slow server delays a poll by one timeout, and stays up."""
    reasons: list[str] = []
    pages = Pages(a=b"1", slow=TimeoutError(), b=b"2")
    visit = PollSession(pages, reasons.append)
    visit("a")
    for path in ("slow", "b"):
        with pytest.raises(LookupError):
            visit(path)
    assert pages.asked == ["a", "slow"]
    assert reasons == ["timeout"]


def test_a_page_that_is_too_large_costs_itself() -> None:
    """Other failures of one page do not affect the other pages."""
    reasons: list[str] = []
    visit = PollSession(Pages(a=b"1", big=CannotFetch("too_large", "big"), b=b"2"), reasons.append)
    visit("a")
    with pytest.raises(LookupError):
        visit("big")
    assert visit("b") == b"2"
    assert reasons == ["too_large"]
