"""Inputs of any size that are expensive to parse."""

from __future__ import annotations

import itertools
import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[[int], Any]


def repeated(*parts: bytes, start: bytes = b"", end: bytes = b"") -> Make:
    """Return a maker of ``start``, each part again and again (all of one before the next), and ``end``."""
    return lambda size: b"".join((start, *(part * (size // len(parts) // len(part)) for part in parts), end))


def numbered(item: bytes, start: bytes = b"", end: bytes = b"", separator: bytes = b"") -> Make:
    """Return a maker of items that are all different: ``%d`` in them is their number."""
    return lambda size: start + separator.join(item % number for number in range(size // (len(item) + 4))) + end


def as_text(make: Make) -> Make:
    """Return a maker of the same as text."""
    return lambda size: make(size).decode("latin-1")


DOCUMENTS: tuple[Make, ...] = (
    *(repeated(part) for part in (b"[", b'{"a":', b"9", b" ", b"\xff", b"\\", b'"', b'"a":', b"-", b"e9", b"\x00")),
    *(repeated(part, start=b"[", end=b"0]") for part in (b"[],", b"{},", b'"",', b"1,", b"NaN,", b'"\\u0000",')),
    repeated(b"\\u0041", start=b'{"model":"', end=b'"}'),
    repeated(b'"model":{"usage":{', start=b"{"),
    repeated(b'"model":"a",', start=b"{", end=b'"stream":true}'),
    repeated(b'"usage":{', b"}", start=b"{", end=b"}"),
    numbered(b'"k%d":{}', b"{", b"}", b","),
)
FORMS: tuple[Make, ...] = (
    repeated(b"content-disposition:", b" name=model;", start=b"--"),
    *(repeated(part, start=b"--x\r\n") for part in (b"--x\r\n", b"\r\n", b"\r\n\r\n", b"a:b\r\n", b"\r\n--x", b"-")),
    repeated(b'content-disposition: form-data; name="', start=b"--x\r\n"),
    repeated(b";name=", start=b"--x\r\ncontent-disposition:", end=b"\r\n\r\nm\r\n--x--"),
    repeated(b"\r\n--" + b"a" * 200, start=b"--" + b"a" * 200 + b"b\r\n"),
)
FRAMES: tuple[Make, ...] = (
    *(repeated(part) for part in (b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b":", b"data:\n", b"data", b"x\n", b"\x00")),
    *(
        repeated(part)
        for part in (b"event: error\n", b"data: {}\n\n", b"data:[DONE]\n\n", b"{}\n", b'{"a":[]}\r\n\r\n')
    ),
    repeated(b"x", start=b"data: "),
    repeated(b"data:x\n", b"\n"),
    numbered(b'data: {"choices":[{"index":%d,"finish_reason":"stop","delta":{"content":"a"}}]}\n\n'),
    numbered(b'data: {"id":"%d","choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}\n\n'),
    numbered(b'data: {"choices":[],"timings":{"prompt_n":%d}}\n\n', b'data: {"choices":[{"index":1},{"index":9}]}\n\n'),
    numbered(b'{"model":"m","done":true,"message":{"content":"%d"}}\n'),
    numbered(b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"%d"}}\n\n'),
    numbered(b'data: {"type":"response.completed","response":{"id":"resp_%d","output":[{}]}}\n\n'),
    repeated(b'{"text":"', start=b"data: "),
    repeated(b'"text":"a\\', start=b"data: {", end=b"}\n\n"),
)


def empty_blocks(size: int) -> bytes:
    """Return a stream of nothing but flushes."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(b"") + b"".join(
        packer.flush(zlib.Z_FULL_FLUSH) or b"\0\0\0\xff\xff" for _ in range(size // 5)
    )


def metrics_pages(page: bytes) -> tuple[Make, ...]:
    """Return hostile pages with an engine's own names, made from a sample with labels and a bucket of its page."""
    samples = [line for line in page.splitlines() if line and not line.startswith(b"#")]
    sample = max(samples, key=lambda line: b"{" in line)
    name = sample.partition(b"{")[0].partition(b" ")[0]
    buckets = [line.partition(b"{")[0] for line in page.splitlines() if b"_bucket{" in line]
    bucket = buckets[0] if buckets else name
    labels = (b"a", b'a="', b'a="b",', b'a="\\', b"{", b"} ", b'le="', b", ", b"} 1 # ", b'="', b"\\")
    return (
        *(repeated(part, start=name + b"{", end=b"} 1\n") for part in labels),
        *(repeated(name + b"{" + part * (2000 // len(part)) + b"} 1\n") for part in labels),
        *(repeated(part, start=name, end=b"!\n") for part in (b"a", b" ", b"\t", b" 1", b"\r")),
        *(repeated(part) for part in (b"\n", b"#\n", name + b" 1\n", name + b"\n", sample + b"\n", b"\xff", b"\r")),
        numbered(name + b'{a="%d"} 1e308\n'),
        numbered(bucket + b'{le="%d"} 1\n', end=bucket.removesuffix(b"_bucket") + b"_sum 1\n"),
    )


def list_pages(page: bytes) -> tuple[Make, ...]:
    """Return a page of JSON whose lists are long: each of its first items again and again."""

    def longer(value: Any, count: int) -> Any:
        if isinstance(value, dict):
            return {key: longer(inner, count) for key, inner in value.items()}
        return list(itertools.repeat(value[0], count)) if isinstance(value, list) and value else value

    document = json.loads(page)
    return (lambda size: json.dumps(longer(document, size // 50)).encode(), *DOCUMENTS)


def answers() -> tuple[Make, ...]:
    """Return answers of a server to a poll."""
    ok = b"HTTP/1.1 200 OK\r\n"
    chunked = ok + b"Transfer-Encoding: chunked\r\n\r\n"
    return (
        repeated(b"x"),
        repeated(b"\r\n"),
        repeated(b"HTTP/1.1 100 Continue\r\n\r\n"),
        *(repeated(part, start=ok) for part in (b"a:b\r\n", b"a", b" a\r\n", b":\r\n")),
        *(repeated(part, start=chunked) for part in (b"1\r\na\r\n", b"2;a=b\r\nab\r\n", b"0", b"-1\r\n", b"f")),
        repeated(b"a:b\r\n", start=chunked + b"0\r\n"),
        repeated(b"9", start=ok + b"Content-Length: ", end=b"\r\n\r\n"),
        repeated(b"../", start=b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ", end=b"\r\n\r\n"),
    )
