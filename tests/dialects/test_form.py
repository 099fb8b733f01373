"""Multipart forms of real clients, and malformed ones."""

from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import aiohttp
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.dialects.contract import Call
from modelhost_exporter.dialects.form import MAX_HEAD_BYTES, MAX_PARTS, MAX_TAIL_BYTES, text_fields
from modelhost_exporter.dialects.openai_audio import call

from .feeding import unhurried

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n%s\r\n'
MODEL = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
STREAM = b'--x\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n'
END = b"--x--\r\n"
SOUND = bytes(range(256)) * 400


class _Keeper(HTTPServer):
    """A handler that keeps posted bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        keeper = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                keeper.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b'{"text":"hello"}')

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def keeper() -> Iterator[_Keeper]:
    """Serve a transcription that is always the same."""
    with _Keeper() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("size", [100, 100_000])
def test_openai_s_client(keeper: _Keeper, size: int) -> None:
    """The model is found in forms of openai's client, with a small file and with a large one."""
    with openai.OpenAI(api_key="k", base_url=f"http://127.0.0.1:{keeper.server_port}/v1") as client:
        client.audio.transcriptions.create(model="whisper-1", file=("a.wav", io.BytesIO(b"\r\n--" * (size // 4))))
    (body,) = keeper.bodies
    assert len(body) > size
    assert call(body) == Call("whisper-1", stream=False)


@pytest.mark.parametrize("first", ["file", "model"])
async def test_aiohttp_s_client(keeper: _Keeper, first: str) -> None:
    """The model is found before and after the file."""
    form = aiohttp.FormData()
    for name in (first, *({"file", "model"} - {first})):
        if name == "file":
            form.add_field("file", SOUND, filename="a.wav", content_type="audio/wav")
        else:
            form.add_field("model", "whisper-1")
    form.add_field("stream", "true")
    async with aiohttp.ClientSession() as session, session.post(f"http://127.0.0.1:{keeper.server_port}", data=form):
        pass
    assert call(keeper.bodies[0]) == Call("whisper-1", stream=True)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (MODEL + END, {"model": "whisper-1"}),
        (MODEL.replace(b'"model"', b"model") + END, {"model": "whisper-1"}),
        (MODEL.replace(b"Content-D", b"content-d").replace(b"name", b"NAME") + END, {"model": "whisper-1"}),
        (
            MODEL.replace(b"--x\r\n", b"--x\r\nContent-Type: text/plain\r\n") + END,
            {"model": "whisper-1"},
        ),
        (FILE % SOUND + MODEL + STREAM + END, {"model": "whisper-1", "stream": "true"}),
        (MODEL + FILE % SOUND + STREAM + END, {"model": "whisper-1", "stream": "true"}),
        (FILE % SOUND + MODEL + FILE % SOUND + END, {}),
        (FILE.replace(b"a.wav", b"x; name=model") % b"RIFF" + END, {"file": "RIFF"}),
        (MODEL, {}),
        (MODEL[:-4] + b"\r\n--y--\r\n", {}),
        (b"--x\r\n\r\nwhisper-1\r\n" + END, {}),
        (b"--x", {}),
        (b"--" + b"x" * 300 + b"\r\n" + END, {}),
        (MODEL.replace(b"whisper-1", b"w" * 257) + END, {}),
        (MODEL.replace(b"form-data;", b"form-data; a=" + b"b" * 256) + END, {}),
        (MODEL.replace(b"--x\r\n", b"--x\r\n" + b"a: b\r\n" * 8) + END, {}),
        (STREAM * MAX_PARTS + MODEL + END, {"stream": "true"}),
    ],
)
def test_forms(body: bytes, fields: dict[str, str]) -> None:
    """Short fields are found at both ends of the body, whatever its parts' headers; beyond the limits nothing is."""
    assert text_fields(body) == fields


def test_only_the_ends_are_looked_at() -> None:
    """Fields between the first 16 kB and the last 4 kB are not found."""
    between = b"x" * (MAX_HEAD_BYTES + 100) + b"\r\n" + MODEL + b"--x\r\n\r\n" + b"x" * MAX_TAIL_BYTES + b"\r\n"
    assert text_fields(b"--x\r\n\r\n" + between + END) == {}


@unhurried
@given(
    st.lists(st.sampled_from([FILE, MODEL, STREAM, END, b"--x", b"\r\n", b"\r\n\r\n", b'name="', b";"])).map(b"".join)
)
def test_noise(body: bytes) -> None:
    """Parsing a form never raises."""
    text_fields(body)
    call(b"--" + body)
