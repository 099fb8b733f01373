"""The fetches of one poll: each page once, and a server that answered is not down for one broken page."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from modelhost_exporter.engines.pages import NotServed
from modelhost_exporter.engines.polling.fetching import Fetcher, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from modelhost_exporter.engines.pages import Fetch

_HOPELESS = ("timeout", "unreachable")


class PollSession:
    """The fetches of one poll. After one page that times out no other is requested: a poll costs one time-out."""

    def __init__(self, fetch: Fetch, on_failure: Callable[[str], None]) -> None:
        self._fetch = fetch
        self._on_failure = on_failure
        self._pages: dict[str, bytes | LookupError] = {}
        self._answered = False
        self._hopeless = False
        self.has_failed = False
        """Whether a page was not received, for another reason than the server's refusal."""

    def __call__(self, path: str) -> bytes:
        """Return a page; LookupError where there is none, OSError when the server has not answered at all."""
        if path not in self._pages:
            self._pages[path] = self._ask(path)
        page = self._pages[path]
        if isinstance(page, LookupError):
            raise page
        return page

    def received(self) -> dict[str, bytes]:
        """Return the pages that were received, by path."""
        return {path: page for path, page in self._pages.items() if isinstance(page, bytes)}

    def _ask(self, path: str) -> bytes | LookupError:
        if self._hopeless:
            return NotServed(f"{path} is not requested: an earlier page was not received")
        try:
            page: bytes | LookupError = self._fetch(path)
        except LookupError as refusal:
            page = refusal
        except OSError as error:
            self.has_failed = True
            self._on_failure(reason_of(error))
            if not self._answered:
                raise
            self._hopeless = reason_of(error) in _HOPELESS
            return NotServed(f"{path}: {error}")
        self._answered = True
        return page


@contextlib.contextmanager
def single_poll(url: str, headers: Mapping[str, str], timeout_seconds: float) -> Iterator[PollSession]:
    """Yield the session of one poll of a server that is not polled regularly, and close its connection."""
    fetcher = Fetcher(url, headers, timeout_seconds)
    try:
        yield PollSession(fetcher.get, lambda _reason: None)
    finally:
        fetcher.close()
