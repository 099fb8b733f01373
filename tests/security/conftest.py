from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority, Pair

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority that clients trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server_pair(authority: Authority) -> Pair:
    """Issue a server's certificate."""
    return authority.issue("server")


@pytest.fixture(scope="session")
def client_pair(authority: Authority) -> Pair:
    """Issue a client's certificate for the name prometheus."""
    return authority.issue("client", "DNS:prometheus,URI:spiffe://example.com/p,email:p@example.com,IP:2001:db8::1")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Issue a client's certificate by an authority that the server does not trust."""
    folder: Path = tmp_path_factory.mktemp("stranger")
    return Authority(folder, "other").issue("stranger", "DNS:prometheus")
