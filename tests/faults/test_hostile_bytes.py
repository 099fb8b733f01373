"""Bodies, pages and compressed replies made to be expensive: the rest of the exporter goes on."""

from __future__ import annotations

import http.client
import signal
from typing import TYPE_CHECKING

import pytest

from tests.faults.observed import Resources, Stream, proxy_address, scraped, streaming_server, wait_until_normal
from tests.programs import free_port, wait_until

if TYPE_CHECKING:
    from tests.conftest import StartExporter

LONGEST_GAP_SECONDS = 1.0
FORM_TYPE = {"Content-Type": "multipart/form-data; boundary=x"}
MODELS = b'{"object":"list","data":[{"id":"tiny","object":"model","owned_by":"vllm"}]}'


def hostile_form(repeats: int) -> bytes:
    """Return a form whose headers begin again and again, and never end."""
    return b"--" + b"content-disposition:" * repeats + b" name=model;" * repeats


def post(address: str, path: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    """Send a request to a proxy and return the status of the answer, which is read to its end."""
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
    """A form that is hard to read is answered at once, upstream dead or not; a stream beside it goes on."""
    with streaming_server() as server:
        exporter = start_exporter(
            f"--proxy.server=tiny=127.0.0.1:0={server.url}",
            f"--proxy.server=dead=127.0.0.1:0=http://127.0.0.1:{free_port()}",
        )
        before = Resources.of(exporter)
        with scraped(exporter) as loop:
            stream = Stream(proxy_address(exporter, "tiny"))
            body = hostile_form(repeats)
            assert post(proxy_address(exporter, "dead"), "/v1/audio/transcriptions", body, FORM_TYPE) == 502
            assert post(proxy_address(exporter, "tiny"), "/v1/audio/transcriptions", body, FORM_TYPE) == 404
            seen = loop.seen.count
            wait_until(lambda: loop.seen.count > seen, "a scrape afterwards")
            assert stream.is_alive()
            stream.close()
            assert stream.longest_gap_seconds < LONGEST_GAP_SECONDS
        wait_until_normal(exporter, before)
        assert exporter.stop(signal.SIGTERM) < 10
