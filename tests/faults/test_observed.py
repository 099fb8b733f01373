"""The observers of these tests: a healthy exporter has no problems, and each fault is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.observed import Resources, ScrapeLoop, scraped, streamed, streaming_server, wait_until_normal
from tests.support.programs import wait_until
from tests.support.stand_in import standing_in, status

if TYPE_CHECKING:
    from tests.conftest import StartExporter
    from tests.support.stand_in import Answer


def test_a_healthy_exporter_has_no_problems(start_exporter: StartExporter) -> None:
    """Scrapes and a proxied stream run beside each other; afterwards everything is as before."""
    with streaming_server() as server:
        exporter = start_exporter(f"--proxy=tiny=127.0.0.1:0={server.url}")
        exporter.page()
        before = Resources.of(exporter)
        with scraped(exporter) as loop, streamed(exporter, "tiny") as stream:
            wait_until(lambda: loop.seen.count >= 3 and stream.chunks >= 20, "scrapes and chunks")
        wait_until_normal(exporter, before)


@pytest.mark.parametrize(
    ("healthy", "page", "problem"),
    [
        (status(500), b"", "/-/healthy: 500"),
        (b"ok", b"up 1\nup{ 2\n", "not valid"),
        (b"ok", b"# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\na 2\n", "a family is on the page twice"),
    ],
)
def test_what_is_wrong_is_a_problem(healthy: Answer, page: Answer, problem: str) -> None:
    """An error status, a page that is not valid, and a family that is there twice."""
    with standing_in({"/-/healthy": healthy, "/metrics": page}) as server:
        loop = ScrapeLoop(server.url.removeprefix("http://"))
        wait_until(lambda: bool(loop.seen.problems), "a problem")
        assert loop.close().problems[0].startswith(problem)


def test_results_are_returned_once() -> None:
    """``take`` returns only the scrapes and problems since the call before."""
    with standing_in({"/-/healthy": b"ok", "/metrics": b"up 1\n"}) as server:
        loop = ScrapeLoop(server.url.removeprefix("http://"))
        wait_until(lambda: loop.seen.count >= 3, "scrapes")
        server.pages["/metrics"] = b"up"
        wait_until(lambda: bool(loop.seen.problems), "a problem")
        assert loop.take().count >= 3
        server.pages["/metrics"] = b"up 1\n"
        loop.take()
        wait_until(lambda: loop.seen.count > 0, "a scrape")
        assert len(loop.close().problems) <= 1, "one was under way"
