"""Without a free thread, running parts continue, and everything recovers once threads are available."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.faults.limits import as_a_limited_user, without_new_threads
from tests.faults.observed import Resources, scraped, streamed, streaming_server, wait_until_normal
from tests.support.fakes import of_collector
from tests.support.programs import DEADLINE_SECONDS, Exporter, Program, fetch, installed, running, wait_until

if TYPE_CHECKING:
    from tests.conftest import StartExporter


def test_scrapes_and_streams_need_no_new_thread(start_exporter: StartExporter) -> None:
    """Without a free thread pages are complete, a stream continues, and the live feed and its history work."""
    under = as_a_limited_user()
    with streaming_server() as server:
        exporter = start_exporter(f"--proxy=tiny=127.0.0.1:0={server.url}", under=under)
        exporter.page()
        before = Resources.of(exporter)
        with (
            scraped(exporter) as loop,
            streamed(exporter, "tiny") as stream,
            without_new_threads(exporter, under),
        ):
            count = loop.seen.count
            wait_until(lambda: loop.seen.count > count + 10, "scrapes go on")
            page = exporter.page()
            fetch(f"http://{exporter.address}/api/models")
            fetch(f"http://{exporter.address}/api/history")
            assert stream.is_alive()
        assert of_collector(page, "success", "memory") == 1
        wait_until_normal(exporter, before)


def test_more_scrapes_than_threads_are_refused_and_nothing_is_lost(start_exporter: StartExporter) -> None:
    """Scrapes that would need more threads get a 503 at once; afterwards as many as before are served."""
    under = as_a_limited_user()
    exporter = start_exporter(under=under)
    exporter.page()
    before = Resources.of(exporter)
    with without_new_threads(exporter, under):
        assert set(many(exporter.url)) <= {200, 503}
        assert of_collector(exporter.page(), "success", "memory") == 1
        assert b"healthy" in fetch(f"http://{exporter.address}/-/healthy")
    assert set(many(exporter.url)) == {200}
    wait_until_normal(exporter, before)


def test_it_stops_without_a_new_thread(start_exporter: StartExporter) -> None:
    """The stop works after a look-up of the listener's name too, whose thread asyncio would join with another one."""
    under = as_a_limited_user()
    exporter = start_exporter("--web.listen-address=localhost:0", under=under)
    with without_new_threads(exporter, under):
        exporter.stop()
    assert exporter.process.returncode == 0
    assert "Traceback" not in exporter.output()


def many(url: str) -> list[int]:
    """Return the statuses of 30 scrapes at the same time."""
    script = (
        "import sys, threading, urllib.request, urllib.error\n"
        "statuses = []\n"
        "def scrape():\n"
        "    try:\n"
        "        statuses.append(urllib.request.urlopen(sys.argv[1], timeout=20).status)\n"
        "    except urllib.error.HTTPError as error:\n"
        "        statuses.append(error.code)\n"
        "threads = [threading.Thread(target=scrape) for _ in range(30)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(*statuses)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script, url], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True
    )
    return [int(word) for word in shown.stdout.split()]


def test_it_does_not_start_without_threads() -> None:
    """If the first threads cannot be started, the program ends with one line and exit code 1."""
    under = [installed("prlimit"), "--nproc=1:", *as_a_limited_user()]
    result = subprocess.run(
        [*under, sys.executable, "-m", "modelhost_exporter", "--web.listen-address=127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("modelhost-exporter: cannot start a thread: can't start new thread")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("missing_threads", [3, 2, 1])
def test_it_is_never_silent_for_want_of_a_thread(start_exporter: StartExporter, missing_threads: int) -> None:
    """With a few threads too few the program either ends with one line, or becomes ready and logs the shortage."""
    running_one = start_exporter(under=as_a_limited_user())
    limit = psutil.Process(running_one.process.pid).num_threads() - missing_threads
    running_one.close()
    under = [installed("prlimit"), f"--nproc={limit}:", *as_a_limited_user()]
    with running(Program([*under, *Exporter.command, "--web.listen-address=127.0.0.1:0"])) as program:
        program.wait_for_line(lambda line: "cannot start a thread" in line or "msg=ready" in line)
