"""Request usage from an OpenAI-style stream when the client did not, and remove the extra frame from the response.

This is the only place where the proxy changes bytes, and it is optional. With ``include_usage`` servers send one more
frame, which ``UsageFrameFilter`` removes; they may also add ``"usage":null`` to the other frames, which stays, since
removing it would mean rewriting every frame. Ollama adds a usage of zeros to each frame of a text completion, which is
removed as well: it is always the same bytes at the end of a frame, and clients would take it for a count. llama.cpp
then moves its ``timings`` from the last choice's frame to the usage frame: do not request usage from a llama.cpp
server, whose timings contain the same numbers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from modelhost_exporter.untrusted_json import parse_json

_MAX_MEMBERS = 1000
_INCLUDE = '"include_usage":true'
_SPACE = re.compile(r"[ \t\n\r]*")
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_ENDS = b"\r\n"
_EVENT_FIELDS = (b"event", b"id", b"retry", b"")
"""Fields of an event besides its data; a comment is a field without a name."""
_OLLAMAS_ZEROS = b',"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}'
_OLLAMAS_FRAME_END = b'"system_fingerprint":"fp_ollama"' + _OLLAMAS_ZEROS
_decoder = json.JSONDecoder()


@dataclass(frozen=True)
class _Member:
    """A member of a JSON object: its value and the position of that value in the text."""

    value: object
    start: int
    end: int


def ask(body: bytes) -> bytes | None:
    """Return a request body that requests usage and otherwise is byte for byte the client's.

    None when the body must stay as it is: it requests no stream, sets ``include_usage`` itself, has duplicate keys,
    which parsers treat differently, has very many keys, or is not a JSON object.
    """
    try:
        text = body.decode("utf-8")
        edited = _edit(text)
    except (ValueError, RecursionError):
        return None
    return None if edited is None else edited.encode("utf-8")


def _edit(text: str) -> str | None:
    start = _skip_space(text, 0)
    members, end = _members(text, start)
    if _skip_space(text, end) != len(text) or "stream" not in members or members["stream"].value is not True:
        return None
    options = members.get("stream_options")
    if options is None:
        return _splice(text, start + 1, start + 1, f'"stream_options":{{{_INCLUDE}}},')
    if options.value is None:
        return _splice(text, options.start, options.end, f"{{{_INCLUDE}}}")
    if not isinstance(options.value, dict):
        return None
    inner, _ = _members(text, options.start)
    if "include_usage" in inner:
        return None
    return _splice(text, options.start + 1, options.start + 1, _INCLUDE + ("," if inner else ""))


def _splice(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _members(text: str, position: int) -> tuple[dict[str, _Member], int]:
    """Return the members of the JSON object at a position, and its end; ValueError when there is none."""
    if text[position : position + 1] != "{":
        raise ValueError("not an object")
    members: dict[str, _Member] = {}
    position = _skip_space(text, position + 1)
    if text[position : position + 1] == "}":
        return members, position + 1
    while True:
        position = _member(text, position, members)
        mark = text[position : position + 1]
        if mark == "}":
            return members, position + 1
        if mark != ",":
            raise ValueError("neither a comma nor an end")
        position = _skip_space(text, position + 1)


def _member(text: str, position: int, members: dict[str, _Member]) -> int:
    """Add the member at a position and return the position of the next delimiter."""
    key, position = _decoder.raw_decode(text, position)
    position = _skip_space(text, position)
    if (
        not isinstance(key, str)
        or key in members
        or len(members) >= _MAX_MEMBERS
        or text[position : position + 1] != ":"
    ):
        raise ValueError("not a member, or one that was there before")
    start = _skip_space(text, position + 1)
    value, end = _decoder.raw_decode(text, start)
    members[key] = _Member(value, start, end)
    return _skip_space(text, end)


class UsageFrameFilter:
    """Removes the frames that contain only usage from an event stream, and Ollama's zeros from the others.

    All other bytes pass unchanged.

    Holds back at most one frame that has not ended, and not more than ``limit`` bytes of it.
    """

    def __init__(self, limit: int = 64 * 1024) -> None:
        self._limit = limit
        self._held = b""
        self._passing = False  # a frame that was too long to hold is being passed on
        self._dropped_cr = False

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes that can be sent to the client now."""
        if self._dropped_cr and chunk:
            self._dropped_cr = False
            chunk = chunk.removeprefix(b"\n")  # the second half of the dropped frame's line end
        data = self._held + chunk
        searched = max(0, len(self._held) - 3)  # a blank line is at most four bytes long
        out: list[bytes] = []
        position = 0
        for end in _frame_ends(data, searched):
            frame = data[position:end]
            out.append(frame if self._passing else self._filtered(frame))
            self._dropped_cr = end == len(data) and _is_dropped(frame, out[-1]) and frame.endswith(b"\r")
            self._passing = False
            position = end
        self._held = data[position:]
        if len(self._held) > self._limit or self._passing:
            self._pass(out)
        return b"".join(out)

    def flush(self) -> bytes:
        """Return what is held back, at the end of the stream."""
        held, self._held = self._held, b""
        return held if self._passing else self._filtered(held)

    def _pass(self, out: list[bytes]) -> None:
        """Release a long frame except its last byte, which may be the first half of a blank line."""
        self._passing = True
        out.append(self._held[:-1])
        self._held = self._held[-1:]

    def _filtered(self, frame: bytes) -> bytes:
        """Return the frame; only the blank lines before it when it contains nothing but usage."""
        if b'"usage"' not in frame:
            return frame
        if _is_usage_only(frame):
            return frame[: len(frame) - len(frame.lstrip(_LINE_ENDS))]
        content = frame.rstrip(_LINE_ENDS)
        if content.endswith(_OLLAMAS_FRAME_END):
            return content[: -len(_OLLAMAS_ZEROS)] + b"}" + frame[len(content) :]
        return frame


def _is_dropped(frame: bytes, left: bytes) -> bool:
    return len(left) < len(frame) and not left.strip(_LINE_ENDS)


def _frame_ends(data: bytes, start: int) -> list[int]:
    return [match.end() for match in _BLANK_LINE.finditer(data, start)]


def _is_usage_only(frame: bytes) -> bool:
    """Return whether an event has usage and no choices, whichever other fields and comments it has."""
    data: list[bytes] = []
    for line in frame.splitlines():
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name not in _EVENT_FIELDS:
            return False
    try:
        event = parse_json(b"\n".join(data))
    except ValueError:
        return False
    return isinstance(event, dict) and not event.get("choices") and isinstance(event.get("usage"), dict)
