"""Strict reading of a YAML file: errors in one line, no duplicate keys, bounded time and memory."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Self

import yaml

from modelhost_exporter.config import file_content
from modelhost_exporter.config.parsing import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


MAX_BYTES = 256 * 1024
MAX_VALUES = 50_000
"""Maximum number of keys and values; those that an alias (``*name``) repeats count each time."""
MAX_DEPTH = 32
_MAX_NUMBER = 64  # characters


class _StrictLoader(yaml.SafeLoader):
    """A loader of YAML's safe subset that rejects duplicate keys, which PyYAML silently overwrites.

    It also rejects deep nesting, and aliases that expand exponentially (the "billion laughs" attack).
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._composed = 0
        self._sizes: dict[int, int] = {}  # by id, which stays unique: the loader keeps the nodes

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node; for an alias return the node that it refers to."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call] # PyYAML's types lack it
        is_alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        self._composed += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} levels deep", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias inside its own anchor", mark)
        if node is not None and max(self._composed, self._size(node)) > MAX_VALUES:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_VALUES} values, aliases included", mark)
        return node

    def _size(self, node: yaml.Node) -> int:
        """Return the number of values in a node, with aliases expanded."""
        if id(node) not in self._sizes:
            parts: list[yaml.Node] = []
            if isinstance(node, yaml.SequenceNode):
                parts = node.value
            elif isinstance(node, yaml.MappingNode):
                parts = [part for pair in node.value for part in pair]
            self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in parts)
        return self._sizes[id(node)]

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build a value; an invalid date or number (``2001-99-99``) is an error with line and column."""
        kind = node.tag.rpartition(":")[2]
        problem = f"not a YAML {kind}"  # without the value, which may be a secret
        if kind in ("int", "float") and len(node.value) > _MAX_NUMBER:
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, ArithmeticError) as error:  # PyYAML does not catch these
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # <<: the mapping may repeat, and override, merged keys
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _TextLoader(_StrictLoader):
    """A strict loader for a format in which each scalar is read as its key demands: ``Scalar``, None where empty."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        kind = node.tag.rpartition(":")[2]
        return None if kind == "null" else Scalar(node.value, kind)


class Scalar(str):
    """The text of a scalar as it was written, and the type that YAML 1.1 gives to it."""

    __slots__ = ("kind",)

    def __new__(cls, text: str, kind: str = "str") -> Self:
        """Create from the text and its type, such as ``int``."""
        created = super().__new__(cls, text)
        created.kind = kind
        return created

    kind: str


def read(file: Path) -> object:
    """Parse a file; raises ConfigError, with line and column where known, when it cannot be read or parsed."""
    return _read(file, _StrictLoader)


def read_text(file: Path) -> object:
    """Parse a file in which scalars stay text (``Scalar``); raises ConfigError."""
    return _read(file, _TextLoader)


def _read(file: Path, loader: type[_StrictLoader]) -> object:
    try:
        content = file_content.read(file, MAX_BYTES)
        text = content.decode("utf-8")
    except OSError as error:
        raise ConfigError(str(file), error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), f"not UTF-8 at byte {error.start}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(str(file), f"larger than {MAX_BYTES // 1024} KiB")
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise ConfigError(where, _without_values(error.problem or "not YAML")) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(str(file), " ".join(str(error).split()) or "nested too deeply") from error


def _without_values(problem: str) -> str:
    """Return PyYAML's message without quoted text of two or more characters, which may be a secret."""
    return problem if problem.startswith("duplicate key ") else re.sub(r"'(?!<)[^']{2,}'", "***", problem)
