"""Requests and responses for generated tests: valid ones, and ones with the mistakes that smuggle requests."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

_NAME_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_KNOWN = frozenset(
    b"host content-length transfer-encoding connection upgrade expect te trailer keep-alive date"
    b" proxy-connection proxy-authenticate proxy-authorization sec-websocket-key".split()
)
"""Fields with a meaning for the proxy, which are generated on purpose only."""
CRLF = b"\r\n"
_LARGE = b"x" * 70_000
"""More than what may wait of later requests on a connection, so that only the first can have it."""

methods = st.sampled_from(
    b"GET GET POST POST POST HEAD PUT DELETE PATCH OPTIONS PROPFIND REPORT SEARCH PURGE MKCOL".split()
)
targets = st.one_of(
    st.sampled_from(
        b"/ /a /v1/chat/completions /api/chat /a?b=c&d /? //a /a/../b /%2e%2E/ /a%20b /;a=b?c=/?d"
        b" http://h.test/x?y HTTPS://h.test:80 http://h.test?z".split()
    ),
    st.text("abcXYZ019-._~!$&'()*+,;=:@/?", max_size=20).map(lambda text: b"/" + text.encode()),
)
names = (
    st.text(_NAME_CHARACTERS, min_size=1, max_size=8).map(str.encode).filter(lambda name: name.lower() not in _KNOWN)
)
_words = st.binary(min_size=1, max_size=6).map(
    lambda data: bytes(byte if byte > 0x20 and byte != 0x7F else byte % 0x5E + 0x21 for byte in data)
)
values = st.lists(_words, max_size=3).map(b" ".join) | st.just(b"a\tb  c")
spaces = st.sampled_from([b" ", b" ", b" ", b"", b"  ", b"\t", b" \t "])
bodies = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b'{"model":"m","stream":true}', b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n"]),
)
_sizes = st.sampled_from([b"%x", b"%x", b"%X", b"0%x", b"0000%X"])
_extensions = st.sampled_from([b"", b"", b"", b";a", b";a=b", b';a="b c"', b";a=b;c"])
_trailers = st.sampled_from([b"", b"", b"X-T: 1\r\n", b"X-T: 1\r\nHost: b\r\n"])


@dataclass(frozen=True)
class Sent:
    """Bytes to send in pieces, requests or a response."""

    data: bytes
    cuts: tuple[int, ...] = ()
    closes: bool = False
    """Whether the sender closes the connection after them."""
    request: bytes = b""
    """The request, where this is the response."""

    def __repr__(self) -> str:
        """Describe it briefly: the description is made for each example."""
        return f"Sent({self.data.replace(_LARGE, b'...large...')!r}, {self.cuts}, {self.closes}, {self.request!r})"

    @property
    def pieces(self) -> list[bytes]:
        """The pieces; there is at least one."""
        places = sorted(cut % (len(self.data) + 1) for cut in self.cuts)
        return [self.data[start:end] for start, end in zip([0, *places], [*places, len(self.data)], strict=True)]


@st.composite
def chunked_bodies(draw: st.DrawFn) -> bytes:
    """Generate a valid chunked body."""
    pieces = draw(st.lists(bodies.filter(bool), max_size=3))
    chunks = [draw(_sizes) % len(piece) + draw(_extensions) + CRLF + piece + CRLF for piece in pieces]
    last = draw(st.sampled_from([b"0", b"0", b"000"])) + draw(_extensions) + CRLF
    return b"".join(chunks) + last + draw(_trailers) + CRLF


@st.composite
def fields(draw: st.DrawFn, most: int = 4) -> list[bytes]:
    """Generate lines of valid header fields that do not concern the framing."""
    chosen = draw(st.lists(st.tuples(names, spaces, values, st.sampled_from([b"", b"", b" ", b"\t"])), max_size=most))
    lines = [name + b":" + before + value + after for name, before, value, after in chosen]
    hops = [b"Keep-Alive: timeout=5", b"TE: trailers", b"Proxy-Authorization: Basic YTpi", b"Trailer: X-T"]
    lines += draw(st.lists(st.sampled_from(hops), max_size=1))
    if draw(st.booleans()):
        lines += [b"Connection: keep-alive, " + name for name, *_ in chosen[:1]]  # a field for the next hop only
    return lines


@st.composite
def framings(draw: st.DrawFn, *, chunked: bool, large: bool) -> tuple[list[bytes], bytes]:
    """Generate valid fields that frame a body, and the body."""
    kind = draw(st.sampled_from(["none", "length", "chunked" if chunked else "length"]))
    if kind == "none":
        return [], b""
    if kind == "length":
        body = draw(bodies)
        if large and draw(st.integers(0, 5)) == 0:
            body += _LARGE
        end = draw(st.sampled_from([b"", b"", b"", b" "]))
        return [draw(st.sampled_from([b"Content-Length", b"content-length"])) + b": %d" % len(body) + end], body
    coding = draw(st.sampled_from([b"chunked", b"chunked", b"Chunked"]))  # llhttp refuses a tab after it
    return [b"Transfer-Encoding: " + coding], draw(chunked_bodies())


@st.composite
def valid_requests(draw: st.DrawFn, *, first: bool, last: bool) -> bytes:
    """Generate a request that a proxy has to forward."""
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    framing, body = draw(framings(chunked=version == b"1.1", large=first))
    lines = [b"Host: a", *draw(fields()), *framing]
    if version == b"1.0" and not last:
        lines.append(b"Connection: keep-alive")
    if last and draw(st.booleans()):
        lines.append(b"Connection: close")
    if body and draw(st.integers(0, 5)) == 0:
        lines.append(b"Expect: 100-continue")
    lines = list(draw(st.permutations(lines)))
    head = CRLF.join([b"%b %b HTTP/%b" % (draw(methods), draw(targets), version), *lines, b"", b""])
    return head + body


@st.composite
def valid_connections(draw: st.DrawFn) -> Sent:
    """Generate a few requests that are sent at once, in pieces that have nothing to do with them."""
    count = draw(st.integers(1, 3))
    data = b"".join(draw(valid_requests(first=not number, last=number == count - 1)) for number in range(count))
    return Sent(draw(st.sampled_from([b"", b"", b"", b"\r\n"])) + data, draw(_cuts))


_CHUNK_FORMS = [
    *[b"%x\r\n%b\r\n"] * 12,
    *(b"%X\r\n%b\r\n", b"0%x\r\n%b\r\n", b"%x;a=b\r\n%b\r\n", b"0x%x\r\n%b\r\n", b"+%x\r\n%b\r\n"),
    *(b"%x\r\n%b", b"%x\r\n%b\r", b"%x\r\n%b\n", b"%x\n%b\n", b"%x\r\n%b\r\n\r\n", b"%x\r\n%bx\r\n", b"-%x\r\n%b\r\n"),
    *(b"%x\r\n%b\r\n0\r\n\r\n", b"%x\r\n%b\r\n5\r\n", b"%x\r\n%b\r\n5", b"\r\n%x\r\n%b\r\n", b"5\r\n%x\r\n%b\r\n"),
]


@st.composite
def responses_in_chunks(draw: st.DrawFn) -> Sent:
    """Generate a chunked response, each of whose chunks is sent alone; some have mistakes, or more than a chunk."""
    pieces = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    for content, form in draw(st.lists(st.tuples(bodies, st.sampled_from(_CHUNK_FORMS)), max_size=6)):
        size = max(0, len(content) + draw(st.sampled_from([0] * 12 + [-1, 1])))
        pieces.append(form % (size, content))
    pieces.append(draw(st.sampled_from([b"0\r\n\r\n"] * 4 + [b"0\r\nX-T: 1\r\n\r\n", b"0\r\n", b""])))
    data = b"".join(pieces)
    cuts = tuple(sum(map(len, pieces[: count + 1])) for count in range(len(pieces) - 1))
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    return Sent(data, cuts, closes=True, request=b"GET /v1/chat/completions HTTP/%b\r\nHost: a\r\n\r\n" % version)


_cuts = st.lists(st.integers(0, 1 << 17) | st.integers(0, 200), max_size=4).map(tuple)

_FRAMING_LINES = [
    *(b"Content-Length: 5", b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 05", b"Content-Length: +5"),
    *(
        b"Content-Length: 5, 5",
        b"Content-Length: 5,6",
        b"Content-Length: 0x5",
        b"Content-Length:",
        b"Content-Length : 5",
    ),
    *(b"Content-Length: 18446744073709551621", b"Content_Length: 5", b"Content-Length: 5\x0b", b"Content-Length: -5"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
    *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: xchunked"),
    *(b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: chunked;a=b", b"Transfer-Encoding :chunked"),
    *(b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding\t: chunked", b"Transfer-Encoding: chunked,"),
    *(b" Transfer-Encoding: chunked", b"X: y\r\n Transfer-Encoding: chunked", b'Transfer-Encoding: "chunked"'),
    *(b"Transfer-Encoding:", b"Transfer-Encoding: CHUNKED", b"X: y\rTransfer-Encoding: chunked"),
]
_hostile_framings = st.one_of(
    st.just([b"Transfer-Encoding: chunked"]),
    st.just([b"Content-Length: 5"]),
    st.lists(st.sampled_from(_FRAMING_LINES), max_size=2),
)
_OTHER_LINES = [
    *(b"Connection: close", b"Connection: keep-alive", b"Connection: content-length", b"Connection: host, x-a"),
    *(b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: h2c", b"Upgrade: tcp", b"Expect: 100-continue"),
    *(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13", b"Expect: x", b"X-A: 1"),
    *(
        b"Host: b",
        b"Host : b",
        b"Host:",
        b"X-A",
        b": x",
        b"X A: b",
        b"X-A: \x00",
        b"X-A: \x7f",
        b"X-A: a\r\n b",
        b"\tX-A: b",
    ),
    *(b"X-A: a\nX-B: b", b"X-\xe9: b", b"X-A: \xe9", b"X-A: a\x0bb"),
]
_HOSTILE_BODIES = [
    *(
        b"hello",
        b"hello",
        b"",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
    ),
    *(
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5;a=\nb\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
    ),
    *(
        b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        b"5\r\nhello\r\n0\r\n",
        b"-5\r\nhello\r\n",
    ),
    *(b"fffffffffffffffff\r\nhello\r\n", b"10000000000000005\r\nhello\r\n0\r\n\r\n", b"5\r\rhello\r\n0\r\n\r\n"),
    *(
        b"5;\r\nhello\r\n0\r\n\r\n",
        b"5;a\x00b\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n00;x\r\n\r\n",
        b"\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
]
_DAMAGE = [
    *(
        b" ",
        b"\t",
        b"\r",
        b"\n",
        b"\r\n",
        b"\x00",
        b"\x0b",
        b"\x0c",
        b"\x85",
        b"\xa0",
        b"\xff",
        b":",
        b";",
        b",",
        b"0",
        b"5",
    ),
    *(b"\r\n\r\n", b"  ", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1", b"\x1f", b"chunked", b"\xc4\xb0"),
]
_damage = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.sampled_from(_DAMAGE)), max_size=2)


def damaged(data: bytes, damage: list[tuple[int, int, bytes]]) -> bytes:
    """Return bytes with other bytes inserted, or in the place of a few."""
    for place, count, piece in damage:
        start = place % (len(data) + 1)
        data = data[:start] + piece + data[start + count :]
    return data


@st.composite
def hostile_requests(draw: st.DrawFn) -> bytes:
    """Generate a request with mistakes, or none."""
    mostly = st.sampled_from([True] * 12 + [False])
    method = (
        draw(methods) if draw(mostly) else draw(st.sampled_from([b"get", b"G\x01T", b"", b"CONNECT", b"PRI", b"X"]))
    )
    target = (
        draw(targets)
        if draw(mostly)
        else draw(
            st.sampled_from([b"*", b"a:80", b"", b"/a b", b"/a\tb", b"/\xe9", b"/a#b", b"ftp://h/", b"/\x7f", b"/\x00"])
        )
    )
    version = (
        draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]))
        if draw(mostly)
        else draw(
            st.sampled_from(
                [b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"http/1.1", b"HTTP/1.10", b"HTTP/1", b"", b"ICE/1.0"]
            )
        )
    )
    odd = st.sampled_from([b" "] * 24 + [b"  ", b"\t", b"", b"\x0b", b" \t"])
    line = (
        draw(st.sampled_from([b""] * 20 + [b" ", b"\n", b"\r\n"])) + method + draw(odd) + target + draw(odd) + version
    )
    lines = list(draw(_hostile_framings))
    lines += draw(st.lists(st.sampled_from(_OTHER_LINES), max_size=2))
    host = [] if draw(st.integers(0, 15)) == 0 else [b"Host: a"]
    eol = CRLF if draw(mostly) else draw(st.sampled_from([b"\n", b"\r", b"\r\r\n", b"\n\r"]))
    return eol.join([line, *host, *lines, b"", b""]) + draw(st.sampled_from(_HOSTILE_BODIES))


@st.composite
def hostile_connections(draw: st.DrawFn) -> Sent:
    """Generate requests with mistakes, each followed by others."""
    data = b"".join(draw(st.lists(hostile_requests(), min_size=1, max_size=2)))
    data = damaged(data, draw(_damage))
    return Sent(data + draw(st.sampled_from([b"", b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"])), draw(_cuts))


_STATUSES = [
    *(b"200 OK", b"200 OK", b"200 ", b"201 Created", b"204 No Content", b"304 Not Modified", b"302 Found", b"404 \xe9"),
    *(b"429 Too Many  Requests", b"500 Oh no", b"503 Busy", b"299 x", b"599 y"),
]
_TYPES = [
    *(b"Content-Type: text/event-stream", b"Content-Type: application/json", b"content-type: application/x-ndjson"),
    *(b"Content-Encoding: gzip", b"Set-Cookie: a=b", b"Set-Cookie: c=d", b"Date: Thu, 01 Jan 2026 00:00:00 GMT"),
]
_BODY = b'{"model":"m","messages":[],"stream":true}'
_REQUESTS = [
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a HTTP/1.0\r\n\r\n",
    b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY),
    b"POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY),
]
_interim = st.sampled_from(
    [
        *(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        b"HTTP/1.1 102 \r\nConnection: x-a\r\nX-A: b\r\n\r\n",
    ]
)


@st.composite
def valid_responses(draw: st.DrawFn) -> Sent:
    """Generate a response that a proxy has to forward."""
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    status, request = draw(st.sampled_from(_STATUSES)), draw(st.sampled_from(_REQUESTS))
    framing, body = draw(framings(chunked=version == b"1.1", large=True))
    is_bodiless = request.startswith(b"HEAD") or status[:3] in (b"204", b"304")
    closes = not framing or draw(st.booleans())
    if not framing and not is_bodiless:
        body = draw(bodies)
    lines = [*draw(fields()), *draw(st.lists(st.sampled_from(_TYPES), max_size=2, unique=True)), *framing]
    if closes and draw(st.booleans()):
        lines.append(b"Connection: close")
    lines = list(draw(st.permutations(lines)))
    head = CRLF.join([b"HTTP/%b %b" % (version, status), *lines, b"", b""])
    interim = b"".join(draw(st.lists(_interim, max_size=2)))
    return Sent(interim + head + (b"" if is_bodiless else body), draw(_cuts), closes, request)


@st.composite
def hostile_responses(draw: st.DrawFn) -> Sent:
    """Generate a response with mistakes, which may have bytes after its end, or none."""
    mostly = st.sampled_from([True] * 12 + [False])
    version = (
        draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]))
        if draw(mostly)
        else draw(st.sampled_from([b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.10", b"HTTP/1", b"", b"ICY"]))
    )
    status = (
        draw(st.sampled_from(_STATUSES))
        if draw(mostly)
        else draw(
            st.sampled_from(
                [b"20 OK", b"2000 OK", b"099 x", b"600 x", b"200", b"101 x", b"-20 x", b"200\tOK", b"200 \x00"]
            )
        )
    )
    odd = st.sampled_from([b" "] * 24 + [b"  ", b"\t", b"", b"\x0b"])
    lines = list(draw(_hostile_framings))
    lines += draw(st.lists(st.sampled_from([*_OTHER_LINES, *_TYPES]), max_size=2))
    eol = CRLF if draw(mostly) else draw(st.sampled_from([b"\n", b"\r", b"\r\r\n", b"\n\r"]))
    head = eol.join([version + draw(odd) + status, *lines, b"", b""])
    data = b"".join(draw(st.lists(_interim, max_size=1))) + head + draw(st.sampled_from(_HOSTILE_BODIES))
    surplus = draw(st.sampled_from([b"", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled", b"\r\n", b"x"]))
    data = damaged(data, draw(_damage)) + surplus
    return Sent(data, draw(_cuts), draw(st.booleans()), draw(st.sampled_from(_REQUESTS)))
