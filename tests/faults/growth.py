"""Measuring how the CPU time of a reader grows with its input, and making inputs that a pattern is slowest on."""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import re
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import modelhost_exporter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from tests.faults.hostile import Make

PACKAGE = Path(modelhost_exporter.__file__).parent
SMALLEST, LARGEST = 4_000, 32_000
MEASURABLE_SECONDS = 0.002
MAX_FACTOR = 10.0
"""Four times the input takes four times as long, with a margin for a busy machine; a square would be 16 times."""
_RUNS = (1, 3, 5)
"""How often each size is measured, the quickest of which counts, until the factor is small enough."""
_DEADLINE_SECONDS = 3.0
_FUNCTIONS = frozenset({"compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn"})
_parser: Any = importlib.import_module("re._parser")


class TooSlow(Exception):
    """One run took longer than the deadline."""


def factor(run: Callable[[Any], object], make: Make) -> float:
    """Return how many times as long ``run`` takes for four times the input; 0 when it is too quick to measure."""
    size = SMALLEST
    while _seconds(run, make(size)) < MEASURABLE_SECONDS:
        size *= 2
        if size > LARGEST:
            return 0.0
    least = float("inf")
    for runs in _RUNS:
        first, last = (min(_seconds(run, make(size * n)) for _ in range(runs)) for n in (1, 4))
        least = min(least, last / first)
        if least <= MAX_FACTOR:
            break
    return least


def fail_unless_linear(run: Callable[[Any], object], make: Make) -> None:
    """Fail the test when the time grows faster than the input, with the beginning of that input."""
    try:
        found = factor(run, make)
    except TooSlow:
        pytest.fail(f"no end after {_DEADLINE_SECONDS:g} s: {make(SMALLEST)[:200]!r}")
    if found > MAX_FACTOR:
        pytest.fail(f"four times the input took {found:.0f} times as long: {make(SMALLEST)[:200]!r}")


def _seconds(run: Callable[[Any], object], data: object) -> float:
    """Return the CPU time of one run; TooSlow instead of waiting for the end of one that backtracks for ever."""
    before = signal.signal(signal.SIGVTALRM, _give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, _DEADLINE_SECONDS)
    gc.collect(0)
    gc.disable()  # it walks all that the tests have made
    try:
        with untraced():
            began = time.thread_time()
            run(data)
            return time.thread_time() - began
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Suspend this thread's trace function: coverage's doubles the CPU time that is measured."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TooSlow


def regular_expressions() -> set[str]:
    """Return the uses of ``re`` in the package: ``module.NAME`` for a constant, else ``module:function``."""
    found: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(("modelhost_exporter", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        found |= set(_uses(ast.parse(file.read_text(encoding="utf-8")), module))
    return found


def _uses(tree: ast.Module, module: str) -> Iterator[str]:
    constants = {call: target.id for target, call in _assigned_calls(tree)}
    for place, node in _walk(tree, ""):
        if isinstance(node, ast.ImportFrom) and node.module == "re":
            yield f"{module}: from re import"
        if isinstance(node, ast.Import) and any(name.name == "re" and name.asname for name in node.names):
            yield f"{module}: import re as"
        if _is_use(node):
            yield f"{module}:{place}" if place else f"{module}.{constants.get(node, '?')}"


def _is_use(node: ast.AST) -> bool:
    function = node.func if isinstance(node, ast.Call) else None
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "re"
        and function.attr in _FUNCTIONS
    )


def _assigned_calls(tree: ast.Module) -> Iterator[tuple[ast.Name, ast.AST]]:
    """Yield the names of a module's constants with each call in their value."""
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name):
                yield from ((target, node) for node in ast.walk(statement) if isinstance(node, ast.Call))


def _walk(node: ast.AST, place: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield every node with the dotted name of the function that it stands in, '' at the top."""
    for child in ast.iter_child_nodes(node):
        inner = place
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{place}.{child.name}" if place else child.name
        yield inner, child
        yield from _walk(child, inner)


def constant(name: str) -> tuple[re.Pattern[Any], str]:
    """Return the pattern behind ``module.NAME``, and the method that the constant is, '' when it is the pattern."""
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    return (found, "") if isinstance(found, re.Pattern) else (found.__self__, found.__name__)


def attacks(pattern: re.Pattern[Any]) -> list[Make]:
    """Return inputs of a size that are made of the pattern's own pieces, again and again, with an end that fails."""
    tree: Any = _parser.parse(pattern.pattern, pattern.flags)
    pieces = ["\n", " ", *sorted(set(_pieces(tree)) - {"\n", " "}, key=len)[-8:]]
    starts = sorted({_sample(tree[:count]) for count in range(len(tree) + 1)}, key=len)[-8:]
    texts: set[tuple[str, str, str]] = {(start, piece, "") for start in starts for piece in pieces}
    texts |= {("", first + second, "") for first in pieces for second in pieces}
    texts |= {("", first, second) for first in pieces for second in pieces}

    def make(start: str, first: str, second: str, size: int) -> Any:
        half = size // 2 if second else size
        text = start + first * (half // len(first)) + (second * (half // len(second)) if second else "") + "\0"
        return text if isinstance(pattern.pattern, str) else text.encode("latin-1", "replace")

    return [partial(make, *parts) for parts in sorted(texts)]


def _pieces(tree: Any) -> Iterator[str]:
    """Yield what each part of a pattern matches at its shortest, from single characters to the whole."""
    literal = ""
    for node in tree:
        if str(node[0]) == "LITERAL":
            literal += chr(node[1])
            continue
        if literal:
            yield literal
        literal = ""
        for inner in _inner(node):
            yield from _pieces(inner)
        if piece := _sample([node]):
            yield piece
    if literal:
        yield literal
    if whole := _sample(tree):
        yield whole


def _inner(node: Any) -> list[Any]:
    """Return the patterns inside a node."""
    kind, argument = str(node[0]), node[1]
    if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return [argument[2]]
    if kind == "SUBPATTERN":
        return [argument[3]]
    if kind == "ATOMIC_GROUP":
        return [argument]
    return list(argument[1]) if kind == "BRANCH" else []


def _sample(tree: Any) -> str:
    """Return a text that a pattern matches, each repetition at least once."""
    return "".join(map(_sample_of, tree))


def _sample_of(node: Any) -> str:
    kind, argument = str(node[0]), node[1]
    if kind == "LITERAL":
        return chr(argument)
    if kind == "IN":
        return _member(argument)
    if kind in ("ANY", "NOT_LITERAL"):
        return "x"
    if kind.endswith("REPEAT"):
        repeats: int = max(1, min(argument[0], 64))
        return _sample(argument[2]) * repeats
    inner = _inner(node)
    return _sample(inner[0]) if inner else ""


def _member(items: Any) -> str:
    """Return a character of a set."""
    excluded = {chr(argument) for kind, argument in items if str(kind) == "LITERAL"}
    if str(items[0][0]) == "NEGATE":
        return next(character for character in ("x", "a", "0", "_", " ") if character not in excluded)
    kind, argument = str(items[0][0]), items[0][1]
    if kind == "CATEGORY":
        name = str(argument)
        return "0" if name.endswith("DIGIT") else " " if name.endswith("_SPACE") and "NOT" not in name else "a"
    return chr(argument[0] if kind == "RANGE" else argument)
