"""No message contains a password, query or header's value of a configuration."""

from __future__ import annotations

import collections.abc
import contextlib
import subprocess
import sys
import typing
import urllib.error
import urllib.request
from dataclasses import fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from modelhost_exporter import collectors
from modelhost_exporter.collector import Paths
from modelhost_exporter.config import flags
from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.http_url import PageUrl, ServerUrl
from modelhost_exporter.config.model import ConfigError, LiveOptions, Log, Scraping, Web
from modelhost_exporter.config.servers import Server
from modelhost_exporter.logs.redaction import redact, redact_url
from tests.support.programs import DEADLINE_SECONDS, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import StartExporter

SECRET = "s3cr3t"  # noqa: S105 - none
URLS = [
    f"http://user:{SECRET}@host:1234/path",
    f"http://{SECRET}@host",
    f"http://us'er:{SECRET}@host",
    f"http://user:{SECRET}@ho@st:x/",
    f"http://user:a/{SECRET}?#@host",
    f"http://user:a b{SECRET}@host:99999",
    f"http://user:{SECRET}",  # the host was forgotten
    f"http://[::1]:{SECRET}",
    f"http://host/?key={SECRET}",
    f"http://host:x/?key=a {SECRET}",
    f"http://host#{SECRET}",
    f"user:{SECRET}@host:1234",
    f"user:a {SECRET}@host:1234",
    f"ftp://user:{SECRET}@host",
    f"a=http://user:{SECRET}@host=http://user:{SECRET}@other",
    f"a=:1=http://user:{SECRET}@host",
    f"a=user:{SECRET}@host:1=http://other",
    f"http://user:ä{SECRET}@host",
    f"http://user:\x00{SECRET}\n@host",
]


def mistake(read: Callable[[], object]) -> str:
    """Return an error's text with that of its causes; '' without an error."""
    try:
        read()
    except (ConfigError, ValueError) as error:
        return f"{error} {vars(error)}"
    return ""


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_shown_without_what_is_secret(url: str) -> None:
    """Secrets are removed from a URL alone and within a message."""
    assert SECRET not in redact_url(url)
    assert SECRET not in redact(f"web.x: {redact_url(url)!r} is not a URL such as http://127.0.0.1:1")
    for kind in (ServerUrl, PageUrl):
        assert SECRET not in mistake(partial(kind.from_text, url))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web.x: 'http://u:p@h:1/a' is wrong", "web.x: 'http://***@h:1/a' is wrong"),
        ("'http://h:80/a?key=b&c' is wrong", "'http://h:80/a?***' is wrong"),
        ("'http://h:x/a' is wrong", "'http://h:***/a' is wrong"),
        ("'http://h/#' is wrong", None),
        ("--a=u:p=q@h is wrong", "--a=***@h is wrong"),
        ("found character '@' that cannot start any token", "found character '@' that cannot start any token"),
        ("'a=b' is not such as a=127.0.0.1:8434=http://127.0.0.1:11434", None),
        ("web.x: 'h:1' is not a URL such as http://127.0.0.1:11434; see http://[::1]:1, http://h:2.", None),
        ("", None),
    ],
)
def test_the_rest_of_a_message_stays(text: str, shown: str | None) -> None:
    """Paths, hosts and examples are not removed."""
    assert redact(text) == (text if shown is None else shown)


def places(kind: Any) -> Iterator[Any]:
    """Yield functions that put a value at each place of a type's YAML."""
    yield lambda value: value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for each in fields(kind):
            for inner in places(hints[each.name]):
                yield lambda value, inner=inner, name=each.name: {name: inner(value)}
    elif origin is tuple:
        for inner in places(arguments[0]):
            yield lambda value, inner=inner: [inner(value)]
    elif origin is collections.abc.Mapping:
        for inner in places(arguments[1]):
            yield lambda value, inner=inner: {"key": inner(value)}
    elif arguments and type(None) in arguments:
        yield from places(arguments[0])


SECTIONS: dict[str, Any] = {
    "web": Web,
    "live": LiveOptions,
    "scrape": Scraping,
    "log": Log,
    "path": Paths,
    "servers": tuple[Server, ...],
    **{f"collectors.{name}": collectors.options_of(name) for name in collectors.names()},
}
PLACES = [
    pytest.param(section, place, id=f"{section}-{number}")
    for section, kind in SECTIONS.items()
    for number, place in enumerate(places(kind))
]


@pytest.mark.parametrize(("section", "place"), PLACES)
def test_no_mistake_at_any_place_of_the_configuration_shows_it(section: str, place: Any) -> None:
    """Every key of every section, with each URL as its value and as a key below it."""
    outer, _, inner = section.partition(".")
    for url in URLS:
        for wrong in (url, {url: 1}, [{url: url}]):
            raw = {outer: {inner: place(wrong)} if inner else place(wrong)}
            assert SECRET not in mistake(partial(configuration.read, raw)), raw


@pytest.mark.parametrize(
    "headers",
    [
        f"Authorization: Bearer {SECRET}",
        [f"Authorization: Bearer {SECRET}"],
        {f"Authorization: Bearer {SECRET}": None},
        {f"Authorization: Bearer {SECRET}": "a"},
        {f"Bearer {SECRET}": 1},
        {"Authorization": {"Bearer": SECRET}},
        {"Authorization": [SECRET]},
        {"Authorization": f"Bearer {SECRET}\n"},
        {"Authorization": f"Bearer ä{SECRET}"},
        {"Authorization": f"Bearer \0{SECRET}"},
        {"Au thorization": SECRET},
    ],
)
def test_headers_are_shown_by_their_name_at_most(headers: object) -> None:
    """A header's value is a secret, also if it is invalid."""
    with pytest.raises(ConfigError, match=r"^servers\[0\].*headers") as caught:
        configuration.read({"servers": [{"name": "a", "url": "http://h:1", "headers": headers}]})
    assert SECRET not in str(caught.value)


def test_a_header_that_is_a_number_is_not_shown() -> None:
    """YAML parses 123456 as a number: the message has the key and the expected type only."""
    with pytest.raises(ConfigError) as caught:
        configuration.read({"servers": [{"name": "a", "url": "http://h:1", "headers": {"X-Key": 123456}}]})
    assert str(caught.value) == "servers[0].headers.X-Key: must be text"


@pytest.mark.parametrize(
    "text",
    [
        f"a: *{SECRET}",
        f"a: !{SECRET} b",
        f"a: !!timestamp {SECRET}",
        f"a: !!int {SECRET}",
        f"a: 'x{SECRET}",
        f'a: "\\{SECRET}"',
        f"a: [{SECRET}",
        f"a: %{SECRET}",
        f"a: &{SECRET}",
        f"a: `{SECRET}",
        f"a: b: http://u:{SECRET}@h",
        f"http://u:{SECRET}@h: 1\nhttp://u:{SECRET}@h: 2",
        f"- http://u:{SECRET}@h",
        f"%TAG ! {SECRET}",
    ],
)
def test_yaml_that_cannot_be_parsed_is_not_quoted(tmp_path: Path, text: str) -> None:
    """The error has the line and column only."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        configuration.load(file, {})
    assert SECRET not in str(caught.value)
    assert str(caught.value).startswith(str(file)) or "must be a mapping" in str(caught.value) or ":" in text


FLAGS = [action.option_strings[0] for action in flags.parser()._actions if action.option_strings[0].startswith("--")]


@pytest.mark.parametrize("flag", [*FLAGS, "--unknown"])
def test_no_flag_shows_it(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each flag with each URL as its value, through everything that may report an error."""
    for url in URLS:
        with contextlib.suppress(SystemExit):
            assert SECRET not in mistake(partial(_load, [f"{flag}={url}"]))
        assert SECRET not in capsys.readouterr().err


def _load(words: list[str]) -> None:
    given = flags.parse(words)
    configuration.load(given.config_file, given.overrides)


def test_the_program_shows_it_nowhere(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Neither a failed start nor a failed reload shows the secret, in the log or in the response."""
    url = URLS[0]
    for flag in (f"--proxy=a=127.0.0.1:0={url}", f"--web.grafana-url={url}", f"--web.listen-address={url}"):
        command = [sys.executable, "-m", "modelhost_exporter", flag]
        failed = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
        assert failed.returncode == 2
        assert "host" in failed.stderr
        assert SECRET not in failed.stderr
    file = tmp_path / "config.yaml"
    file.write_text("")
    exporter = start_exporter(f"--config.file={file}", "--web.enable-lifecycle")
    file.write_text(f"servers: [{{name: a, url: '{url}', headers: {{Authorization: Bearer {SECRET}}}}}]")
    reload = urllib.request.Request(f"http://{exporter.address}/-/reload", method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(reload)
    with caught.value as answer:
        body = answer.read().decode()
    assert body == "servers[0].url: 'http://***@host:1234/path' must have no query, fragment, user or password\n"
    assert exporter.wait_for_message("configuration not reloaded")["error"] == body.strip()
    assert SECRET not in exporter.output()
