"""Fields that are queried together in every reading, as the array that NVML fills."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# nvmlFieldValue_t. Reading nvidia-ml-py's structure attribute by attribute takes ten times as long
_FIELD_VALUE = struct.Struct("=IIqqII8s")


class NvmlField(NamedTuple):
    """A value of nvmlDeviceGetFieldValues; ``scope`` is, for example, the NVLink."""

    number: int
    scope: int = 0


class FieldResult(NamedTuple):
    """The result for one field: its error code (0: none), the type of its value, and the value as 8 bytes."""

    code: int
    type: int
    raw: bytes


class FieldRequest:
    """A request for some fields, prepared once: writing the array anew for each reading takes three times as long."""

    def __init__(self, lib: Any, fields: Sequence[NvmlField]) -> None:
        """Prepare; ``lib`` is nvidia-ml-py."""
        self.fields = fields
        self._lib = lib
        self._prepared = b"".join(_FIELD_VALUE.pack(*field, 0, 0, 0, 0, b"") for field in fields)

    def results(self, handle: Any) -> Iterator[FieldResult]:
        """Query the fields of a device. Raises ``NVMLError`` where that fails as a whole."""
        values = self._query(handle)
        for _, _, _, _, type_, code, raw in _FIELD_VALUE.iter_unpack(values):
            yield FieldResult(code, type_, raw)

    def _query(self, handle: Any) -> Any:
        """Return the array that NVML has filled.

        The public function writes the array first. The one that it calls is private: without it the public one serves.
        """
        find = getattr(self._lib, "_nvmlGetFunctionPointer", None)
        if find is None:
            return self._lib.nvmlDeviceGetFieldValues(handle, self.fields)
        values = (self._lib.c_nvmlFieldValue_t * len(self.fields)).from_buffer_copy(self._prepared)
        code = find("nvmlDeviceGetFieldValues")(handle, len(self.fields), ctypes.byref(values))
        if code:
            raise self._lib.NVMLError(code)
        return values
