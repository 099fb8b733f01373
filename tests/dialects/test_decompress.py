"""Inflating copies of replies: members, splits and bombs."""

from __future__ import annotations

import gzip
import zlib

import pytest

from modelhost_exporter.dialects.decompress import MAX_BYTES_AT_ONCE, CannotDecompress, decompressor

TEXT = b"data: {}\n\n" * 500


def packed(data: bytes) -> bytes:
    """Return data as one member of gzip, the same at any time: it is in the names of tests."""
    return gzip.compress(data, mtime=0)


def raw(data: bytes) -> bytes:
    """Return data in the raw form of deflate."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("size", [1, 3, 4096, 4097, 100_000])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", packed(TEXT)),
        ("X-GZIP", packed(TEXT[:7]) + packed(b"") * 1000 + packed(TEXT[7:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw(TEXT)),
        ("identity", TEXT),
        ("", TEXT),
    ],
)
def test_any_split_inflates_to_the_same(encoding: str, body: bytes, size: int) -> None:
    """Members and pieces may begin and end anywhere."""
    inflate = decompressor(encoding)
    assert b"".join(inflate(body[start : start + size]) for start in range(0, len(body), size)) == TEXT


@pytest.mark.parametrize("members", [1, 300])
def test_a_piece_inflates_to_so_much_at_most(members: int) -> None:
    """A bomb is given up, in one member or in many; what is just small enough is not."""
    whole = bytes(MAX_BYTES_AT_ONCE // members)
    rest = bytes(MAX_BYTES_AT_ONCE - len(whole) * members)
    body = packed(whole) * members + packed(rest)
    assert len(decompressor("gzip")(body)) == MAX_BYTES_AT_ONCE
    with pytest.raises(CannotDecompress, match="too large"):
        decompressor("gzip")(body + packed(b"x"))


@pytest.mark.parametrize("body", [b"no gzip at all", packed(TEXT)[:-8] + b"12345678", packed(b"") + b"x"])
def test_broken_bytes(body: bytes) -> None:
    """Bytes that are no gzip, a wrong check sum, and something behind the end."""
    with pytest.raises(CannotDecompress):
        decompressor("gzip")(body + bytes(20))


def test_an_encoding_that_is_not_known() -> None:
    """It is said so at once."""
    with pytest.raises(CannotDecompress):
        decompressor("br")
