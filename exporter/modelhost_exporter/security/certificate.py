"""When a certificate expires: Python's ssl reports that of a peer only, so it is read from the encoding (DER)."""

from __future__ import annotations

import binascii
import calendar
import ssl
import time

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _VERSION = 0x30, 0xA0
_FORMATS = {0x17: ("%y%m%d%H%M%SZ", 13), 0x18: ("%Y%m%d%H%M%SZ", 15)}  # UTCTime, GeneralizedTime (RFC 5280, 4.1.2.5)
_LONG, _MAX_LENGTH_BYTES = 0x80, 4
_FIELDS_BEFORE_VALIDITY = 3  # serial number, signature, issuer


def expires_at(pem: str) -> float | None:
    """Return when the first certificate of PEM text expires, in seconds since 1970; None if it cannot be read."""
    begin = pem.find(_BEGIN)
    end = pem.find(_END, begin)
    if begin < 0 or end < 0:
        return None
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(pem[begin : end + len(_END)]))
    except (ValueError, IndexError, binascii.Error, OverflowError):
        return None


def _not_after(encoded: bytes) -> float:
    """Return the end of the validity. Raises ValueError or IndexError for anything that is no certificate."""
    at, _ = _content(encoded, 0, _SEQUENCE)
    at, _ = _content(encoded, at, _SEQUENCE)
    if encoded[at] == _VERSION:
        at = _after(encoded, at)
    for _ in range(_FIELDS_BEFORE_VALIDITY):
        at = _after(encoded, at)
    at, _ = _content(encoded, at, _SEQUENCE)
    at = _after(encoded, at)
    form, size = _FORMATS.get(encoded[at], ("", 0))
    start, end = _bounds(encoded, at)
    if not form or end - start != size:
        raise ValueError("no time")
    return float(calendar.timegm(time.strptime(encoded[start:end].decode("ascii"), form)))


def _content(encoded: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return the bounds of a value's content; raises ValueError for another tag."""
    if encoded[at] != tag:
        raise ValueError("another tag")
    return _bounds(encoded, at)


def _after(encoded: bytes, at: int) -> int:
    return _bounds(encoded, at)[1]


def _bounds(encoded: bytes, at: int) -> tuple[int, int]:
    length, start = encoded[at + 1], at + 2
    if length >= _LONG:
        count = length - _LONG
        if not 0 < count <= _MAX_LENGTH_BYTES:
            raise ValueError("a length without end")
        start += count
        length = int.from_bytes(encoded[at + 2 : start], "big")
    if start + length > len(encoded):
        raise ValueError("cut off")
    return start, start + length
