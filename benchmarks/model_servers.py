"""Cost of polling model servers, and of 50 of them in a scrape.

Run from the repository's root: ``python -m benchmarks.model_servers``. Servers are stand-ins with captured pages, in a
process of their own. CPU time is user and system time of this process (polls) or of the exporter's (scrapes).
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.measuring import ROOT, exporter, table, verdict
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.engines.kinds import engine_kind
from modelhost_exporter.engines.polling.fetching import Fetcher
from modelhost_exporter.engines.polling.server_poller import PollDependencies, ServerPoller
from modelhost_exporter.engines.polling.settings import PolledServer
from modelhost_exporter.json_reading import PollPolicy
from tests.support.pages import pages as captured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SERVERS = 50
_MAX_SCRAPE_MS = 10.0


class Capture(NamedTuple):
    """A captured server and the limit for the cost of one poll."""

    folder: str
    kind: str
    most_ms: float


_LLAMA = Capture("llama-server-pages", "llamacpp", 2.0)
_VLLM = Capture("vllm", "vllm", 20.0)


def main() -> None:
    """Measure and print, or serve pages for a measurement."""
    arguments = _arguments()
    if arguments.serve:
        _serve(arguments.serve)
        return
    rows = [["", "", "to reach"]]
    for capture in (_LLAMA, _VLLM):
        with _served(capture.folder) as url:
            rows += _poll_rows(capture, url, arguments.polls)
            rows.append(_scrape_row(capture, url, arguments.scrapes))
    print(table(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--polls", type=int, default=200, metavar="N", help="of each kind (default 200)")
    parser.add_argument("--scrapes", type=int, default=100, metavar="N", help="with and without servers (default 100)")
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    return parser.parse_args()


def _poll_rows(capture: Capture, url: str, polls: int) -> list[list[str]]:
    """Return the cost of a poll, in total and of its parts."""
    page = captured(capture.folder)["/metrics"].decode()
    samples = sum(1 for line in page.splitlines() if line and not line.startswith("#"))
    fetcher = Fetcher(url, {}, 10.0)
    module = engine_kind(capture.kind)
    watch = ServerPoller(
        PolledServer("s", ServerUrl(url), kind=capture.kind, metrics="on"),
        PollDependencies(),
    )
    whole = _cpu_ms(watch.poll, polls)
    watch.close()
    pages: dict[str, bytes] = {}

    def remembered(path: str) -> bytes:
        if path not in pages:
            pages[path] = fetcher.get(path)
        return pages[path]

    rows = [
        [f"{capture.folder} ({samples} samples): poll, ms of CPU", f"{whole:.2f}", _reached(whole, capture.most_ms)],
        ["  one GET of it", f"{_cpu_ms(partial(fetcher.get, '/metrics'), polls):.2f}", ""],
        ["  reading all pages", f"{_cpu_ms(lambda: module.snapshot(remembered, PollPolicy('on')), polls):.2f}", ""],
        ["  prometheus_client's parser", f"{_cpu_ms(lambda: list(text_string_to_metric_families(page)), 20):.2f}", ""],
    ]
    fetcher.close()
    return rows


def _scrape_row(capture: Capture, url: str, scrapes: int) -> list[str]:
    """Return the CPU time that the servers add to a scrape, in a separate exporter."""
    without = _scrape_ms("", scrapes)
    options = "poll: {metrics: on, interval: 1h}"
    servers = "\n".join(
        f"  - {{name: s{number}, url: '{url}', kind: {capture.kind}, {options}}}" for number in range(_SERVERS)
    )
    added = _scrape_ms(f"servers:\n{servers}\n", scrapes) - without
    title = f"  {_SERVERS} of them add to a scrape, ms of CPU"
    return [title, f"{added:.2f}", _reached(added, _MAX_SCRAPE_MS)]


def _scrape_ms(config: str, scrapes: int) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(config)
        file.flush()
        with exporter(f"--config.file={file.name}") as program:
            connection = program.connect(10.0)

            def scrape() -> bytes:
                connection.request("GET", program.path, headers={"Accept-Encoding": "gzip"})
                return connection.getresponse().read()

            time.sleep(3.0)  # every server has been polled once
            for _ in range(10):
                scrape()
            before = program.cpu_seconds()
            for _ in range(scrapes):
                scrape()
                time.sleep(0.01)
            return (program.cpu_seconds() - before) / scrapes * 1e3


def _cpu_ms(action: Callable[[], object], times: int) -> float:
    action()
    before = time.process_time()
    for _ in range(times):
        action()
    return (time.process_time() - before) / times * 1e3


def _reached(value: float, most: float) -> str:
    return f"{verdict(reached=value <= most)} (at most {most:g})"


@contextlib.contextmanager
def _served(folder: str) -> Iterator[str]:
    """Serve a folder's pages in another process."""
    command = [sys.executable, "-m", "benchmarks.model_servers", "--serve", folder]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _serve(folder: str) -> None:
    bodies = captured(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = bodies.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
