"""Query one NVIDIA device, each field on its own, and remember which fields it supports.

A field that succeeded once is queried in every reading, whatever its result now. "Not supported" counts only for a
field that never succeeded, and for 10 minutes: drivers return it temporarily too (a reset, a MIG switch).
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from modelhost_exporter.gpu.nvidia.errors import (
    FUNCTION_NOT_FOUND,
    OK,
    RESET_REQUIRED,
    RETRY_UNSUPPORTED_SECONDS,
    UNSUPPORTED,
    check,
)
from modelhost_exporter.gpu.nvidia.field_request import FieldRequest, NvmlField

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FIRST_BLANK = 0x7FFFFFF0
"""Lower values are no blanks."""
_LAST_BLANK_32_BIT = 0x7FFFFFFF  # of DCGM's blanks, which some drivers return
_NOT_AVAILABLE_32_BIT = 0xFFFFFFFF
_BLANK_64_BIT = 0x7FFFFFFFFFFFFFF0  # and everything above, NVML's "not available" included

# nvmlValueType_t → how the union nvmlValue_t is read: dVal, uiVal, ulVal, ullVal, sllVal, siVal, usVal
_VALUES = tuple(struct.Struct(code) for code in ("=d", "=I", "@L", "=Q", "=q", "=i", "=H"))


class NvmlCall(NamedTuple):
    """The result of a function of nvidia-ml-py, or a part of it."""

    function: str
    arguments: tuple[int, ...] = ()
    part: int | str | None = None


ValueSource = NvmlField | NvmlCall


def number_of(type_: int, raw: bytes) -> float | None:
    """Return the number in a union of 8 bytes by the type that the driver reports; None for an unknown type."""
    number: float | None = _VALUES[type_].unpack_from(raw)[0] if type_ < len(_VALUES) else None
    return number


def is_blank(raw: float) -> bool:
    """Return whether a raw value stands for 'not available'."""
    if raw < FIRST_BLANK:
        return False
    return raw <= _LAST_BLANK_32_BIT or raw == _NOT_AVAILABLE_32_BIT or raw >= _BLANK_64_BIT


class DeviceQuery:
    """Queries of one device by its handle, and which of them it supports. Used by one thread at a time."""

    def __init__(self, lib: Any, handle: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.lib = lib
        self.handle = handle
        self._clock = clock
        self._unsupported: dict[ValueSource, int] = {}
        self._succeeded: set[ValueSource] = set()
        self._lost: set[ValueSource] = set()
        self._review_at = clock() + RETRY_UNSUPPORTED_SECONDS
        self.revision = 0
        """Changes whenever the unsupported sources change."""
        self.codes: set[int] = set()
        """The codes of all results since the reading began."""

    def unsupported_names(self) -> list[str]:
        """Return the functions and field numbers that the device does not support, sorted."""
        return sorted(
            {
                f"field {source.number}" if isinstance(source, NvmlField) else source.function
                for source in self._unsupported
            }
        )

    def begin_reading(self) -> None:
        """Discard the result codes of the reading before."""
        self.codes.clear()
        self._lost.clear()

    @property
    def lost(self) -> int:
        """Number of fields that succeeded before and failed in this reading."""
        return len(self._lost)

    @property
    def failed_temporarily(self) -> bool:
        """Whether a query failed for another reason than lack of support, so that a later one may succeed."""
        return not self.codes <= {OK, *UNSUPPORTED}

    @property
    def all_failed(self) -> bool:
        """Whether no query of this reading succeeded."""
        return OK not in self.codes

    @property
    def needs_reset(self) -> bool:
        """Whether every query failed because the device has to be reset first."""
        return self.all_failed and RESET_REQUIRED in self.codes

    def errors(self) -> str:
        """Return the errors of this reading, with their codes."""
        codes = sorted(self.codes - {OK})
        return ", ".join(f"{self.lib.NVMLError(code)} ({code})" for code in codes) or "nothing could be queried"

    def reset(self) -> None:
        """Forget which fields succeeded, and which are unsupported."""
        self._succeeded.clear()
        self._lost.clear()
        self.retry_unsupported()

    def retry_unsupported(self) -> None:
        """Query again, from now on, the fields that were not supported."""
        self._unsupported.clear()
        self._review_at = self._clock() + RETRY_UNSUPPORTED_SECONDS
        self.revision += 1

    def review_unsupported(self) -> bool:
        """Retry unsupported fields if 10 minutes have passed; return whether they have."""
        due = bool(self._unsupported) and self._clock() >= self._review_at
        if due:
            self.retry_unsupported()
        return due

    def is_unsupported(self, source: ValueSource) -> bool:
        """Return whether the device is known not to support a source."""
        return source in self._unsupported

    def unsupported_code(self, source: ValueSource) -> int | None:
        """Return the error code of an unsupported source; None for one that is not known to be unsupported."""
        return self._unsupported.get(source)

    def first_supported(self, sources: Iterable[ValueSource]) -> ValueSource | None:
        """Return the first source that is not known to be unsupported."""
        return next((source for source in sources if source not in self._unsupported), None)

    def call(self, function: str, *arguments: int) -> Any | None:
        """Return a function's result for this device; None when it fails, or is known to be unsupported.

        Raises DeviceLost or NvmlFailure when the device or the driver is gone.
        """
        source = NvmlCall(function, arguments)
        return None if source in self._unsupported else self._call(source, remember=True)

    def call_always(self, function: str, *arguments: int) -> Any | None:
        """Return a function's result as ``call`` does, and call it again next time even where it is unsupported now."""
        return self._call(NvmlCall(function, arguments), remember=False)

    def number(self, source: NvmlCall) -> float | None:
        """Return a function's result, or the requested part of it, as a number."""
        result = self._call(source, remember=True)
        if result is None or source.part is None:
            return result
        return float(result[source.part] if isinstance(source.part, int) else getattr(result, source.part))

    def fields(self, request: FieldRequest) -> list[float | None]:
        """Return the raw value of each field, all queried in one call; None for one without a value."""
        if not request.fields:
            return []
        try:
            results = list(request.results(self.handle))
        except self.lib.NVMLError as error:
            check(error)
            for field in request.fields:
                self.record_error(field, error.value)
            return [None] * len(request.fields)
        raw_values: list[float | None] = []
        succeeded: list[NvmlField] = []
        for field, (code, type_, raw) in zip(request.fields, results, strict=True):
            if code:
                check(self.lib.NVMLError(code))
                self.record_error(field, code)
                raw_values.append(None)
            else:
                succeeded.append(field)
                raw_values.append(number_of(type_, raw))
        self.record_success(*succeeded)
        return raw_values

    def first(self, sources: Iterable[ValueSource]) -> float | None:
        """Return the raw value of the first source that this device supports."""
        for source in sources:
            if source not in self._unsupported:
                value = self._value_of(source)
                if source not in self._unsupported:
                    return value
        return None

    def _value_of(self, source: ValueSource) -> float | None:
        if isinstance(source, NvmlField):
            return self.fields(FieldRequest(self.lib, [source]))[0]
        return self.number(source)

    def _call(self, source: NvmlCall, *, remember: bool) -> Any | None:
        code = FUNCTION_NOT_FOUND  # what an older nvidia-ml-py without the function amounts to
        try:
            result = getattr(self.lib, source.function)(self.handle, *source.arguments)
        except AttributeError:
            pass
        except self.lib.NVMLError as error:
            check(error)
            code = error.value
        else:
            self.record_success(source)
            return result
        if remember:
            self.record_error(source, code)
        return None

    def record_success(self, *sources: ValueSource) -> None:
        """Record that sources succeeded: from now on they are queried in every reading."""
        if sources:
            self.codes.add(OK)
            self._succeeded.update(sources)

    def record_error(self, source: ValueSource, code: int) -> None:
        """Record an error: a source that succeeded before is lost, another one unsupported where the code says so."""
        self.codes.add(code)
        if source in self._succeeded:
            self._lost.add(source)
        elif code in UNSUPPORTED:
            self._unsupported[source] = code
            self.revision += 1
