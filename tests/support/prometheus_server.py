"""A real Prometheus for tests."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from typing import TYPE_CHECKING, Any

from tests.support.programs import Program, fetch, free_port, installed, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class Prometheus:
    """A real Prometheus that scrapes one exporter every 200 ms."""

    def __init__(self, program: Program, port: int) -> None:
        self._program = program
        self.url = f"http://127.0.0.1:{port}"
        self._api = f"{self.url}/api/v1"

    def query(self, promql: str) -> list[dict[str, Any]]:
        """Return an instant query's result vector; nothing while Prometheus is not ready."""
        try:
            answer = fetch(f"{self._api}/query?{urllib.parse.urlencode({'query': promql})}")
        except OSError:
            return []
        result: list[dict[str, Any]] = json.loads(answer)["data"]["result"]
        return result

    def value(self, promql: str) -> float | None:
        """Return the one value of a query, None while there is none."""
        result = self.query(promql)
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def wait_for(self, promql: str) -> None:
        """Wait until a query has a result."""
        wait_until(lambda: bool(self.query(promql)), f"{promql}\n{self._program.output()[-2000:]}")


@contextlib.contextmanager
def running_prometheus(
    target: str,
    folder: Path,
    rules: Path | None = None,
    *,
    binary: str | None = None,
    flags: Sequence[str] = (),
    **options: object,
) -> Iterator[Prometheus]:
    """Start a Prometheus that scrapes HOST:PORT; skips the test (in CI: fails it) where none is installed.

    ``binary`` is another than the installed one, ``flags`` are further ones of its command line.

    With a file of rules it evaluates them every 200 ms too, less those groups that have an interval of their own.
    ``options`` are further ones of the scrape.
    """
    config = folder / "prometheus.yml"
    scraping = {"job_name": "modelhost", "scrape_interval": "200ms", "scrape_timeout": "200ms", **options}
    settings = {
        "global": {"evaluation_interval": "200ms"},
        "rule_files": [str(rules)] if rules else [],
        "scrape_configs": [{**scraping, "static_configs": [{"targets": [target]}]}],
    }
    config.write_text(json.dumps(settings))
    port = free_port()
    program = Program(
        [
            binary or installed("prometheus"),
            *flags,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
    )
    with running(program):
        server = Prometheus(program, port)
        server.wait_for("count_over_time(up[1m]) >= 3")
        yield server
