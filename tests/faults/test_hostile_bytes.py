"""Bodies, pages and compressed responses that are expensive to parse do not affect the rest of the exporter."""

from __future__ import annotations

import gzip
import http.client
import signal
from typing import TYPE_CHECKING

import pytest

from tests.faults.observed import Resources, proxy_address, scraped, streamed, streaming_server, wait_until_normal
from tests.support.programs import free_port, wait_until
from tests.support.stand_in import standing_in, status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter

FORM_TYPE = {"Content-Type": "multipart/form-data; boundary=x"}
MODELS = b'{"object":"list","data":[{"id":"tiny","object":"model","owned_by":"vllm"}]}'


def hostile_form(repeats: int) -> bytes:
    """Return a form whose headers begin again and again, and never end."""
    return b"--" + b"content-disposition:" * repeats + b" name=model;" * repeats


def post(address: str, path: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    """Send a request to a proxy, read the whole response, and return its status."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.request("POST", path, body, headers or {})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


@pytest.mark.parametrize("repeats", [300, 1000, 32_000], ids=["9.6 kB", "32 kB", "1 MiB"])
def test_an_audio_form_stops_nothing(start_exporter: StartExporter, repeats: int) -> None:
    """A form that is expensive to parse is answered at once, with or without an upstream; another stream continues."""
    with streaming_server() as server:
        exporter = start_exporter(
            f"--proxy=tiny=127.0.0.1:0={server.url}",
            f"--proxy=dead=127.0.0.1:0=http://127.0.0.1:{free_port()}",
        )
        before = Resources.of(exporter)
        with scraped(exporter) as loop, streamed(exporter, "tiny"):
            body = hostile_form(repeats)
            assert post(proxy_address(exporter, "dead"), "/v1/audio/transcriptions", body, FORM_TYPE) == 502
            assert post(proxy_address(exporter, "tiny"), "/v1/audio/transcriptions", body, FORM_TYPE) == 404
            seen = loop.seen.count
            wait_until(lambda: loop.seen.count > seen, "a scrape afterwards")
        wait_until_normal(exporter, before)
        assert exporter.stop(signal.SIGTERM) < 10


def hostile_page() -> bytes:
    """Return a page of vLLM's with an unterminated label name, numbers that overflow, and one valid sample."""
    lines = [
        b"vllm:request_success_total{" + b"a" * 60_000 + b"} 1",
        *(b'vllm:num_requests_running{engine="%d"} 1e308' % engine for engine in range(2)),
        *(b'vllm:prompt_tokens_total{%s="%d"} 1' % (b"a" * 3000, number) for number in range(500)),
        b"vllm:num_requests_waiting 7",
    ]
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize(
    ("path", "page", "up"),
    [
        ("/metrics", hostile_page(), 1),
        ("/metrics", b'vllm:num_requests_waiting{a="%s"} 7\n' % (b"a," * 1900) * 2000, 1),
        ("/metrics", b"vllm:num_requests_waiting 7\n" * 290_000, 0),
        ("/v1/models", b'{"data":[' + b"[]," * 2_700_000 + MODELS.partition(b"[")[2], 0),
    ],
    ids=["labels", "values", "samples", "JSON"],
)
def test_an_engine_s_page_stops_nothing(
    start_exporter: StartExporter, tmp_path: Path, path: str, page: bytes, up: int
) -> None:
    """A page that is expensive to parse costs only its own invalid lines; a proxied stream continues."""
    with streaming_server() as server, standing_in({"/v1/models": MODELS, "/metrics": b"", path: page}) as engine:
        file = tmp_path / "config.yaml"
        file.write_text(f"servers: [{{name: hard, url: '{engine.url}', kind: vllm, poll: {{interval: 1s}}}}]\n")
        exporter = start_exporter(f"--config.file={file}", f"--proxy=tiny=127.0.0.1:0={server.url}")
        with scraped(exporter) as loop, streamed(exporter, "tiny"):
            asked, seen = engine.asked.count(path), loop.seen.count
            wait_until(lambda: engine.asked.count(path) > asked + 2, "three polls")
            wait_until(lambda: loop.seen.count > seen + 2, "three scrapes")
        text = exporter.page()
        assert b'modelhost_engine_up{server="hard",upstream=""} %d.0\n' % up in text
        assert (b'modelhost_engine_requests_waiting{server="hard",upstream=""} ' in text) == bool(up)
        assert "Traceback" not in exporter.output()
        assert exporter.stop(signal.SIGTERM) < 10


@pytest.mark.parametrize(
    "frames",
    [b"\n" * (64 << 20), gzip.compress(b""), b"data: {}\n\n" * 800_000, b'data: {"usage":' * 100_000],
    ids=["bomb", "empty members", "frames", "nested"],
)
def test_a_compressed_reply_stops_nothing(start_exporter: StartExporter, frames: bytes) -> None:
    """A response that decompresses to much, or to many empty members, arrives whole; another stream continues."""
    packed = frames * 50_000 if frames.startswith(b"\x1f\x8b") else gzip.compress(frames)
    stream_type = {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
    with streaming_server() as server:
        server.pages["/v1/completions"] = status(200, packed, **stream_type)
        exporter = start_exporter(f"--proxy=tiny=127.0.0.1:0={server.url}")
        before = Resources.of(exporter)
        with scraped(exporter), streamed(exporter, "tiny"):
            for _ in range(3):
                assert post(proxy_address(exporter, "tiny"), "/v1/completions", b"{}") == 200
        wait_until_normal(exporter, before, spare_bytes=40 << 20)
        assert "Traceback" not in exporter.output()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
def test_lines_that_are_no_json_stop_nothing(start_exporter: StartExporter, packed: bool) -> None:
    """A response of many short lines, each a parse error, arrives whole; another stream continues."""
    lines = b"x\n" * 200_000
    headers = {"Content-Type": "application/x-ndjson"} | ({"Content-Encoding": "gzip"} if packed else {})
    with streaming_server() as server:
        server.pages["/api/chat"] = status(200, gzip.compress(lines) if packed else lines, **headers)
        exporter = start_exporter(f"--proxy=tiny=127.0.0.1:0={server.url}")
        before = Resources.of(exporter)
        with scraped(exporter), streamed(exporter, "tiny"):
            for _ in range(3):
                assert post(proxy_address(exporter, "tiny"), "/api/chat", b"{}") == 200
            counted = b'modelhost_proxy_parse_errors_total{api="ollama",reason="json",server="tiny"} 3.0'
            wait_until(lambda: counted in exporter.page(), "the requests are counted", every=0.2, seconds=90)
        wait_until_normal(exporter, before, spare_bytes=40 << 20)
