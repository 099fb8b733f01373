"""Every reader of bytes from elsewhere, with the inputs that it must read in linear time."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from modelhost_exporter import dialects
from modelhost_exporter.collector import Unavailable
from modelhost_exporter.collectors import conntrack, pressure, tcp
from modelhost_exporter.config.http_url import PageUrl, ServerUrl
from modelhost_exporter.dialects.decompress import CannotDecompress, decompressor
from modelhost_exporter.dialects.form import text_fields
from modelhost_exporter.dialects.ndjson import Lines
from modelhost_exporter.dialects.sse import EventStream
from modelhost_exporter.dialects.usage_request import UsageFrameFilter, ask
from modelhost_exporter.dialects.whole_body import WholeBody
from modelhost_exporter.engines import kinds
from modelhost_exporter.engines.kinds.llamacpp.kv_cache import capacity
from modelhost_exporter.engines.pages import PollPolicy
from modelhost_exporter.engines.polling.fetching import Fetcher
from modelhost_exporter.gpu import processes
from modelhost_exporter.gpu.sysfs import amd
from modelhost_exporter.linux import cgroups, disks, kernel_files, memory, netstat
from modelhost_exporter.live.settings import AllowedHost, AllowedOrigin
from modelhost_exporter.metrics.exposition import accepts_gzip, negotiate
from modelhost_exporter.proxy.headers import Field, tokens
from modelhost_exporter.web.routes import scrape_timeout
from tests.faults.hostile import (
    DOCUMENTS,
    FORMS,
    FRAMES,
    answers,
    as_text,
    empty_blocks,
    list_pages,
    metrics_pages,
    repeated,
)
from tests.support.compression import PACK, blocks
from tests.support.pages import SERVERS, pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.faults.hostile import Make

SSE, NDJSON, JSON = "text/event-stream", "application/x-ndjson", "application/json"


class Reader(NamedTuple):
    """One reader of foreign data: how it is called, and inputs by size."""

    name: str
    run: Callable[[Any], object]
    makes: Sequence[Make]


def in_pieces(feed: Callable[[bytes], object], size: int) -> Callable[[bytes], None]:
    """Return a function that feeds data in pieces of a size, 0 for all at once."""

    def run(data: bytes) -> None:
        for start in range(0, len(data), size or len(data) or 1):
            feed(data[start : start + (size or len(data))])

    return run


def reply_reader(format_: dialects.Dialect, content_type: str, size: int) -> Callable[[bytes], object]:
    """Return a function that reads a whole reply."""

    def run(data: bytes) -> object:
        reply = format_.reply(content_type)
        in_pieces(reply.feed, size)(data)
        return reply.finish()

    return run


def framing_reader(create: Callable[[], Any], method: str, size: int) -> Callable[[bytes], None]:
    """Return a function that gives data to something new, piece by piece."""

    def run(data: bytes) -> None:
        in_pieces(getattr(create(), method), size)(data)

    return run


def excerpt(data: bytes) -> object:
    """Return the excerpt of a body that is too long to keep."""
    body = WholeBody(1)
    in_pieces(body.add, 1000)(data)
    return body.cut, body.excerpt(("model", "usage"))


def inflate(encoding: str, size: int) -> Callable[[bytes], None]:
    """Return a function that inflates data until it cannot be."""

    def run(data: bytes) -> None:
        with contextlib.suppress(CannotDecompress):
            in_pieces(decompressor(encoding), size)(data)

    return run


def may_raise(read: Callable[[Any], object], *errors: type[Exception]) -> Callable[[Any], None]:
    """Return a function that reads, and ignores errors that its callers handle."""

    def run(data: object) -> None:
        with contextlib.suppress(ValueError, LookupError, *errors):
            read(data)

    return run


def snapshot(folder: str, path: str) -> Callable[[bytes], None]:
    """Return a function that reads a model server, one of whose pages is replaced."""
    kind, honest = kinds.engine_kind(SERVERS[folder]), pages(folder)

    def read(page: bytes) -> None:
        served = {**honest, path: page}
        kind.detect(served.__getitem__)
        kind.snapshot(served.__getitem__, PollPolicy("on"))

    return may_raise(read)


def server_readers() -> Iterator[Reader]:
    """Yield every kind's reader, for each page of one server of that kind."""
    folders = {kind: folder for folder, kind in reversed(SERVERS.items())}
    for folder in folders.values():
        for path, page in pages(folder).items():
            makes = list_pages(page) if page[:1] in b"{[" else metrics_pages(page)
            yield Reader(f"{folder} {path}", snapshot(folder, path), makes)


def wire_readers() -> Iterator[Reader]:
    """Yield the dialects' readers and their framings."""
    for format_ in dialects.FORMATS:
        yield Reader(f"{format_.NAME} call", format_.call, (*DOCUMENTS, *FORMS))
        for kind in (SSE, NDJSON):
            yield Reader(f"{format_.NAME} {kind}", reply_reader(format_, kind, 0), FRAMES)
        yield Reader(f"{format_.NAME} {JSON}", reply_reader(format_, JSON, 0), DOCUMENTS)
    for size in (1, 0):
        framings: Mapping[str, tuple[Callable[[], Any], str]] = {
            "events": (EventStream, "feed"),
            "lines": (Lines, "feed"),
            "small events": (lambda: EventStream(1000), "feed"),
            "body": (WholeBody, "add"),
            "small body": (lambda: WholeBody(1000), "add"),
            "usage filter": (UsageFrameFilter, "feed"),
        }
        for name, (create, method) in framings.items():
            yield Reader(f"{name} by {size or 'all'}", framing_reader(create, method, size), FRAMES)
    yield Reader("excerpt", excerpt, DOCUMENTS)
    yield Reader("form", text_fields, FORMS)
    yield Reader("ask for usage", ask, (*DOCUMENTS, repeated(b'"a":{},', start=b'{"stream":true,', end=b'"b":0}')))
    yield Reader("path", dialects.find.__wrapped__, tuple(as_text(repeated(part)) for part in (b"/", b"/a", b"a")))


def inflating_readers() -> Iterator[Reader]:
    """Yield the readers of compressed replies."""
    members = (gzip.compress(b""), gzip.compress(b"a"), gzip.compress(b"a", 0))
    makes: tuple[Make, ...] = (
        *(repeated(member) for member in members),
        lambda size: gzip.compress(bytes(size)),
        lambda size: gzip.compress(bytes(range(256)) * (size // 256), 0),
        repeated(b"x", start=b"\x1f\x8b\x08\x08" + bytes(6)),  # a file's name without end
        empty_blocks,
    )
    compressed: dict[str, tuple[Make, ...]] = {
        encoding: (
            lambda size, pack=pack: pack(bytes(size)),  # type: ignore[misc]
            lambda size, pack=pack: pack(bytes(range(256)) * (size // 256)),  # type: ignore[misc]
            repeated(pack(b"")),
            repeated(pack(b"a")),
        )
        for encoding, pack in PACK.items()
        if encoding in ("br", "zstd")
    }
    if compressed:
        compressed["br"] = (*compressed["br"], lambda size: blocks(b"a" * (size // 8), 1))
    for size in (1, 100, 0):
        yield Reader(f"gzip by {size or 'all'}", inflate("gzip", size), makes)
        for encoding, made in compressed.items():
            yield Reader(f"{encoding} by {size or 'all'}", inflate(encoding, size), made)
        yield Reader(f"deflate by {size or 'all'}", inflate("deflate", size), (*makes, repeated(b"\0\0\0\xff\xff")))


def _tokens(value: str) -> object:
    field = Field(b"connection", b"Connection", value.encode())
    return tokens([field, field], b"connection")


def header_readers() -> Iterator[Reader]:
    """Yield the readers of request headers and addresses."""
    lists = tuple(as_text(repeated(part)) for part in (b",", b";", b"a,", b"a;q=1,", b"q=", b'"', b" ", b";q=9", b"*"))
    yield Reader("Accept", negotiate, lists)
    yield Reader("Accept-Encoding", accepts_gzip, lists)
    hosts = tuple(
        as_text(repeated(part)) for part in (b"a", b"a.", b":", b"[", b"[:", b"a:1", b"-", b"\xe4", b"xn--", b"/")
    )
    urls = (
        *hosts,
        *(as_text(repeated(part, start=b"http://")) for part in (b"a", b"a.", b":", b"@", b"/", b"?", b"%2", b"[")),
    )
    yield Reader("list of tokens", _tokens, lists)
    yield Reader(
        "scrape time-out", scrape_timeout, tuple(as_text(repeated(part)) for part in (b"9", b"e9", b".", b"_"))
    )
    yield Reader("Host", may_raise(AllowedHost.from_text), hosts)
    yield Reader("Origin", may_raise(AllowedOrigin.from_text), urls)
    yield Reader("server URL", may_raise(ServerUrl.from_text), urls)
    yield Reader("page URL", may_raise(PageUrl.from_text), urls)


def fetched(answer: bytes) -> None:
    """Fetch a page from a server that sends these bytes as its whole response and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            server.close()  # a redirect leads nowhere
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        fetcher = Fetcher(f"http://127.0.0.1:{server.getsockname()[1]}", {}, 20)
        with contextlib.suppress(OSError, LookupError, ValueError):
            fetcher.get("/")
        fetcher.close()
        thread.join()


def kernel_readers() -> Iterator[Reader]:
    """Yield the parsers of text from the kernel, drivers and command lines."""
    parts = (
        b"\n",
        b" ",
        b"a",
        b"9",
        b"a 1\n",
        b"a: ",
        b"TCP: tw ",
        b"some total=",
        b"Tcp: CurrEstab\n",
        b"0-",
        b"0,",
        b"\t",
    )
    makes = tuple(
        as_text(repeated(part)) for part in (*parts, b"1: 9Mhz *\n", b"0::/a\n", b"8 0 sda" + b" 1" * 11 + b"\n")
    )
    parsers: tuple[Callable[[str], object], ...] = (
        kernel_files.parse_counts,
        kernel_files.parse_ranges,
        tcp.parse_established,
        tcp.parse_time_wait,
        pressure.parse_totals,
        disks.parse_diskstats,
        cgroups.own_path,
        memory.parse_arcstats,
        conntrack.parse_statistics,
        netstat.parse_pairs,
        netstat.parse_snmp6,
        netstat.parse_sockstat,
        amd.parse_clocks,
    )
    for parser in parsers:
        yield Reader(f"{parser.__module__}.{parser.__name__}", may_raise(parser, Unavailable), makes)
    commands: tuple[Make, ...] = (
        lambda size: ["python", *["-m"] * (size // 2)],
        lambda size: ["-X"] * (size // 2),
        lambda size: ["/" * size],
        lambda size: ["C:\\" * (size // 3)],
        lambda size: ["a:" * (size // 2)],
        lambda size: ["python", "a" * size],
        lambda size: ["python1" + "." * size + ".ex"],
    )
    yield Reader("program", processes.program, commands)
    yield Reader("llama.cpp's command line", lambda words: capacity(words, 4, 4096, None), commands)


def readers() -> Iterator[Reader]:
    """Yield every reader."""
    yield from wire_readers()
    yield from inflating_readers()
    yield from server_readers()
    yield from header_readers()
    yield Reader("HTTP answer", fetched, answers())
    yield from kernel_readers()
