"""Tokens on the web port (``web.auth``): the real exporter, and a real Prometheus."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import bcrypt
import jwt
import pytest

from tests.support.programs import Exporter, fetch, running, wait_until
from tests.support.prometheus_server import running_prometheus

if TYPE_CHECKING:
    from pathlib import Path

SHARED = "s3cr3t-" * 10


def configured(folder: Path, auth: dict[str, object]) -> Path:
    """Write the configuration file, and return it."""
    file = folder / "config.yaml"
    file.write_text(json.dumps({"web": {"auth": auth}}))
    return file


def exporter(folder: Path, auth: dict[str, object], *flags: str) -> Exporter:
    """Return an exporter with these methods."""
    file = configured(folder, auth)
    return Exporter(f"--config.file={file}", "--collector.disable-defaults", *flags)


def accepts(program: Exporter, authorization: str) -> bool:
    """Return whether a scrape with this header gets a page."""
    with contextlib.suppress(urllib.error.HTTPError):
        return b"modelhost_build_info" in fetch(scrape(program, authorization))
    return False


def scrape(program: Exporter, authorization: str) -> urllib.request.Request:
    """Return a request for the page with this header."""
    return urllib.request.Request(program.url, headers={"Authorization": authorization})  # noqa: S310 - our own server


def test_tokens_of_a_file_that_changes(tmp_path: Path) -> None:
    """A token that was added is accepted, one that was removed is not; a file that is invalid changes nothing."""
    tokens = tmp_path / "tokens"
    tokens.write_text("# for Prometheus\nprometheus: first-token-of-many-letters\n")
    program = exporter(tmp_path, {"bearer_tokens_file": str(tokens)})
    with running(program):
        assert accepts(program, "Bearer first-token-of-many-letters")
        assert not accepts(program, "Bearer another-token-of-many-letters")
        assert not accepts(program, "Basic first-token-of-many-letters")
        tokens.write_text("another-token-of-many-letters\n")
        assert accepts(program, "Bearer another-token-of-many-letters")
        assert not accepts(program, "Bearer first-token-of-many-letters")
        tokens.write_text("a b c\n")
        assert accepts(program, "Bearer another-token-of-many-letters")
        page = fetch(scrape(program, "Bearer another-token-of-many-letters")).decode()
        assert "\nmodelhost_web_config_last_reload_successful 0.0\n" in page
        assert "of-many-letters" not in program.output() + page


def test_signed_tokens_and_passwords_side_by_side(tmp_path: Path) -> None:
    """Any method accepts a client."""
    key, web = tmp_path / "key", tmp_path / "web.yml"
    key.write_text(SHARED)
    web.write_text(f"basic_auth_users:\n  ada: {bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    auth: dict[str, object] = {"jwt": {"algorithms": ["HS256"], "key_file": str(key), "audience": ["metrics"]}}

    def token(**claims: object) -> str:
        return jwt.encode({"aud": "metrics", "exp": int(time.time()) + 600, **claims}, SHARED, algorithm="HS256")

    program = exporter(tmp_path, auth, f"--web.config.file={web}")
    with running(program):
        assert accepts(program, f"Bearer {token()}")
        assert accepts(program, "Basic YWRhOnNlY3JldA==")
        assert not accepts(program, f"Bearer {token(aud='other')}")
        assert not accepts(program, f"Bearer {token(exp=int(time.time()) - 600)}")
        assert not accepts(program, "Basic YWRhOndyb25n")


def test_a_real_prometheus_sends_a_token(tmp_path: Path) -> None:
    """By the setting that the documentation names."""
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-many-letters\n")
    program = exporter(tmp_path, {"bearer_tokens_file": str(tokens)})
    with running(program):
        sent = {"credentials_file": str(tokens)}
        with running_prometheus(program.address, tmp_path, authorization=sent) as server:
            server.wait_for("modelhost_build_info")


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({"bearer_tokens_file": "/nothing"}, "/nothing: No such file or directory"),
        ({"jwt": {}}, "web.auth.jwt: give key_file or jwks_file"),
        ({"basic_auth_users": {}}, "web.auth: unknown key 'basic_auth_users'"),
    ],
)
def test_a_mistake_is_one_line(auth: dict[str, object], said: str, tmp_path: Path) -> None:
    """At the start, and in a check of the configuration."""
    file = configured(tmp_path, auth)
    for flags in ([], ["--config.check"]):
        command = [sys.executable, "-m", "modelhost_exporter", f"--config.file={file}", *flags]
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 2
        assert said in ended.stderr
        assert ended.stderr.count("\n") == 1


def test_a_reload_changes_the_methods(tmp_path: Path) -> None:
    """From everybody to those with a token."""
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-many-letters\n")
    program = exporter(tmp_path, {}, "--web.enable-lifecycle")
    with running(program):
        assert accepts(program, "Bearer anything")
        configured(tmp_path, {"bearer_tokens_file": str(tokens)})
        fetch(urllib.request.Request(program.url.replace("/metrics", "/-/reload"), method="POST"))  # noqa: S310 - likewise
        wait_until(lambda: not accepts(program, "Bearer anything"), "the reload")
        assert accepts(program, "Bearer a-token-of-many-letters")
