"""Asking one NVIDIA device, each field on its own: what it does not have is asked for once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.gpu.nvml import FUNCTION_NOT_FOUND, UNSUPPORTED, check

if TYPE_CHECKING:
    from collections.abc import Iterable

_BLANK_32_BIT = range(0x7FFFFFF0, 0x80000000)  # DCGM's blanks, which some drivers hand on
_NOT_AVAILABLE_32_BIT = 0xFFFFFFFF
_BLANK_64_BIT = 0x7FFFFFFFFFFFFFF0  # and everything above, NVML's "not available" included

# nvmlValueType_t → the member of the union that holds the value
MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


class Field(NamedTuple):
    """A value that nvmlDeviceGetFieldValues gives; ``scope`` is the NVLink, say."""

    number: int
    scope: int = 0


class Call(NamedTuple):
    """A value that a function of nvidia-ml-py gives, or a part of what it gives."""

    function: str
    arguments: tuple[int, ...] = ()
    part: int | str | None = None


Way = Field | Call


def is_blank(raw: float) -> bool:
    """Tell whether a raw value stands for 'not available'."""
    return raw in _BLANK_32_BIT or raw == _NOT_AVAILABLE_32_BIT or raw >= _BLANK_64_BIT


class Asker:
    """One device's handle, and what it turned out not to have."""

    def __init__(self, lib: Any, handle: Any) -> None:
        self.lib = lib
        self.handle = handle
        self._lacking: dict[Way, int] = {}
        self._answers: dict[Field, float | None] = {}

    def lacking_names(self) -> list[str]:
        """Return what the device does not have: functions and numbers of fields, sorted."""
        return sorted({f"field {way.number}" if isinstance(way, Field) else way.function for way in self._lacking})

    def forget(self) -> None:
        """Expect it to have other fields now."""
        self._lacking.clear()

    def lacks(self, way: Way) -> bool:
        """Tell whether the device is known not to have it."""
        return way in self._lacking

    def why(self, way: Way) -> int | None:
        """Return the error code of what it lacks."""
        return self._lacking.get(way)

    def call(self, function: str, *arguments: int) -> Any | None:
        """Return what a function answers about this device; None when it has no answer, now or ever.

        Raises Lost or NvmlFailure when the device or the driver is gone.
        """
        way = Call(function, arguments)
        return None if way in self._lacking else self._call(way, remember=True)

    def once(self, function: str, *arguments: int) -> Any | None:
        """Return what a function answers, as ``call``, but ask again next time even when it is not there now."""
        return self._call(Call(function, arguments), remember=False)

    def _call(self, way: Call, *, remember: bool) -> Any | None:
        code = FUNCTION_NOT_FOUND  # of an older nvidia-ml-py
        try:
            return getattr(self.lib, way.function)(self.handle, *way.arguments)
        except AttributeError:
            pass
        except self.lib.NVMLError as error:
            check(error)
            code = error.value
        if remember and code in UNSUPPORTED:
            self._lacking[way] = code
        return None

    def prefetch(self, fields: Iterable[Field]) -> None:
        """Ask for these fields in one call; ``first`` takes its answers from here until the next time."""
        wanted = [field for field in fields if field not in self._lacking]
        self._answers = dict.fromkeys(wanted)
        if not wanted:
            return
        try:
            values = self.lib.nvmlDeviceGetFieldValues(self.handle, wanted)
        except self.lib.NVMLError as error:
            check(error)
            if error.value in UNSUPPORTED:
                self._lacking.update(dict.fromkeys(wanted, error.value))
            return
        for field, value in zip(wanted, values, strict=True):
            self._take(field, value)

    def _take(self, field: Field, value: Any) -> None:
        """Keep one field's answer; a field whose code says so is lacking, other codes are a failure of the moment."""
        code = value.nvmlReturn
        if code:
            check(self.lib.NVMLError(code))
            if code in UNSUPPORTED:
                self._lacking[field] = code
            return
        kind = value.valueType
        self._answers[field] = getattr(value.value, MEMBERS[kind]) if kind < len(MEMBERS) else None

    def first(self, ways: Iterable[Way]) -> float | None:
        """Return the raw value of the first way that this device has."""
        for way in ways:
            if way in self._lacking:
                continue
            value = self._field(way) if isinstance(way, Field) else self._part(way)
            if way not in self._lacking:
                return value
        return None

    def _field(self, field: Field) -> float | None:
        if field not in self._answers:
            answers = self._answers
            self.prefetch([field])
            self._answers = answers | self._answers
        return self._answers.get(field)

    def _part(self, way: Call) -> float | None:
        answer = self.call(way.function, *way.arguments)
        if answer is None:
            lacking = self._lacking.get(Call(way.function, way.arguments))
            if lacking is not None:
                self._lacking[way] = lacking
            return None
        if way.part is None:
            return float(answer)
        return float(answer[way.part] if isinstance(way.part, int) else getattr(answer, way.part))
