"""Certificates for tests, made by the real ``openssl``."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tests.support.programs import installed

if TYPE_CHECKING:
    from pathlib import Path


class Pair(NamedTuple):
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority with its files in a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self.pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-keyout", self.pair.key, "-out", self.pair.certificate, "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )

    @property
    def certificate(self) -> Path:
        """What clients or servers trust."""
        return self.pair.certificate

    def issue(self, name: str, names: str = "DNS:localhost,IP:127.0.0.1", *, key: tuple[str, ...] = ()) -> Pair:
        """Return a new certificate with these subject alternative names; ``key`` are openssl's options for its key."""
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        _openssl("req", *(key or _NEW_KEY), "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.pair.certificate, "-CAkey", self.pair.key, "-days", "2"),
            *("-CAcreateserial", "-extfile", extensions, "-out", pair.certificate),
        )
        return pair

    def client(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Return a client's context that trusts this authority and presents a certificate."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context


RSA_2048 = ("-newkey", "rsa:2048", "-nodes")
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*words: str | Path) -> None:
    subprocess.run([installed("openssl"), *map(str, words)], check=True, capture_output=True)
