"""No part of the package but the kinds themselves names an engine kind in its code."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import modelhost_exporter
from modelhost_exporter.demo import kinds as simulated
from modelhost_exporter.engines import kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(modelhost_exporter.__file__).parent
OF_KINDS = ("engines/kinds/", "demo/kinds/")
OF_DIALECTS = "dialects/"
"""API formats have names of their own, some of them those of engines."""
MODULES = tuple(
    name
    for file in sorted(PACKAGE.rglob("*.py"))
    if not (name := file.relative_to(PACKAGE).as_posix()).startswith((*OF_KINDS, OF_DIALECTS))
)


def named(source: str) -> Iterator[str]:
    """Yield the kinds that are text constants or words of identifiers; comments and docstrings are prose."""
    for node in ast.walk(ast.parse(source)):
        words: tuple[object, ...] = ()
        if isinstance(node, ast.Constant):
            words = (node.value,)
        elif isinstance(node, ast.Name):
            words = tuple(node.id.casefold().split("_"))
        elif isinstance(node, ast.Attribute):
            words = tuple(node.attr.casefold().split("_"))
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.alias)):
            words = tuple(node.name.casefold().replace(".", "_").split("_"))
        yield from (str(word) for word in words if word in kinds.names())


@pytest.mark.parametrize(
    "source", ["x = 'vllm'", "ollama_models = 1", "def _llamacpp(): pass", "import a.tgi", "a.vllm"]
)
def test_a_name_is_found(source: str) -> None:
    """A kind is found in text, names and parts of names."""
    assert list(named(source))


@pytest.mark.parametrize("module", MODULES)
def test_no_other_part_names_a_kind(module: str) -> None:
    """What differs between kinds is a fact or a function of the kind's own file."""
    assert list(named((PACKAGE / module).read_text(encoding="utf-8"))) == []


def test_simulated_kinds_are_kinds() -> None:
    """A file of ``demo/kinds`` simulates the engine kind of its name."""
    assert {kind.SERVER.kind for kind in simulated.simulated()} <= set(kinds.names())
