from __future__ import annotations

import re
import ssl
import subprocess
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from modelhost_exporter.security.certificate import expires_at

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.certificates import Authority, Pair


def test_the_end_that_openssl_reports(authority: Authority, server_pair: Pair) -> None:
    """The same second, for certificates of both kinds, with text around them."""
    for file in (server_pair.certificate, authority.certificate):
        command = ["openssl", "x509", "-noout", "-enddate", "-in", str(file)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        expected = ssl.cert_time_to_seconds(printed.removeprefix("notAfter=").strip())
        assert expires_at(f"words before\n{file.read_text()}words after\n") == expected


def test_a_date_after_2049_has_another_form(tmp_path: Path) -> None:
    """GeneralizedTime (RFC 5280)."""
    certificate = tmp_path / "c.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", tmp_path / "k", "-subj", "/CN=x"]
    subprocess.run([*map(str, command), "-days", "20000", "-out", str(certificate)], check=True, capture_output=True)
    found = expires_at(certificate.read_text())
    assert found is not None
    assert found > ssl.cert_time_to_seconds("Jan  1 00:00:00 2050 GMT")


@given(place=st.integers(0, 10_000), part=st.binary(max_size=4), cut=st.integers(0, 10_000))
@settings(deadline=None)
def test_a_damaged_certificate_is_none_or_a_time(place: int, part: bytes, cut: int) -> None:
    """Never an error."""
    encoded = bytearray(ssl.PEM_cert_to_DER_cert(CERTIFICATE))
    encoded[place % len(encoded) : place % len(encoded) + len(part)] = part
    damaged = ssl.DER_cert_to_PEM_cert(bytes(encoded[: cut % len(encoded) + 1]))
    assert isinstance(expires_at(damaged), float | None)


def test_text_that_is_no_certificate() -> None:
    """None, whatever it looks like."""
    empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
    for text in ("", "x", empty, re.sub("M", "é", CERTIFICATE), CERTIFICATE[:-30]):
        assert expires_at(text) is None


CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBfDCCASGgAwIBAgIUMTAOAe8BI+3FGRUKSNJvZuyzCA4wCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHZXhhbXBsZTAgFw0yNjExMjcxNzUwNTlaGA8yMTI2MTEwMzE3
NTA1OVowEjEQMA4GA1UEAwwHZXhhbXBsZTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABDmYi26NrWR5d9dZh37XOkVTrGxdMcDg0JMr+lOmj25OOgC8dn+y17v8g7+/
eBU0mWOQ5QEADtISG7apt/XPuJ2jUzBRMB0GA1UdDgQWBBQt3pz9gO76aNlZw4hp
oxwXkHkGjTAfBgNVHSMEGDAWgBQt3pz9gO76aNlZw4hpoxwXkHkGjTAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQCUdNhA+FedOMg15wPLJgh2WnKK
bQ9blTDsJOCncMHURQIhAMzdHTCxNif2bUdBBwrMKVZirDoxe90szJv89+f/inTG
-----END CERTIFICATE-----
"""
