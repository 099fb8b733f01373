"""Everything that reads bytes from elsewhere does so in time linear in their number, and keeps a bounded part of them.

A regular expression of the package that is not listed here fails the first test: list it as ``FOREIGN``, with inputs
of its own beside those made of its pieces, or as ``TRUSTED`` with the reason why only the operator's text meets it.
"""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from dataclasses import fields
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from modelhost_exporter import collectors, dialects
from modelhost_exporter.config.name_filter import NameFilter
from modelhost_exporter.dialects.decompress import CannotDecompress, decompressor
from modelhost_exporter.dialects.form import text_fields
from modelhost_exporter.dialects.ndjson import Lines
from modelhost_exporter.dialects.sse import EventStream
from modelhost_exporter.dialects.usage_request import UsageFrameFilter
from modelhost_exporter.dialects.whole_body import WholeBody
from modelhost_exporter.engines.metrics_page import EnginePage
from modelhost_exporter.engines.pages import UnexpectedContent
from tests.faults.foreign_readers import JSON, NDJSON, SSE, readers
from tests.faults.growth import MAX_FACTOR, attacks, constant, factor, fail_unless_linear, regular_expressions, untraced
from tests.faults.hostile import as_text, repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.faults.hostile import Make

# constant → the method that it is used with, and inputs beside those made of its own pieces
FOREIGN: dict[str, tuple[str, Sequence[Make]]] = {
    "modelhost_exporter.engines.kinds.llamacpp._BUILD": ("match", ()),
    "modelhost_exporter.collectors.infiniband._GIGABIT": ("match", ()),
    "modelhost_exporter.collectors.systemd._SERVICE": ("search", ()),
    "modelhost_exporter.linux.interfaces._FUNCTION": ("fullmatch", ()),
    "modelhost_exporter.metrics.text_format._ESCAPE": ("findall", ()),
    "modelhost_exporter.metrics.text_format._LABEL": ("match", ()),
    "modelhost_exporter.metrics.text_format._META": ("fullmatch", ()),
    "modelhost_exporter.metrics.text_format._SAMPLE": (
        "fullmatch",
        [as_text(repeated(part, start=b"a")) for part in (b" ", b"{", b"} 1", b"} 1 1", b" {a} ", b" 1")],
    ),
    "modelhost_exporter.metrics.text_format._VALUE": ("fullmatch", ()),
    "modelhost_exporter.collectors.pressure._TOTALS": ("findall", ()),
    "modelhost_exporter.collectors.tcp._TIME_WAIT": ("search", ()),
    "modelhost_exporter.linux.cpus._CPUINFO": (
        "findall",
        [as_text(repeated(part, start=b"processor")) for part in (b" ", b"\nprocessor ", b":")],
    ),
    "modelhost_exporter.linux.kernel_files._COUNT": (
        "findall",
        [as_text(repeated(part, start=b"a")) for part in (b" ", b"a", b" 1", b"\na 1x", b"\n ")],
    ),
    "modelhost_exporter.engines.metrics_page._BOUND": ("search", ()),
    "modelhost_exporter.engines.metrics_page._ESCAPE": ("findall", ()),
    "modelhost_exporter.engines.metrics_page._LABEL": ("findall", [as_text(repeated(b"a", start=b"{", end=b"}"))]),
    "modelhost_exporter.engines.metrics_page._SAMPLE": (
        "fullmatch",
        [as_text(repeated(part, start=b"a")) for part in (b" ", b"{", b"} 1", b"} 1 1", b"{} 1 # ", b" {a} ", b" 1")],
    ),
    "modelhost_exporter.metrics.families._ESCAPE": (
        "search",
        [as_text(repeated(rb"\u000")), as_text(repeated(rb"\x0"))],
    ),
    "modelhost_exporter.gpu.sysfs.cards._CARD": ("fullmatch", ()),
    "modelhost_exporter.gpu.sysfs.kfd._NUMBER": ("fullmatch", ()),
    "modelhost_exporter.gpu.sysfs.kfd._PROPERTY": ("findall", ()),
    "modelhost_exporter.gpu.nvidia.mig._PROFILE": ("search", ()),
    "modelhost_exporter.gpu.nvidia.throttling._VERSION_PART": ("findall", ()),
    "modelhost_exporter.server_processes._PORT": ("findall", ()),
    "modelhost_exporter.server_processes._STARTERS": ("fullmatch", ()),
    "modelhost_exporter.gpu.processes._DRIVE": ("match", ()),
    "modelhost_exporter.gpu.processes._INTERPRETERS": ("fullmatch", ()),
    "modelhost_exporter.gpu.processes._TITLE_END": ("split", ()),
    "modelhost_exporter.gpu.runtime_suspend._STATUS": ("search", ()),
    "modelhost_exporter.gpu.sysfs.amd._ERRORS": ("findall", ()),
    "modelhost_exporter.gpu.sysfs.amd._LEVEL": ("findall", ()),
    "modelhost_exporter.gpu.sysfs.amd._SPEED": ("match", ()),
    "modelhost_exporter.config.http_url._PRINTABLE": ("fullmatch", ()),
    "modelhost_exporter.linux.mounts._ESCAPED": ("findall", ()),
    "modelhost_exporter.collectors.network._LOOPBACK": ("fullmatch", ()),
    "modelhost_exporter.collectors.network._STACKED": ("fullmatch", ()),
    "modelhost_exporter.live.settings._HOST": ("fullmatch", ()),
    "modelhost_exporter.live.host_identity._BLANKS": ("findall", [as_text(repeated(b" "))]),
    "modelhost_exporter.live.host_identity._CPU_MODEL": (
        "search",
        [as_text(repeated(part, start=b"Processor")) for part in (b" ", b"\nProcessor ")],
    ),
    "modelhost_exporter.live.host_identity._PRETTY_NAME": ("search", [as_text(repeated(b"\nPRETTY_NAME="))]),
    "modelhost_exporter.logs.formatting._PLAIN": ("fullmatch", ()),
    "modelhost_exporter.web.origin_check._ORIGIN": ("fullmatch", ()),
    "modelhost_exporter.config.servers._FIELD_NAME": ("fullmatch", ()),
    "modelhost_exporter.proxy.exchange._CONTROL": ("search", ()),
    "modelhost_exporter.proxy.headers._LENGTH_VALUE": (
        "search",
        [repeated(part) for part in (b"\r\nContent-Length: ", b"\r\nContent-Length: 123456789012345", b"\r\nC")],
    ),
    "modelhost_exporter.proxy.request_validation._HOST": ("fullmatch", ()),
    "modelhost_exporter.proxy.request_validation._LENGTH": ("fullmatch", ()),
    "modelhost_exporter.proxy.request_validation._LINE": (
        "findall",
        [repeated(part, start=start) for part in (b" ", b"A ", b"a") for start in (b"A", b"A a")],
    ),
    "modelhost_exporter.proxy.request_validation._PRINTABLE": ("fullmatch", ()),
    "modelhost_exporter.proxy.request_validation._TARGET": ("fullmatch", ()),
    "modelhost_exporter.proxy.request_validation._TOKEN_AND_SPACE": ("match", ()),
    "modelhost_exporter.logs.redaction._BEFORE_QUERY": ("findall", ()),
    "modelhost_exporter.logs.redaction._PORT": ("findall", ()),
    "modelhost_exporter.config.parsing._NAME": ("fullmatch", ()),
    "modelhost_exporter.dialects.form._PARAMETER": ("findall", ()),
    "modelhost_exporter.dialects.openai_responses._MADE_UP_DETAILS": ("fullmatch", ()),
    "modelhost_exporter.dialects.frame_template._TOKEN": ("search", [repeated(b'"text":"a\\')]),
    "modelhost_exporter.dialects.frame_template._plain": ("fullmatch", ()),
    "modelhost_exporter.dialects.usage_request._BLANK_LINE": ("findall", ()),
    "modelhost_exporter.dialects.usage_request._SPACE": ("match", ()),
    "modelhost_exporter.dialects.whole_body._MEMBER": ("findall", ()),
}
# constant, or module:function of one that is made there → why no foreign text meets it
TRUSTED = {
    "modelhost_exporter.collectors.systemd._UNIT": "the operator's configuration",
    "modelhost_exporter.config.model:Web.__post_init__": "the operator's configuration",
    "modelhost_exporter.gpu.nvidia.library:_cached": "the loader's own cache, which only root can write",
    "modelhost_exporter.gpu.nvidia.library:search": "the operator's LD_LIBRARY_PATH",
    "modelhost_exporter.config.http_url:PageUrl.from_text": "the operator's configuration",
    "modelhost_exporter.logs.redaction:_start_of_word": "messages about the operator's configuration",
    "modelhost_exporter.logs.redaction:redact_url": "messages about the operator's configuration",
    "modelhost_exporter.config.name_filter:all_but": "tested below, with the default patterns",
    "modelhost_exporter.config.parsing:_pattern": "the operator's own pattern",
    "modelhost_exporter.config.duration._DURATION": "the operator's configuration",
    "modelhost_exporter.requests.settings._NAME": "the operator's configuration",
    "modelhost_exporter.requests.settings._SECRET": "the operator's configuration",
    "modelhost_exporter.config.servers._HOST_NAME": "the operator's configuration",
    "modelhost_exporter.engines.discovery._HOST_PORT": "the operator's command line",
    "modelhost_exporter.config.duration._PART": "the operator's configuration",
    "modelhost_exporter.security.go_duration._DURATION": "the operator's configuration",
    "modelhost_exporter.security.go_duration._PART": "the operator's configuration",
    "modelhost_exporter.security.go_duration:parse_go_duration": "the operator's configuration",
    "modelhost_exporter.security.passwords._HASH": "the operator's configuration",
    "modelhost_exporter.security.tls._REASON": "OpenSSL's own words about the operator's certificates",
    "modelhost_exporter.security.web_config._CONTROL": "the operator's configuration",
    "modelhost_exporter.security.bearer_tokens._TOKEN": "a file of the operator",
    "modelhost_exporter.security.bearer_tokens._NAME": "a file of the operator",
    "modelhost_exporter.config.yaml_file:_without_values": "PyYAML's own words about the operator's configuration",
}


def default_selections() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Yield the default patterns for names of devices, interfaces and mounts."""
    for name in collectors.names():
        options = collectors.options_of(name)()
        for option in fields(options):
            value = getattr(options, option.name)
            if isinstance(value, NameFilter) and value.exclude is not None:
                yield f"{name}.{option.name}", value.exclude


def test_every_regular_expression_is_listed() -> None:
    """The lists hold every regular expression of the package and no other."""
    assert regular_expressions() == FOREIGN.keys() | TRUSTED.keys()


@pytest.mark.parametrize("name", FOREIGN)
def test_patterns(name: str) -> None:
    """A pattern takes linear time on what is made of its own pieces, again and again, with an end that fails."""
    pattern, bound = constant(name)
    method, own = FOREIGN[name]
    assert bound in ("", method)
    for make in (*attacks(pattern), *own):
        fail_unless_linear(getattr(pattern, method), make)


@pytest.mark.parametrize(("name", "pattern"), [*default_selections()])
def test_default_selections(name: str, pattern: re.Pattern[str]) -> None:
    """The default filters take linear time too: users choose the names of mounts and devices."""
    assert name
    for make in attacks(pattern):
        fail_unless_linear(pattern.fullmatch, make)


@pytest.mark.parametrize("reader", [*readers()], ids=lambda reader: reader.name)
def test_readers(reader: Any) -> None:
    """A reader takes linear time on whatever it is given."""
    for make in reader.makes:
        fail_unless_linear(reader.run, make)


# what two patterns were once: cubic and quadratic
FORM = re.compile(
    rb'content-disposition:[^\r\n]*[ ;]name="?(model|stream)"?(?:;[^\r\n]*)?\r\n'
    rb"(?:[^\r\n]+\r\n)*\r\n([^\r\n]{0,1024})",
    re.IGNORECASE,
)
LABEL = re.compile(r'([a-zA-Z_][\w]*)="((?:[^"\\]|\\.)*)"')


@pytest.mark.parametrize("pattern", [FORM, LABEL, re.compile("(a|a)+b")], ids=["form", "label", "worst"])
def test_what_is_slow_is_found(pattern: re.Pattern[Any]) -> None:
    """Inputs built from a pattern's parts trigger backtracking, and the measurement detects it."""
    assert any(_is_slow(pattern, make) for make in attacks(pattern))


def _is_slow(pattern: re.Pattern[Any], make: Make) -> bool:
    try:
        fail_unless_linear(pattern.findall, make)
    except pytest.fail.Exception as failure:
        return "times as long" in str(failure) or "no end after" in str(failure)
    return False


def test_squares_are_found_and_lines_are_not() -> None:
    """The measurement distinguishes quadratic from linear time."""
    squares = [factor(lambda data: sum(repeat(1, len(data) ** 2 // 64)), bytes) for _ in range(5)]
    assert max(squares) > MAX_FACTOR  # a pause in the first run of one makes it smaller
    assert factor(lambda data: [None for _ in data], bytes) < MAX_FACTOR


PIECE, SPARE_BYTES = b"x" * 290, 256 << 10


def _reply(path: str, kind: str) -> Callable[[bytes], object]:
    found = dialects.find(path)
    assert found is not None
    return found[0].reply(kind).feed


@pytest.mark.parametrize(
    ("create", "limit"),
    [
        (lambda: EventStream().feed, 1 << 20),
        (lambda: Lines().feed, 1 << 20),
        (lambda: WholeBody().add, 512 << 10),
        (lambda: UsageFrameFilter().feed, 64 << 10),
        (lambda: _reply("/v1/chat/completions", SSE), 1 << 20),
        (lambda: _reply("/api/chat", NDJSON), 1 << 20),
        (lambda: _reply("/v1/embeddings", JSON), 64 << 10),
        *((lambda coding=coding: decompressor(coding), 64 << 10) for coding in ("gzip", "br", "zstd")),
    ],
    ids=["events", "lines", "body", "usage filter", "chat", "ollama", "embeddings", "gzip", "br", "zstd"],
)
@pytest.mark.parametrize("start", [b"", b"data: ", b"\x1f\x8b\x08\x08" + bytes(6)], ids=["raw", "event", "name"])
def test_an_endless_line_is_not_kept(create: Callable[[], Callable[[bytes], object]], limit: int, start: bytes) -> None:
    """Of a line, body or file name without end at most twice the limit is kept, also if it arrives in small chunks."""
    feed, most = create(), 2 * limit + SPARE_BYTES
    tracemalloc.start()
    with contextlib.suppress(CannotDecompress), untraced():
        feed(start)
        for _ in range((most + limit) // len(PIECE)):
            feed(PIECE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most


@pytest.mark.parametrize("line", [b'x:a{b="%d"} 1\n', b"x:a%d 1\n", b"\n", b"x" * 1000])
def test_a_page_takes_little_memory(line: bytes) -> None:
    """A page needs at most a few times its size in memory, whatever its lines."""
    page = b"".join(line % n if b"%d" in line else line for n in range((2 << 20) // len(line)))
    tracemalloc.start()
    with contextlib.suppress(UnexpectedContent):
        EnginePage(page, "x:")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20


def test_a_form_takes_little_memory() -> None:
    """Only the two ends of an 8 MiB form are copied."""
    body = b"--x\r\n" + b"\r\n--x" * (8 << 18)
    tracemalloc.start()
    text_fields(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 256 << 10
