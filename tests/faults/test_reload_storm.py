"""Bursts of reloads, and reloads on a machine without a free thread."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.faults.limits import as_a_limited_user, readable_folder, without_new_threads
from tests.faults.observed import Resources, Stream, proxy_address, scraped, streaming_server, wait_until_normal
from tests.support.fakes import samples
from tests.support.pages import pages
from tests.support.programs import DEADLINE_SECONDS, fetch, wait_until
from tests.support.stand_in import standing_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter
    from tests.support.programs import Exporter
    from tests.support.stand_in import StandIn

SIGNALS = 1900
POSTS = 200  # fewer than web.max_connections_per_address
SUCCESSFUL = ("modelhost_config_last_reload_successful", ())


def reload(exporter: Exporter) -> bytes:
    """POST /-/reload and return the response."""
    return fetch(urllib.request.Request(f"http://{exporter.address}/-/reload", method="POST"))


def refused(exporter: Exporter) -> str:
    """POST a reload that fails with 500, and return the response's text."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        reload(exporter)
    with caught.value as answer:
        assert answer.code == 500
        return answer.read().decode()


def test_a_storm_of_signals_is_a_few_reloads(start_exporter: StartExporter, tmp_path: Path) -> None:
    """While a reload reads a slow disk (a FIFO), signals start no thread; then the last file takes effect."""
    file, slow, other = tmp_path / "config.yaml", tmp_path / "slow", tmp_path / "other"
    with streaming_server() as server:
        proxied = f"servers: [{{name: tiny, url: '{server.url}', proxy: {{listen: '127.0.0.1:0'}}, poll: false}}]\n"
        file.write_text(proxied)
        exporter = start_exporter(f"--config.file={file}")
        exporter.page()
        before = Resources.of(exporter)
        process, most = psutil.Process(exporter.process.pid), before.threads
        os.mkfifo(slow)
        os.link(slow, other)
        slow.replace(file)
        with scraped(exporter) as loop:
            stream = Stream(proxy_address(exporter, "tiny"))
            for number in range(SIGNALS):
                exporter.process.send_signal(signal.SIGHUP)
                if number % 20 == 0:
                    most = max(most, process.num_threads())
            count = loop.seen.count
            wait_until(lambda: loop.seen.count > count + 2, "scrapes go on")
            most = max(most, process.num_threads())
            slow.write_text(f"{proxied}scrape: {{timeout: 4s}}")
            slow.replace(file)
            other.write_text(f"{proxied}scrape: {{timeout: 3s}}")  # opens once the reload has opened it to read
            wait_until(lambda: b"modelhost_scrape_timeout_seconds 4.0" in exporter.page(), "the last one is in force")
            assert stream.is_alive()
            stream.close()
        assert most <= before.threads + 6
        assert exporter.output().count('"msg": "configuration reloaded"') == 2
        wait_until_normal(exporter, before)


def test_each_of_many_posts_gets_the_outcome_of_a_later_reload(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Requests share reloads; an error in the file is reported, and then the corrected file takes effect."""
    file = tmp_path / "config.yaml"
    file.write_text("")
    exporter = start_exporter(f"--config.file={file}", "--web.enable-lifecycle")
    answers: list[int] = []

    def post() -> None:
        host, _, port = exporter.address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=DEADLINE_SECONDS)
        connection.request("POST", "/-/reload")
        answers.append(connection.getresponse().status)
        connection.close()

    with scraped(exporter):
        posts = [threading.Thread(target=post) for _ in range(POSTS)]
        for thread in posts:
            thread.start()
        for thread in posts:
            thread.join(DEADLINE_SECONDS)
    assert answers == [200] * POSTS
    assert exporter.output().count('"msg": "configuration reloaded"') < POSTS / 2

    file.write_text("scrape: {timeout: never}")
    assert refused(exporter).startswith("scrape.timeout: 'never' is not a duration")
    file.write_text("scrape: {timeout: 3s}")
    assert reload(exporter) == b"reloaded\n"
    assert b"modelhost_scrape_timeout_seconds 3.0" in exporter.page()


def test_without_a_thread_left_the_old_configuration_stays(start_exporter: StartExporter) -> None:
    """Nothing of the new configuration is in force, polling goes on, and the reason is one line; later it works."""
    under = as_a_limited_user()
    with standing_in(pages("ollama")) as server, readable_folder() as folder:
        file = folder / "config.yaml"
        file.write_text(configuration(server, "a"))
        exporter = start_exporter(f"--config.file={file}", "--web.enable-lifecycle", under=under)
        up = ("modelhost_engine_up", (("server", "a"),))
        wait_until(lambda: samples(exporter.page()).get(up) == 1, "the server is up")
        before = Resources.of(exporter)
        with scraped(exporter):
            with without_new_threads(exporter, under):
                file.write_text(f"{configuration(server, 'a', 'b', 'c')}scrape: {{timeout: 3s}}")
                assert refused(exporter) == "RuntimeError: can't start new thread\n"
                page, polls = exporter.page(), len(server.asked)
                assert samples(page)[SUCCESSFUL] == 0
                assert b"modelhost_scrape_timeout_seconds 5.0" in page
                assert b'server="b"' not in page
                wait_until(lambda: len(server.asked) > polls + 10, "the old server is polled")
                assert samples(exporter.page())[up] == 1
                assert exporter.output().count('"msg": "configuration not reloaded"') == 1
                assert "Traceback" not in exporter.output()
            file.write_text(configuration(server, "a"))
            assert reload(exporter) == b"reloaded\n"
            assert samples(exporter.page())[SUCCESSFUL] == 1
        wait_until_normal(exporter, before)


def configuration(server: StandIn, *names: str) -> str:
    """Return a configuration that polls one server under these names, ten times a second."""
    servers = ", ".join(f"{{name: {name}, url: '{server.url}', poll: {{interval: 100ms}}}}" for name in names)
    return f"servers: [{servers}]\n"


def test_a_reload_that_fails_for_an_unforeseen_reason_changes_nothing(
    start_exporter: StartExporter, tmp_path: Path
) -> None:
    """A folder in the file's place: one line for the client, and the old configuration."""
    file = tmp_path / "config.yaml"
    file.write_text("scrape: {timeout: 3s}")
    exporter = start_exporter(f"--config.file={file}", "--web.enable-lifecycle")
    file.unlink()
    file.mkdir()
    answer = refused(exporter)
    assert answer.count("\n") == 1
    assert "directory" in answer
    page = exporter.page()
    assert samples(page)[SUCCESSFUL] == 0
    assert b"modelhost_scrape_timeout_seconds 3.0" in page
