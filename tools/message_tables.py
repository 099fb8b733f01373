"""The tables of the live feed's message, generated from its TypedDicts."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.live import message

if TYPE_CHECKING:
    from collections.abc import Iterator

_JSON_TYPES = {"str": "string", "float": "number", "int": "integer", "bool": "boolean", "None": "null"}


class MessageField(NamedTuple):
    """A field of the message: its name, JSON type and description."""

    name: str
    type: str
    description: str


class MessagePart(NamedTuple):
    """One object of the message."""

    name: str
    description: str
    fields: list[MessageField]


def message_parts(source: str | None = None) -> list[MessagePart]:
    """Return the objects of the message in the order of their declaration, or those of other ``source``.

    ValueError for a class or field without a description.
    """
    tree = ast.parse(inspect.getsource(message) if source is None else source)
    return [
        MessagePart(node.name, _described(ast.get_docstring(node), node.name), list(_fields(node)))
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    ]


def _fields(node: ast.ClassDef) -> Iterator[MessageField]:
    """Yield the fields of a class; the string below a field describes it."""
    for statement, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            yield MessageField(name, _json_type(statement.annotation), _described(_text(below), f"{node.name}.{name}"))


def _text(statement: ast.stmt | None) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value)
    return None


def _described(text: str | None, name: str) -> str:
    if text is None:
        raise ValueError(f"{name} has no description: add a string below it")
    return " ".join(text.split())


def _json_type(annotation: ast.expr) -> str:
    """Return the JSON type of an annotation, such as 'number or null'."""
    if isinstance(annotation, ast.BinOp):
        return f"{_json_type(annotation.left)} or {_json_type(annotation.right)}"
    if isinstance(annotation, ast.Subscript):
        container, content = ast.unparse(annotation.value), annotation.slice
        if container == "list":
            return f"array of {_json_type(content)}"
        if container == "dict" and isinstance(content, ast.Tuple):
            return f"object of {_json_type(content.elts[1])}"
    name = ast.unparse(annotation)
    return _JSON_TYPES.get(name, f"`{name}`")
