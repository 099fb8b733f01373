"""Inflating copies of replies: members, splits and bombs."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
import zlib
from hashlib import sha256
from time import process_time

import pytest

from modelhost_exporter.dialects.decompress import MAX_BYTES_AT_ONCE, CannotDecompress, decompressor
from tests.support.compression import PACK, blocks, brotli, frame, zstd

if "zstd" not in PACK:
    pytest.skip("brotli or zstd is not installed: make test", allow_module_level=True)

TEXT = b"data: {}\n\n" * 500


def packed(data: bytes) -> bytes:
    """Return data as one member of gzip, the same at any time: it is in the names of tests."""
    return gzip.compress(data, mtime=0)


def raw(data: bytes) -> bytes:
    """Return data in the raw form of deflate."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


SKIPPABLE = 0x184D2A50.to_bytes(4, "little") + (3).to_bytes(4, "little") + b"abc"


@pytest.mark.parametrize("size", [1, 3, 4096, 4097, 100_000])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", packed(TEXT)),
        ("X-GZIP", packed(TEXT[:7]) + packed(b"") * 1000 + packed(TEXT[7:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw(TEXT)),
        ("br", brotli.compress(TEXT)),
        ("br", blocks(TEXT, 10)),
        ("br", blocks(TEXT, len(TEXT))),
        ("BR", brotli.compress(TEXT, lgwin=24)),
        ("zstd", zstd.compress(TEXT)),
        ("zstd", frame(TEXT)),
        ("zstd", frame(TEXT, checksum_flag=1, window_log=23)),
        ("zstd", SKIPPABLE + frame(TEXT[:7]) + frame(b"") * 50 + SKIPPABLE + zstd.compress(TEXT[7:])),
        ("identity", TEXT),
        ("", TEXT),
    ],
)
def test_any_split_inflates_to_the_same(encoding: str, body: bytes, size: int) -> None:
    """Members and pieces may begin and end anywhere."""
    inflate = decompressor(encoding)
    assert b"".join(inflate(body[start : start + size]) for start in range(0, len(body), size)) == TEXT


@pytest.mark.parametrize(
    ("encoding", "members"), [("gzip", 1), ("gzip", 300), ("zstd", 1), ("zstd", 100), ("br", 1), ("deflate", 1)]
)
def test_a_piece_inflates_to_so_much_at_most(encoding: str, members: int) -> None:
    """A bomb is given up, in one member or in many; what is just small enough is not."""
    pack = PACK[encoding]
    whole = bytes(MAX_BYTES_AT_ONCE // members)
    rest = bytes(MAX_BYTES_AT_ONCE - len(whole) * members)
    parts = [whole] * members + ([rest] if rest else [])
    assert len(decompressor(encoding)(b"".join(map(pack, parts)))) == MAX_BYTES_AT_ONCE
    parts[-1] += b"x"
    with pytest.raises(CannotDecompress, match="too large"):
        decompressor(encoding)(b"".join(map(pack, parts)))


@pytest.mark.parametrize("encoding", PACK)
def test_a_bomb_takes_little_memory(encoding: str) -> None:
    """The rest of a bomb is never inflated."""
    bomb, inflate = PACK[encoding](bytes(16 << 20)), decompressor(encoding)
    tracemalloc.start()
    try:
        with pytest.raises(CannotDecompress, match="too large"):
            inflate(bomb)
        assert tracemalloc.get_traced_memory()[1] < 5 * MAX_BYTES_AT_ONCE
    finally:
        tracemalloc.stop()


def test_a_flood_of_empty_frames() -> None:
    """Each frame of zstd takes as long as thousands of bytes: many in one piece are given up, in pieces they pass."""
    flood = frame(b"") * 5000
    start = process_time()
    with pytest.raises(CannotDecompress, match="too large"):
        decompressor("zstd")(flood)
    assert process_time() - start < 0.1
    inflate = decompressor("zstd")
    assert b"".join(inflate(flood[start : start + 90]) for start in range(0, 9000, 90)) == b""


def test_a_large_window_of_zstd() -> None:
    """A frame that requires more than 8 MiB to refer to is refused before any of it is allocated."""
    with pytest.raises(CannotDecompress):
        decompressor("zstd")(frame(TEXT, window_log=24))


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("kept", [0, 1, 5, 0.5, 0.9])
def test_a_truncated_body(encoding: str, kept: float) -> None:
    """What is there is inflated; the end is missed by who parses it."""
    body = PACK[encoding](TEXT)
    inflated = decompressor(encoding)(body[: int(kept * len(body)) if isinstance(kept, float) else kept])
    assert TEXT.startswith(inflated)


@pytest.mark.parametrize("encoding", PACK)
def test_corrupt_bytes(encoding: str) -> None:
    """Whatever the bytes are, they inflate to something small or are refused."""
    noise = b"".join(sha256(bytes([number])).digest() for number in range(6))
    body = PACK[encoding](noise + TEXT[:300])
    for place, mask in itertools.product(range(len(body)), (1, 0x80, 0xFF)):
        corrupt = bytearray(body)
        corrupt[place] ^= mask
        inflate = decompressor(encoding)
        try:
            assert len(inflate(bytes(corrupt)) + inflate(b"")) <= MAX_BYTES_AT_ONCE
        except CannotDecompress:
            continue


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("behind", [b"x", b"junk behind the end"])
def test_bytes_behind_the_end(encoding: str, behind: bytes) -> None:
    """They are refused: in the same piece, and in the next one."""
    body = PACK[encoding](TEXT)
    with pytest.raises(CannotDecompress):
        decompressor(encoding)(body + behind + bytes(20))
    inflate = decompressor(encoding)
    inflate(body)
    with pytest.raises(CannotDecompress):
        inflate(behind + bytes(20))


@pytest.mark.parametrize("body", [b"no gzip at all", packed(TEXT)[:-8] + b"12345678", packed(b"") + b"x"])
def test_broken_bytes(body: bytes) -> None:
    """Bytes that are no gzip, a wrong check sum, and something behind the end."""
    with pytest.raises(CannotDecompress):
        decompressor("gzip")(body + bytes(20))


def test_an_encoding_that_is_not_known() -> None:
    """It is said so at once."""
    with pytest.raises(CannotDecompress):
        decompressor("compress")
