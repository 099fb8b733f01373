"""Query one NVIDIA device, each field on its own, and remember which fields it has.

A field that succeeded once is queried in every reading, whatever its result now. "Not supported" counts only for a
field that never succeeded, and for 10 minutes: drivers return it temporarily too (a reset, a MIG switch).
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from modelhost_exporter.gpu.nvidia.nvml import (
    FUNCTION_NOT_FOUND,
    OK,
    RESET_REQUIRED,
    RETRY_UNSUPPORTED_SECONDS,
    UNSUPPORTED,
    check,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_BLANK_32_BIT, _LAST_BLANK_32_BIT = 0x7FFFFFF0, 0x7FFFFFFF  # DCGM's blanks, which some drivers hand on
_NOT_AVAILABLE_32_BIT = 0xFFFFFFFF
_BLANK_64_BIT = 0x7FFFFFFFFFFFFFF0  # and everything above, NVML's "not available" included

# nvmlFieldValue_t; attribute by attribute, nvidia-ml-py's structure takes ten times as long to read
_FIELD_VALUE = struct.Struct("=IIqqII8s")
# nvmlValueType_t → how the union nvmlValue_t is read: dVal, uiVal, ulVal, ullVal, sllVal, siVal, usVal
_VALUES = tuple(struct.Struct(code) for code in ("=d", "=I", "@L", "=Q", "=q", "=i", "=H"))


class NvmlField(NamedTuple):
    """A value of nvmlDeviceGetFieldValues; ``scope`` is, for example, the NVLink."""

    number: int
    scope: int = 0


class NvmlCall(NamedTuple):
    """The result of a function of nvidia-ml-py, or a part of it."""

    function: str
    arguments: tuple[int, ...] = ()
    part: int | str | None = None


Way = NvmlField | NvmlCall


def number_of(kind: int, raw: bytes) -> float | None:
    """Return the number in a union of 8 bytes by the type that the driver reports; None for an unknown type."""
    number: float | None = _VALUES[kind].unpack_from(raw)[0] if kind < len(_VALUES) else None
    return number


def is_blank(raw: float) -> bool:
    """Return whether a raw value stands for 'not available'."""
    if raw < _BLANK_32_BIT:
        return False
    return raw <= _LAST_BLANK_32_BIT or raw == _NOT_AVAILABLE_32_BIT or raw >= _BLANK_64_BIT


class DeviceQuery:
    """One device's handle, which fields have answered, and which are not supported. Called by one thread at a time."""

    def __init__(self, lib: Any, handle: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.lib = lib
        self.handle = handle
        self._clock = clock
        self._lacking: dict[Way, int] = {}
        self._answered: set[Way] = set()
        self._lost: set[Way] = set()
        self._review_at = clock() + RETRY_UNSUPPORTED_SECONDS
        self.found_out = 0
        """Changes whenever something turned out not to be there."""
        self.outcomes: set[int] = set()
        """The codes of all answers since the reading began."""

    def lacking_names(self) -> list[str]:
        """Return what the device does not have: functions and numbers of fields, sorted."""
        return sorted({f"field {way.number}" if isinstance(way, NvmlField) else way.function for way in self._lacking})

    def begin_reading(self) -> None:
        """Forget the outcomes of the reading before."""
        self.outcomes.clear()
        self._lost.clear()

    @property
    def lost(self) -> int:
        """How many fields answered before and failed in this reading."""
        return len(self._lost)

    @property
    def unsure(self) -> bool:
        """Whether a query failed temporarily: its value may exist all the same."""
        return not self.outcomes <= {OK, *UNSUPPORTED}

    @property
    def silent(self) -> bool:
        """Whether no query of this reading succeeded."""
        return OK not in self.outcomes

    @property
    def needs_reset(self) -> bool:
        """Whether the device answered nothing, because it has to be reset first."""
        return self.silent and RESET_REQUIRED in self.outcomes

    def errors(self) -> str:
        """Return the errors of this reading, with their codes."""
        codes = sorted(self.outcomes - {OK})
        return ", ".join(f"{self.lib.NVMLError(code)} ({code})" for code in codes) or "nothing could be queried"

    def forget(self) -> None:
        """Expect it to have other fields now."""
        self._answered.clear()
        self._lost.clear()
        self.forget_refusals()

    def forget_refusals(self) -> None:
        """Query again what was not supported."""
        self._lacking.clear()
        self._review_at = self._clock() + RETRY_UNSUPPORTED_SECONDS
        self.found_out += 1

    def is_review_due(self) -> bool:
        """Return whether what is not supported was believed for long enough."""
        return bool(self._lacking) and self._clock() >= self._review_at

    def lacks(self, way: Way) -> bool:
        """Return whether the device is known not to support it."""
        return way in self._lacking

    def why(self, way: Way) -> int | None:
        """Return the error code of what it lacks."""
        return self._lacking.get(way)

    def best(self, ways: Iterable[Way]) -> Way | None:
        """Return the first way that the device is not known to lack."""
        return next((way for way in ways if way not in self._lacking), None)

    def call(self, function: str, *arguments: int) -> Any | None:
        """Return what a function answers about this device; None when it has no answer, now or ever.

        Raises Lost or NvmlFailure when the device or the driver is gone.
        """
        way = NvmlCall(function, arguments)
        return None if way in self._lacking else self._call(way, remember=True)

    def once(self, function: str, *arguments: int) -> Any | None:
        """Return a function's result, as ``call`` does, but query again next time even when it is not supported now."""
        return self._call(NvmlCall(function, arguments), remember=False)

    def part(self, way: NvmlCall) -> float | None:
        """Return a function's result, or the requested part of it, as a number."""
        answer = self._call(way, remember=True)
        if answer is None or way.part is None:
            return answer
        return float(answer[way.part] if isinstance(way.part, int) else getattr(answer, way.part))

    def fields(self, fields: Sequence[NvmlField]) -> list[float | None]:
        """Return the raw value of each of these fields, queried in one call; None for one without a value."""
        if not fields:
            return []
        try:
            values = self.lib.nvmlDeviceGetFieldValues(self.handle, fields)
        except self.lib.NVMLError as error:
            check(error)
            for field in fields:
                self.refused(field, error.value)
            return [None] * len(fields)
        answers: list[float | None] = []
        succeeded: list[NvmlField] = []
        for field, (_, _, _, _, kind, code, raw) in zip(fields, _FIELD_VALUE.iter_unpack(values), strict=True):
            if code:
                check(self.lib.NVMLError(code))
                self.refused(field, code)
                answers.append(None)
            else:
                succeeded.append(field)
                answers.append(number_of(kind, raw))
        self.succeeded(*succeeded)
        return answers

    def first(self, ways: Iterable[Way]) -> float | None:
        """Return the raw value of the first way that this device has."""
        for way in ways:
            if way not in self._lacking:
                value = self.fields([way])[0] if isinstance(way, NvmlField) else self.part(way)
                if way not in self._lacking:
                    return value
        return None

    def _call(self, way: NvmlCall, *, remember: bool) -> Any | None:
        code = FUNCTION_NOT_FOUND  # of an older nvidia-ml-py
        try:
            answer = getattr(self.lib, way.function)(self.handle, *way.arguments)
        except AttributeError:
            pass
        except self.lib.NVMLError as error:
            check(error)
            code = error.value
        else:
            self.succeeded(way)
            return answer
        if remember:
            self.refused(way, code)
        return None

    def succeeded(self, *ways: Way) -> None:
        """Note that fields answered: from now on they are queried in every reading."""
        if ways:
            self.outcomes.add(OK)
            self._answered.update(ways)

    def refused(self, way: Way, code: int) -> None:
        """Record an error. A field that never succeeded is unsupported if the code says so; else it is lost for now."""
        self.outcomes.add(code)
        if way in self._answered:
            self._lost.add(way)
        elif code in UNSUPPORTED:
            self._lacking[way] = code
            self.found_out += 1
