from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.security.authentication import ClientIdentity, Credentials, Refusal
from modelhost_exporter.security.bearer_tokens import MAX_TOKENS, BearerTokens, TokenFile, digest, load
from modelhost_exporter.security.reloaded import FilesRead

if TYPE_CHECKING:
    from pathlib import Path

TOKEN, OTHER = "0123456789abcdef", "fedcba9876543210"


def read(folder: Path, content: str | bytes) -> TokenFile:
    """Return the tokens of a file with this content."""
    file = folder / "tokens"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load(file, FilesRead())


def bearer(token: bytes | str, scheme: str = "Bearer") -> Credentials:
    """Return the credentials of a request with a token."""
    return Credentials(
        [(b"authorization", scheme.encode() + b" " + (token if isinstance(token, bytes) else token.encode()))]
    )


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (TOKEN, [""]),
        (f"\ufeff{TOKEN}\r\n", [""]),
        (f"# for Prometheus\nprometheus: {TOKEN}\n\n  {OTHER}  \n", ["prometheus", ""]),
        (f"a@b.example:{TOKEN}\nc : {OTHER}", ["a@b.example", "c"]),
        ("eyJhbGciOi.J9~a+b/c-d_e==", [""]),
    ],
)
def test_tokens_are_read_one_a_line(tmp_path: Path, content: str, names: list[str]) -> None:
    """A token may have a name; comments, blank lines, a byte order mark and carriage returns do not count."""
    assert list(read(tmp_path, content).names.values()) == names


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "has no token: write one a line, such as openssl rand -hex 32 prints"),
        ("# nothing\n", "has no token"),
        ("\nhunter2", ":2: a token has 16 to 4096 characters"),
        ("a" * 4097, ":1: a token has 16 to 4096 characters"),
        (f"Bearer {TOKEN}", ":1: not NAME: TOKEN or TOKEN"),
        (f"a b: {TOKEN}", ":1: the name before the colon may have letters"),
        (f": {TOKEN}", ":1: the name before the colon"),
        (f"{TOKEN}\nb: {TOKEN}", ":2: this token is given twice"),
        (TOKEN.encode() + b"\xff", "not UTF-8 at byte 16"),
        (f"{TOKEN}é", ":1: not NAME: TOKEN or TOKEN"),
        ("\n".join(f"{number:016}" for number in range(MAX_TOKENS + 1)), f"has more than {MAX_TOKENS} tokens"),
    ],
)
def test_a_mistake_names_the_line_and_not_its_content(tmp_path: Path, content: str | bytes, problem: str) -> None:
    """An invalid file is an error in one line without anything that could be a token."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content)
    text = str(caught.value)
    assert f"{tmp_path}/tokens" in text
    assert problem in text
    assert not any(secret in text for secret in (TOKEN, "hunter2"))
    assert "\n" not in text


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """Without the file nobody could log in."""
    with pytest.raises(ConfigError, match="tokens: No such file or directory"):
        load(tmp_path / "tokens", FilesRead())


def test_a_known_token_is_accepted_under_its_name(tmp_path: Path) -> None:
    """The scheme is case-insensitive, the token is not."""
    tokens = read(tmp_path, f"prometheus: {TOKEN}\n{OTHER}")
    method = BearerTokens(lambda: tokens)
    assert method.check(bearer(TOKEN)) == ClientIdentity("prometheus", "bearer")
    assert method.check(bearer(OTHER, "bEARER")) == ClientIdentity("", "bearer")
    for wrong in (TOKEN.upper(), TOKEN[:-1], TOKEN + "0", f"{TOKEN},", f"prometheus: {TOKEN}", "", b"\xff" * 16):
        assert isinstance(method.check(bearer(wrong)), Refusal), wrong
    for absent in (Credentials([]), bearer(TOKEN, "Basic"), Credentials([(b"Authorization", TOKEN.encode())])):
        assert method.check(absent) is None
    twice = Credentials([(b"Authorization", b"Bearer " + TOKEN.encode())] * 2)
    assert method.check(twice) is None, "two programs could read a different one of them"


def test_a_client_is_current_until_its_token_is_removed_or_renamed(tmp_path: Path) -> None:
    """What was accepted earlier ends with the line in the file."""
    tokens = read(tmp_path, f"a: {TOKEN}")
    method = BearerTokens(lambda: tokens)
    identity = method.check(bearer(TOKEN))
    assert isinstance(identity, ClientIdentity)
    assert method.is_current(identity)
    for content in (f"b: {TOKEN}", f"a: {OTHER}"):
        tokens = read(tmp_path, content)
        assert not method.is_current(identity)


def test_tokens_are_not_kept(tmp_path: Path) -> None:
    """Neither the settings in force nor an identity contain a token, so no traceback or dump of them does."""
    tokens = read(tmp_path, f"a: {TOKEN}")
    identity = BearerTokens(lambda: tokens).check(bearer(TOKEN))
    assert TOKEN not in repr((tokens, identity))
    assert digest(TOKEN.encode()) in tokens.names


@given(st.lists(st.tuples(st.sampled_from([b"Authorization", b"authorization", b"Cookie"]), st.binary(max_size=200))))
def test_nothing_that_a_client_sends_raises_or_is_accepted(headers: list[tuple[bytes, bytes]]) -> None:
    """Headers of any bytes are refused or ignored."""
    method = BearerTokens(lambda: TokenFile({digest(os.urandom(32)): "a"}))
    assert not isinstance(method.check(Credentials(headers)), ClientIdentity)


@given(st.binary(max_size=300))
def test_any_file_is_read_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """No content raises anything else."""
    with contextlib.suppress(ConfigError):
        assert read(tmp_path_factory.getbasetemp(), content).names
