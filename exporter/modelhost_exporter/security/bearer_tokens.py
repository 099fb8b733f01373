"""Tokens in a file (``Authorization: Bearer``): one a line, with a name for logs and metrics.

Only keyed digests of the tokens are kept. A token is found by its digest, so that the time of a comparison says nothing
about the tokens, and an attempt costs the same however many there are.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.security.authentication import ClientIdentity, Credentials, Decision, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from modelhost_exporter.security.reloaded import FilesRead

METHOD = "bearer"
CHALLENGE = 'Bearer realm="modelhost-exporter"'

MAX_TOKENS = 1000
MIN_TOKEN_LENGTH, MAX_TOKEN_LENGTH = 16, 4096
_MAX_FILE_BYTES = 1 << 20
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
_NAME = re.compile(r"[\w@.-]{1,64}", re.ASCII)
_KEY = os.urandom(32)


def digest(token: bytes) -> bytes:
    """Return the digest of a token; another one after each start."""
    return hashlib.blake2b(token, key=_KEY, digest_size=32).digest()


class TokenFile(NamedTuple):
    """The tokens of a file: the name of each digest."""

    names: Mapping[bytes, str]


def load(file: Path, files: FilesRead) -> TokenFile:
    """Read a file of tokens; raises ConfigError, which names the line and never shows what is in it."""
    try:
        text = files.content(file, _MAX_FILE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), f"not UTF-8 at byte {error.start}") from None
    names: dict[bytes, str] = {}
    for number, name, token in _entries(text, file):
        found = digest(token.encode())
        if found in names:
            raise ConfigError(f"{file}:{number}", "this token is given twice")
        names[found] = name
        if len(names) > MAX_TOKENS:
            raise ConfigError(str(file), f"has more than {MAX_TOKENS} tokens")
    if not names:
        raise ConfigError(str(file), "has no token: write one a line, such as openssl rand -hex 32 prints")
    return TokenFile(names)


def _entries(text: str, file: Path) -> Iterator[tuple[int, str, str]]:
    """Yield number, name and token of each line that has one."""
    for number, line in enumerate(text.split("\n"), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        name, colon, token = content.rpartition(":")
        name, token = name.strip(), token.strip()
        if colon and not _NAME.fullmatch(name):
            raise ConfigError(f"{file}:{number}", "the name before the colon may have letters, digits and _ @ . -")
        if not _TOKEN.fullmatch(token):
            raise ConfigError(
                f"{file}:{number}", "not NAME: TOKEN or TOKEN, where a token has letters, digits and . _ ~ + / - only"
            )
        if not MIN_TOKEN_LENGTH <= len(token) <= MAX_TOKEN_LENGTH:
            limits = f"{MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} characters"
            raise ConfigError(f"{file}:{number}", f"a token has {limits}, such as openssl rand -hex 32 prints")
        yield number, name, token


def authorization(credentials: Credentials) -> bytes | None:
    """Return the token of ``Authorization: Bearer``."""
    return credentials.authorization(b"bearer")


class BearerTokens:
    """Authenticates clients by the tokens of a file."""

    challenge = CHALLENGE

    def __init__(
        self,
        tokens: Callable[[], TokenFile | None],
        presented: Callable[[Credentials], bytes | None] = authorization,
    ) -> None:
        """Prepare; ``tokens`` returns those in force, ``presented`` what a client presents as one."""
        self._tokens = tokens
        self._presented = presented

    @property
    def is_required(self) -> bool:
        """Whether there is a file."""
        return self._tokens() is not None

    def check(self, credentials: Credentials) -> Decision:
        """Return the name of a token; a refusal for an unknown one."""
        tokens, given = self._tokens(), self._presented(credentials)
        if tokens is None or given is None:
            return None
        found = digest(given)
        name = tokens.names.get(found)
        if name is None:
            return Refusal("the token is not accepted", method=METHOD)
        return ClientIdentity(name, METHOD, found)

    def is_current(self, identity: ClientIdentity) -> bool:
        """Return whether the token of a client that was accepted is still in the file, under the same name."""
        tokens = self._tokens()
        return identity.method == METHOD and tokens is not None and tokens.names.get(identity.proof) == identity.name
