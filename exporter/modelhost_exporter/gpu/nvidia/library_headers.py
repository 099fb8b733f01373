"""Check the headers of a shared library (ELF), without loading it.

Sources: System V ABI, "Object Files"; glibc's elf/dl-load.c, which skips files for other machines.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import NamedTuple

from modelhost_exporter.linux.kernel_files import first_page

_MAGIC = b"\x7fELF"
_SHARED_OBJECT, _LOAD = 3, 1  # ET_DYN, PT_LOAD
_HEADER_BYTES = 64
_MAX_SEGMENTS = 512


class DamagedLibrary(Exception):
    """The file is no shared library, or a part of it is missing."""


class _Layout(NamedTuple):
    """struct formats: the header from e_phoff to e_phnum, and a segment's p_type, p_offset and p_filesz."""

    table: str
    segment: str


_LAYOUTS = {1: _Layout("28xI10xHH", "II8xI"), 2: _Layout("32xQ14xHH", "I4xQ16xQ")}  # 32 bits, 64 bits
_ORDERS = {1: "<", 2: ">"}


def check(path: Path) -> bool:
    """Return whether a library is for this machine. Raises DamagedLibrary when it is no library or truncated."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
            raise DamagedLibrary("is not a shared library" if header else "is empty")
        if (own := _own_kind()) is not None and _kind(header) != own:
            return False
        layout, order = _LAYOUTS.get(header[4]), _ORDERS.get(header[5])
        if layout is None or order is None or struct.unpack_from(f"{order}H", header, 16)[0] != _SHARED_OBJECT:
            raise DamagedLibrary("is not a shared library")
        offset, entry_bytes, count = struct.unpack_from(order + layout.table, header)
        segment = struct.Struct(order + layout.segment)
        size = path.stat().st_size
        if not 0 < count <= _MAX_SEGMENTS or entry_bytes < segment.size or offset + count * entry_bytes > size:
            raise DamagedLibrary("is truncated: its table of segments is missing")
        file.seek(offset)
        table = file.read(count * entry_bytes)
    _check_segments([segment.unpack_from(table, index * entry_bytes) for index in range(count)], size)
    return True


def _check_segments(segments: list[tuple[int, int, int]], size: int) -> None:
    ends = [offset + length for kind, offset, length in segments if kind == _LOAD]
    if not ends:
        raise DamagedLibrary("is not a shared library: it has no segment to load")
    if max(ends) > size:
        raise DamagedLibrary(f"is truncated: it has {size} bytes of at least {max(ends)}")


def _kind(header: bytes) -> tuple[bytes, bytes]:
    """Return the bytes of class and byte order, and those of the machine."""
    return header[4:6], header[18:20]


def _own_kind() -> tuple[bytes, bytes] | None:
    """Return the kind of the running interpreter; None where its own file cannot be read."""
    own = Path("/proc/self/exe")
    header = first_page(own if own.exists() else Path(sys.executable), _HEADER_BYTES)
    return _kind(header) if len(header) == _HEADER_BYTES and header.startswith(_MAGIC) else None
