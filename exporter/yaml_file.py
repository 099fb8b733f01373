"""Reading a YAML file strictly: mistakes in one line, and no key twice."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import yaml

from exporter.strict import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset, in which a key that stands twice is an error instead of a silent overwrite."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build a value; what looks like a date or a number and is none (``2001-99-99``) is an error with a place."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, ArithmeticError) as error:  # PyYAML lets them all out
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"not a YAML {kind}", node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # <<: what it brings may stand here too
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read(file: Path) -> object:
    """Return the parsed file; ConfigError, with the place, when it cannot be read or parsed."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(file), error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), f"not UTF-8 at byte {error.start}") from error
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise ConfigError(where, _without_values(error.problem or "not YAML")) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(str(file), " ".join(str(error).split()) or "nested too deeply") from error


def _without_values(problem: str) -> str:
    """Return PyYAML's words without what it quotes, but for a single character: it may be a password."""
    return problem if problem.startswith("key ") else re.sub(r"'(?!<)[^']{2,}'", "***", problem)
