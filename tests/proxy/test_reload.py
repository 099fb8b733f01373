"""A reload changes what is proxied: listeners start and stop, and requests under way are not cut."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import signal
import socket
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.proxy.server import Proxy
from modelhost_exporter.proxy.settings import ProxiedServer
from tests.faults.observed import STREAM_PATH, Stream, proxy_address, streaming_server
from tests.support.pages import pages
from tests.support.programs import DEADLINE_SECONDS, free_port, wait_until
from tests.support.readings import Page
from tests.support.stand_in import standing_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter
    from tests.support.programs import Exporter


def entry(name: str, url: str, listen: str, **proxy: object) -> dict[str, object]:
    """Return one server of the configuration that is only proxied."""
    return {"name": name, "url": url, "poll": False, "proxy": {"listen": listen, **proxy}}


def write(file: Path, *servers: dict[str, object], **proxy: object) -> None:
    """Write a configuration with these servers and keys of the section ``proxy``; YAML reads JSON."""
    file.write_text(json.dumps({"servers": servers, "proxy": proxy}))


def reload(exporter: Exporter) -> None:
    """Reload and wait for the end."""
    exporter.process.send_signal(signal.SIGHUP)
    exporter.wait_for_message("configuration reloaded")


def get(address: str) -> bytes:
    """Return what a GET through a listener is answered."""
    connection = http.client.HTTPConnection(address, timeout=DEADLINE_SECONDS)
    try:
        connection.request("GET", "/v1/models")
        return connection.getresponse().read()
    finally:
        connection.close()


def is_refused(address: str) -> bool:
    """Return whether nothing listens there."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=DEADLINE_SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def test_new_servers_are_listened_for_and_removed_ones_no_more(start_exporter: StartExporter, tmp_path: Path) -> None:
    """A stream of a removed server goes on to its end though nothing new is accepted; what stays is not touched."""
    file = tmp_path / "config.yaml"
    with streaming_server() as streaming, standing_in({"/v1/models": b"models"}) as server:
        stays = entry("stays", server.url, "127.0.0.1:0")
        write(file, stays, entry("leaves", streaming.url, "127.0.0.1:0"))
        exporter = start_exporter(f"--config.file={file}")
        old, kept = proxy_address(exporter, "leaves"), proxy_address(exporter, "stays")
        stream = Stream(old)
        try:
            write(file, stays, entry("new", server.url, "127.0.0.1:0"))
            reload(exporter)
            assert get(proxy_address(exporter, "new")) == b"models"
            assert get(kept) == b"models"
            assert exporter.output().count('"server": "stays"') == 1
            wait_until(lambda: is_refused(old), "nothing new is accepted")
            count = stream.chunks
            wait_until(lambda: stream.chunks > count + 10, "the stream goes on")
            assert stream.is_alive()
            in_flight = b'requests_in_flight{model="tiny",operation="chat",server="leaves",state="streaming"}'
            assert in_flight + b" 1.0" in exporter.page()
        finally:
            stream.close()
        wait_until(lambda: in_flight + b" 0.0" in exporter.page(), "the stream is over")
        assert exporter.stop() < 5


def test_new_settings_apply_to_the_requests_to_come(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Another URL, on the same port and without an interruption; a stream goes on where it began."""
    file, port = tmp_path / "config.yaml", free_port()
    address = f"127.0.0.1:{port}"
    with (
        streaming_server() as streaming,
        standing_in({"/v1/models": b"one"}) as one,
        standing_in({"/v1/models": b"two"}) as two,
    ):
        streaming.pages["/v1/models"] = b"zero"
        write(file, entry("a", streaming.url, address))
        exporter = start_exporter(f"--config.file={file}")
        assert get(address) == b"zero"
        stream = Stream(address)
        try:
            for server, name, answer in ((one, "a", b"one"), (two, "renamed", b"two")):
                write(file, entry(name, server.url, address))
                reload(exporter)
                wait_until(lambda answer=answer: get(address) == answer, f"{name} is in force")  # type: ignore[misc]
            write(file)
            reload(exporter)
            wait_until(lambda: is_refused(address), "nothing is listened for")
            count = stream.chunks
            wait_until(lambda: stream.chunks > count + 30, "the stream goes on")
        finally:
            stream.close()
        page = Page(exporter.page().decode())
        assert set(page.by("modelhost_requests_total", "server", "operation")) == {
            ("a", "other"),
            ("a", "chat"),
            ("renamed", "other"),
        }


def test_new_timeouts_apply_to_open_connections(start_exporter: StartExporter, tmp_path: Path) -> None:
    """A connection that has sent nothing is closed once the timeout is reduced."""
    file = tmp_path / "config.yaml"
    with standing_in({}) as server:
        write(file, entry("a", server.url, "127.0.0.1:0"), header_timeout="10m")
        exporter = start_exporter(f"--config.file={file}")
        host, _, port = proxy_address(exporter, "a").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=DEADLINE_SECONDS) as silent:
            write(file, entry("a", server.url, "127.0.0.1:0"), header_timeout="100ms")
            reload(exporter)
            assert silent.recv(1) == b""
        closed = Page(exporter.page().decode()).by("modelhost_proxy_connections_closed_total", "reason")
        assert closed[("header_timeout",)] == 1


def test_an_address_in_use_changes_nothing(start_exporter: StartExporter, tmp_path: Path) -> None:
    """What could be started beside it is stopped again, and what was proxied goes on."""
    file, free = tmp_path / "config.yaml", free_port()
    with standing_in({"/v1/models": b"models"}) as server, socket.create_server(("127.0.0.1", 0)) as taken:
        write(file, entry("a", server.url, "127.0.0.1:0"))
        exporter = start_exporter(f"--config.file={file}")
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        write(file, entry("b", server.url, f"127.0.0.1:{free}"), entry("c", server.url, address))
        exporter.process.send_signal(signal.SIGHUP)
        error = exporter.wait_for_message("configuration not reloaded")["error"]
        assert error == f"cannot listen on {address} for c: Address already in use"
        assert get(proxy_address(exporter, "a")) == b"models"
        wait_until(lambda: is_refused(f"127.0.0.1:{free}"), "b is not listened for")
        write(file, entry("b", server.url, f"127.0.0.1:{free}"))
        reload(exporter)
        assert get(f"127.0.0.1:{free}") == b"models"


@pytest.mark.parametrize("servers", [[], ["again"]])
def test_a_restart_is_not_needed(start_exporter: StartExporter, tmp_path: Path, servers: list[str]) -> None:
    """Everything can be removed, and added again, with no trace of it left open."""
    file = tmp_path / "config.yaml"
    with standing_in({"/v1/models": b"models"}) as server:
        write(file, *(entry(name, server.url, "127.0.0.1:0") for name in servers))
        exporter = start_exporter(f"--config.file={file}")
        write(file)
        reload(exporter)
        write(file, entry("again", server.url, "127.0.0.1:0", max_inspected_body_bytes="1KiB"))
        reload(exporter)
        last = [json.loads(line) for line in exporter.lines if '"msg": "proxying"' in line][-1]
        assert get(str(last["address"])) == b"models"
        assert "Traceback" not in exporter.output()


def test_a_detected_kind_is_the_proxy_s(start_exporter: StartExporter, tmp_path: Path) -> None:
    """With kind auto token usage is requested once polling has found an engine that accepts it."""
    file = tmp_path / "config.yaml"
    with standing_in(pages("vllm")) as server:
        server.pages[STREAM_PATH] = b"{}"
        both = entry("a", server.url, "127.0.0.1:0") | {"poll": {"interval": "1h"}}
        write(file, both)
        exporter = start_exporter(f"--config.file={file}")
        wait_until(lambda: b'modelhost_engine_up{server="a",upstream=""} 1.0' in exporter.page(), "it is detected")
        state = b'modelhost_proxy_include_usage{server="a",state="trial"} 1.0'
        connection = http.client.HTTPConnection(proxy_address(exporter, "a"), timeout=DEADLINE_SECONDS)
        body = json.dumps({"model": "m", "stream": True, "messages": []})
        for _ in range(2):
            connection.request("POST", STREAM_PATH, body, {"Content-Type": "application/json"})
            assert connection.getresponse().read() == b"{}"
            assert state in exporter.page()
        connection.close()
    assert json.loads(server.bodies[0]) == json.loads(body)


def test_a_model_that_polling_lists_takes_a_place(start_exporter: StartExporter, tmp_path: Path) -> None:
    """A made-up name gives way to the engine's own model, and its series are gone from the page."""
    file = tmp_path / "config.yaml"
    with standing_in(pages("vllm")) as server:
        server.pages[STREAM_PATH] = b"{}"
        models = server.pages["/v1/models"]
        assert isinstance(models, bytes)
        (listed,) = [model["id"] for model in json.loads(models)["data"]]
        write(file, entry("a", server.url, "127.0.0.1:0") | {"poll": {"interval": "1h"}, "max_models": 1})
        exporter = start_exporter(f"--config.file={file}")
        wait_until(lambda: b'modelhost_engine_up{server="a",upstream=""} 1.0' in exporter.page(), "it is polled")
        connection = http.client.HTTPConnection(proxy_address(exporter, "a"), timeout=DEADLINE_SECONDS)
        for model in ("made up", "another", listed):
            connection.request("POST", STREAM_PATH, json.dumps({"model": model, "messages": []}))
            assert connection.getresponse().read() == b"{}"
        connection.close()
        requests = Page(exporter.page().decode()).by("modelhost_requests_total", "model")
    assert requests == {("other",): 1, (listed,): 1}


def _started_with_a_stream(
    start_exporter: StartExporter, file: Path, url: str, **settings: str
) -> tuple[Exporter, Stream]:
    """Start a proxy and a stream through it."""
    file.write_text(json.dumps({"servers": [entry("a", url, "127.0.0.1:0")], "proxy": settings}))
    exporter = start_exporter(f"--config.file={file}")
    return exporter, Stream(proxy_address(exporter, "a"))


def _is_clean(exporter: Exporter) -> bool:
    said = exporter.output()
    return exporter.process.returncode == 0 and not any(
        word in said for word in ("Unclosed", "Traceback", "never awaited")
    )


def test_a_stop_waits_for_streams(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Nothing new is accepted, the stream goes on while the page is still served; it is cut after drain_timeout."""
    with streaming_server() as streaming:
        exporter, stream = _started_with_a_stream(
            start_exporter, tmp_path / "c.yaml", streaming.url, drain_timeout="2s"
        )
        address = proxy_address(exporter, "a")
        try:
            began = time.monotonic()
            exporter.process.send_signal(signal.SIGTERM)
            waiting = exporter.wait_for_message("waiting for requests in progress")
            assert (waiting["requests"], waiting["limit"]) == (1, "2s")
            assert is_refused(address)
            assert b'server="a",state="streaming"} 1.0' in exporter.page()
            count = stream.chunks
            wait_until(lambda: stream.chunks > count + 10, "the stream goes on")
            exporter.process.wait(DEADLINE_SECONDS)
            assert 2 <= time.monotonic() - began < 6
        finally:
            stream.close()
    exporter.close()
    assert _is_clean(exporter)


def test_a_stop_ends_with_the_last_stream(start_exporter: StartExporter, tmp_path: Path) -> None:
    """It does not wait longer than there is something to wait for."""
    with streaming_server() as streaming:
        exporter, stream = _started_with_a_stream(start_exporter, tmp_path / "c.yaml", streaming.url)
        exporter.process.send_signal(signal.SIGTERM)
        exporter.wait_for_message("waiting for requests in progress")
        stream.close()
        exporter.process.wait(DEADLINE_SECONDS)
    exporter.close()
    assert _is_clean(exporter)


@pytest.mark.parametrize("removed", [False, True])
def test_a_second_signal_stops_at_once(start_exporter: StartExporter, tmp_path: Path, *, removed: bool) -> None:
    """Streams are cut then, also those of a server that a reload has removed; nothing is left open."""
    file = tmp_path / "config.yaml"
    with streaming_server() as streaming:
        exporter, stream = _started_with_a_stream(start_exporter, file, streaming.url)
        try:
            if removed:
                write(file)
                reload(exporter)
            exporter.process.send_signal(signal.SIGTERM)
            exporter.wait_for_message("waiting for requests in progress")
            assert stream.is_alive()
            assert exporter.stop() < 5
        finally:
            stream.close()
    assert _is_clean(exporter)


def test_a_new_exporter_can_listen_before_the_old_one_stops(start_exporter: StartExporter, tmp_path: Path) -> None:
    """With reuse_port a restart refuses no connection, and the old one's stream goes on to its end."""
    file, port = tmp_path / "config.yaml", free_port()
    with streaming_server() as streaming:
        streaming.pages["/v1/models"] = b"models"
        servers = [entry("a", streaming.url, f"127.0.0.1:{port}")]
        file.write_text(json.dumps({"servers": servers, "proxy": {"reuse_port": True}}))
        old = start_exporter(f"--config.file={file}")
        stream = Stream(f"127.0.0.1:{port}")
        try:
            start_exporter(f"--config.file={file}")
            old.process.send_signal(signal.SIGTERM)
            old.wait_for_message("waiting for requests in progress")
            for _ in range(20):
                assert get(f"127.0.0.1:{port}") == b"models"
            assert stream.is_alive()
        finally:
            stream.close()
        old.process.wait(DEADLINE_SECONDS)


@pytest.mark.parametrize(("host", "code"), [("localhost", 200), ("127.0.0.1:1 ", 200), ("evil.test", 403), ("", 403)])
def test_a_foreign_host_is_refused_on_loopback(
    start_exporter: StartExporter, tmp_path: Path, host: str, code: int
) -> None:
    """A page of another site whose name leads here gets nothing: the server would see a Host of its own."""
    file = tmp_path / "config.yaml"
    with standing_in({"/v1/models": b"models"}) as server:
        servers = [entry("a", server.url, "127.0.0.1:0"), entry("b", server.url, "127.0.0.1:0", allowed_hosts=["*"])]
        servers.append(entry("c", server.url, "127.0.0.1:0", allowed_hosts=["evil.test"]))
        write(file, *servers)
        exporter = start_exporter(f"--config.file={file}")
        codes = []
        for name in "abc":
            connection = http.client.HTTPConnection(proxy_address(exporter, name), timeout=DEADLINE_SECONDS)
            connection.request("GET", "/v1/models", headers={"Host": host})
            codes.append(connection.getresponse().status)
            connection.close()
    assert codes == [code, 200, 200 if host else 403]


async def test_replaced_settings_are_not_kept() -> None:
    """However many reloads change a server, its listener holds the settings in force alone once it is idle."""
    proxy = Proxy(CollectorRegistry())
    server = ProxiedServer("a", Address("127.0.0.1", 0), (ServerUrl("http://127.0.0.1:1"),))
    await proxy.listen(server)
    kept = []
    for number in range(1, 4):
        change = await proxy.prepare([replace(server, max_models=number)])
        kept.append(weakref.ref(change.kept[0][0].context))
        proxy.put_in_force(change)
        del change
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    gc.collect()
    assert [context() for context in kept] == [None] * 3
    await proxy.close()
