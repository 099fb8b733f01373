"""Strict parsing of YAML values into frozen dataclasses; errors contain the path of the key."""

from __future__ import annotations

import collections.abc
import re
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from modelhost_exporter.config.duration import Seconds, parse_seconds
from modelhost_exporter.config.size import Bytes, parse_bytes
from modelhost_exporter.logs.redaction import redact

if typing.TYPE_CHECKING:
    from collections.abc import Collection, Mapping

T = TypeVar("T")

SECRET: Mapping[str, bool] = {"secret": True}
"""Metadata of a dataclass field whose value never appears in a message."""

_NAME = re.compile(r"[\w-]+", re.ASCII)
_MAX_SHOWN = 100  # characters of a value in an error


class ConfigError(Exception):
    """An invalid configuration: where (a dotted path, or a file), and what is wrong.

    Users and passwords of URLs are removed from both.
    """

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        """``hint`` is additional text of several lines, such as YAML to paste."""
        self.hint = hint
        self.where = redact(where)
        self.problem = redact(problem)
        super().__init__(f"{self.where}: {self.problem}" if where else self.problem)


def parse(wanted: type[T], raw: object, where: str) -> T:
    """Convert parsed YAML to ``wanted``: a dataclass, or any type that one of its fields may have.

    Raises ConfigError, with the path of the key, for a value of another type and for unknown keys.
    """
    return cast("T", _parse(wanted, raw, where))


def mapping(known: Collection[str], raw: object, where: str) -> dict[str, object]:
    """Check the keys of a mapping and return it; an empty section (None) is an empty mapping."""
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(where, f"must be a mapping, not {_name_of(raw)}")
    for key in raw:
        if key not in known:
            raise ConfigError(where, f"unknown key {key!r}; known: {', '.join(known)}")
    return raw


def parse_keys(
    wanted: Mapping[str, Any], raw: object, where: str, secret: Collection[str] = frozenset()
) -> dict[str, Any]:
    """Parse a mapping with the given keys, all optional; values of the keys in ``secret`` appear in no message."""
    return {
        key: (_parse_secret if key in secret else _parse)(wanted[key], value, f"{where}.{key}")
        for key, value in mapping(wanted, raw, where).items()
    }


def _parse_secret(wanted: Any, raw: object, where: str) -> object:
    try:
        return _parse(wanted, raw, where)
    except ConfigError as error:
        key = error.where.removeprefix(f"{where}.")
        place = where if error.where == where else f"{where}.{key if _NAME.fullmatch(key) else '***'}"
        raise ConfigError(place, error.problem.partition(", not ")[0]) from None


def _parse(wanted: Any, raw: object, where: str) -> object:
    if is_dataclass(wanted):
        return _parse_dataclass(cast("type", wanted), raw, where)
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):  # T | None, T | Literal[False]
        other = None if arguments[1] is types.NoneType else False
        return raw if raw is other else _parse(arguments[0], raw, where)
    if origin is tuple:  # tuple[T, ...]
        if not isinstance(raw, list):
            raise ConfigError(where, f"must be a list, not {_name_of(raw)}")
        return tuple(_parse(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(raw))
    if origin is collections.abc.Mapping:  # Mapping[str, T]
        if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
            raise ConfigError(where, f"must be a mapping from text, not {_name_of(raw)}")
        return {key: _parse(arguments[1], value, f"{where}.{key}") for key, value in raw.items()}
    if origin is typing.Literal:
        if isinstance(raw, bool):  # YAML 1.1 parses on and off as booleans
            raw = "on" if raw else "off"
        if raw not in arguments:
            raise ConfigError(where, f"must be one of {', '.join(map(str, arguments))}, not {_name_of(raw)}")
        return raw
    return _parse_scalar(origin or wanted, raw, where)


def _parse_dataclass(wanted: type, raw: object, where: str) -> object:
    hints = typing.get_type_hints(wanted)
    from_text = getattr(wanted, "from_text", None)
    try:
        if from_text is not None and not isinstance(raw, dict):
            return from_text(_parse_scalar(str, raw, where))
        secret = [field.name for field in fields(wanted) if field.metadata.get("secret")]
        values = parse_keys({field.name: hints[field.name] for field in fields(wanted)}, raw, where, secret)
        for field in fields(wanted):
            if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
                raise ConfigError(where, f"{field.name} is missing")
        return wanted(**values)
    except ValueError as error:
        raise ConfigError(where, str(error)) from error


def _path(raw: str) -> Path:
    if not raw or "\0" in raw:
        raise ValueError(f"{raw!r} is not a path")
    return Path(raw)


def _pattern(raw: str) -> re.Pattern[str]:
    try:
        return re.compile(raw)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{raw!r} is not a regular expression: {error}") from error


# type of a field → (accepted YAML types, description for errors, conversion)
_SCALARS: Mapping[Any, tuple[type | tuple[type, ...], str, Any]] = {
    bool: (bool, "true or false", None),
    int: (int, "a whole number", None),
    float: ((int, float), "a number", float),
    str: (str, "text", None),
    Path: (str, "a path", _path),
    re.Pattern: (str, "a regular expression", _pattern),
    Seconds: ((int, float, str), "a duration such as 5s", parse_seconds),
    Bytes: ((int, str), "a size such as 1MiB", parse_bytes),
}


def _parse_scalar(wanted: Any, raw: object, where: str) -> object:
    accepted, called, convert = _SCALARS[wanted]
    if not isinstance(raw, accepted) or (isinstance(raw, bool) and wanted is not bool):
        raise ConfigError(where, f"must be {called}, not {_name_of(raw)}")
    if convert is None:
        return raw
    try:
        return convert(raw)
    except ValueError as error:
        raise ConfigError(where, str(error)) from error


def _name_of(raw: object) -> str:
    """Describe a YAML value for an error message."""
    if raw is None:
        return "nothing"
    if isinstance(raw, list):
        return "a list"
    if isinstance(raw, dict):
        return "a mapping"
    shown = repr(raw)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}…"
