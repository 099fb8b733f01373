from __future__ import annotations

import pytest

from tools.message_tables import MessageField, MessagePart, message_parts

SOURCE = '''
class Outer(TypedDict):
    """An object."""

    number: float | None
    """A number
    in ms."""
    inner: list[Inner]
    """Objects."""
    counts: dict[str, int]
    """Counts by name."""
'''


def test_fields_have_json_types_and_descriptions() -> None:
    """Types are those of JSON; a description of several lines becomes one."""
    assert message_parts(SOURCE) == [
        MessagePart(
            "Outer",
            "An object.",
            [
                MessageField("number", "number or null", "A number in ms."),
                MessageField("inner", "array of `Inner`", "Objects."),
                MessageField("counts", "object of integer", "Counts by name."),
            ],
        )
    ]


@pytest.mark.parametrize(
    ("removed", "name"), [('    """Objects."""', "Outer.inner"), ('    """An object."""', "Outer")]
)
def test_a_field_needs_a_description(removed: str, name: str) -> None:
    """The error names the class or the field."""
    with pytest.raises(ValueError, match=f"^{name} has no description"):
        message_parts(SOURCE.replace(removed, ""))


def test_the_message_is_the_first_object() -> None:
    """Every object that the message refers to has its own table."""
    parts = message_parts()
    names = {part.name for part in parts}
    referred = {
        word.strip("`") for part in parts for field in part.fields for word in field.type.split() if "`" in word
    }
    assert parts[0].name == "LiveMessage"
    assert referred == names - {"LiveMessage"}
