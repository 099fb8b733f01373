"""The web configuration file: the same verdicts as exporter-toolkit has about files of the same content."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.security.rate_limit import RateLimit
from modelhost_exporter.security.reloaded import FilesRead
from modelhost_exporter.security.tls_settings import CIPHERS, CURVES, TLS13_CIPHERS
from modelhost_exporter.security.web_config import HEADERS, WebConfig, load
from tests.support.programs import Program, installed

if TYPE_CHECKING:
    from tests.support.certificates import Authority

HASH = "$2y$10$qRTBuFoULoYNA7AQ/F3ck.trZBPyjV64.oA4ZsSBCIWvXuvQlQTuu"
_TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
_FOLDER = tempfile.TemporaryDirectory()
_SUITE = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"


class Case(NamedTuple):
    """A file, and what is said about it."""

    text: str
    error: str = ""
    """A part of the message; '' for a valid file."""
    differs: str = ""
    """Why the toolkit has another verdict."""
    newer: bool = False
    """Whether node_exporter 1.5 does not have the keys yet."""


def listed(key: str, *names: str) -> str:
    """Return a key with a list."""
    return f"  {key}:\n" + "".join(f"  - {name}\n" for name in names)


CASES = {
    "empty": Case(""),
    "only a comment": Case("# nothing\n"),
    "null": Case("~\n"),
    "empty mapping": Case("{}\n"),
    "empty sections": Case("tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n"),
    "junk": Case("hWkNKCp3fvIx3jKnsaBI\nTuEjdwNS8A2vYdFbiKqr\n", "must be a mapping"),
    "a list": Case("- tls_server_config\n", "must be a mapping"),
    "unknown key": Case("tls_server_config:\n  cert_filse: server.pem\n", "unknown key 'cert_filse'"),
    "unknown section": Case("tls_config: {}\n", "unknown key 'tls_config'"),
    "duplicate key": Case(_TLS + "  key_file: server.key\n", "duplicate key 'key_file'"),
    "certificate": Case(_TLS),
    "no certificate": Case('tls_server_config:\n  cert_file: ""\n  key_file: server.key\n', "cert_file is missing"),
    "no key": Case('tls_server_config:\n  cert_file: server.pem\n  key_file: ""\n', "key_file is missing"),
    "policy alone": Case("tls_server_config:\n  client_auth_type: NoClientCert\n", "cert_file is missing"),
    "invalid policy": Case(_TLS + "  client_auth_type: x\n", "tls_server_config.client_auth_type: must be one of"),
    "versions alone": Case("tls_server_config:\n  min_version: TLS13\n"),
    "empty inline certificate": Case('tls_server_config:\n  cert: ""\n  key_file: server.key\n', "missing", newer=True),
    "empty inline key": Case('tls_server_config:\n  cert_file: server.pem\n  key: ""\n', "missing", newer=True),
    "missing file": Case("tls_server_config:\n  cert_file: somefile\n  key_file: server.key\n", "somefile: No such"),
    "missing key": Case("tls_server_config:\n  cert_file: server.pem\n  key_file: somefile\n", "somefile: No such"),
    "another's key": Case(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: other.key\n",
        "other.key: the key does not belong to the certificate in",
    ),
    "certificate and key exchanged": Case(
        "tls_server_config:\n  cert_file: server.key\n  key_file: server.pem\n", "server.key: no PEM certificate"
    ),
    "encrypted key": Case(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: encrypted.key\n", "the private key is encrypted"
    ),
    "inline": Case("tls_server_config:\n  cert: |\n{certificate}  key: |\n{key}", newer=True),
    "key inline": Case("tls_server_config:\n  cert_file: server.pem\n  key: |\n{key}", newer=True),
    "junk inline": Case("tls_server_config:\n  cert: x\n  key: y\n", "tls_server_config.cert: no PEM", newer=True),
    "CA without policy": Case(_TLS + "  client_ca_file: ca.pem\n", "client_ca_file needs client_auth_type"),
    "/dev/null as CA": Case(_TLS + "  client_ca_file: /dev/null\n", "client_ca_file needs client_auth_type"),
    "missing CA": Case(
        _TLS + "  client_ca_file: somefile\n  client_auth_type: VerifyClientCertIfGiven\n", "somefile: No such"
    ),
    "required": Case(_TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"),
    "required without CA": Case(_TLS + "  client_auth_type: RequireAndVerifyClientCert\n"),
    "if given": Case(_TLS + "  client_auth_type: VerifyClientCertIfGiven\n"),
    "requested": Case(_TLS + "  client_auth_type: RequestClientCert\n"),
    "none": Case(_TLS + "  client_auth_type: NoClientCert\n"),
    "any": Case(
        _TLS + "  client_auth_type: RequireAnyClientCert\n",
        "RequireAnyClientCert is not supported",
        differs="Python's ssl verifies every certificate that it requests",
    ),
    "any, old name": Case(
        _TLS + "  client_auth_type: RequireClientCert\n",
        "RequireClientCert is not supported",
        differs="likewise",
    ),
    "names": Case(
        _TLS
        + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
        + listed("client_allowed_sans", "one", "two"),
        newer=True,
    ),
    "names without policy": Case(_TLS + listed("client_allowed_sans", "one"), newer=True),
    "all suites": Case(_TLS + listed("cipher_suites", *CIPHERS, *TLS13_CIPHERS)),
    "some suites": Case(
        _TLS
        + "  min_version: TLS12\n  max_version: TLS12\n"
        + listed("cipher_suites", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", _SUITE)
    ),
    "own order": Case(
        _TLS
        + "  prefer_server_cipher_suites: false\n"
        + listed("cipher_suites", _SUITE, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
    ),
    "invented suite": Case(
        _TLS + listed("cipher_suites", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA2048"), "cipher_suites: 'TLS_ECDHE"
    ),
    "OpenSSL's name of a suite": Case(_TLS + listed("cipher_suites", "ECDHE-RSA-AES128-GCM-SHA256"), "is unknown"),
    "without HTTP/2's suite": Case(_TLS + "  max_version: TLS12\n" + listed("cipher_suites", _SUITE), "HTTP/2 needs"),
    "without HTTP/2": Case(
        _TLS + "  max_version: TLS12\n" + listed("cipher_suites", _SUITE) + "http_server_config:\n  http2: false\n"
    ),
    "one curve": Case(_TLS + "  min_version: TLS13\n" + listed("curve_preferences", "CurveP521")),
    "all curves": Case(
        _TLS + listed("curve_preferences", *CURVES),
        "cannot restrict TLS to several curves",
        differs="before Python 3.15, ssl sets one curve only",
    ),
    "invented curve": Case(_TLS + listed("curve_preferences", "CurveP257"), "'CurveP257' is unknown"),
    "invented version": Case(_TLS + "  min_version: TLS111\n", "tls_server_config.min_version: must be one of TLS10"),
    "old versions": Case(_TLS + "  min_version: TLS10\n  max_version: TLS11\n"),
    "crossed versions": Case(
        _TLS + "  min_version: TLS13\n  max_version: TLS12\n", "above max_version", differs="the toolkit serves nobody"
    ),
    "all headers": Case(
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-Content-Type-Options: nosniff\n"
        "    X-XSS-Protection: 1\n    Strict-Transport-Security: max-age=31536000; includeSubDomains\n"
        "    Content-Security-Policy: \"default-src 'self'\"\n"
    ),
    "blank header": Case('http_server_config:\n  headers:\n    X-XSS-Protection: ""\n'),
    "wrong option": Case("http_server_config:\n  headers:\n    X-Content-Type-Options: sniff\n", "must be nosniff"),
    "wrong frame": Case("http_server_config:\n  headers:\n    X-Frame-Options: DENY\n", "must be deny or sameorigin"),
    "another header": Case("http_server_config:\n  headers:\n    Content-Type: foo\n", "unknown key 'Content-Type'"),
    "header in lower case": Case("http_server_config:\n  headers:\n    x-frame-options: deny\n", "unknown key"),
    "header of two lines": Case(
        'http_server_config:\n  headers:\n    X-XSS-Protection: "1\\r\\nSet-Cookie: a=b"\n',
        "must be one line",
        differs="Go replaces line breaks by spaces",
    ),
    "YAML's other booleans": Case("http_server_config:\n  http2: off\n"),
    "quoted boolean": Case('http_server_config:\n  http2: "true"\n', "http2: must be true or false"),
    "users": Case(f"basic_auth_users:\n  alice: {HASH}\n  bob: {HASH.replace('$10$', '$18$')}\n"),
    "users over TLS": Case(_TLS + f"basic_auth_users:\n  alice: {HASH}\n"),
    "a number as user": Case(f"basic_auth_users:\n  0123: {HASH}\n"),
    "clear password": Case("basic_auth_users:\n  john: doe\n", "the password of user 1 is not a bcrypt hash"),
    "no password": Case("basic_auth_users:\n  john:\n", "not a bcrypt hash"),
    "users as list": Case("basic_auth_users: [john]\n", "must be a mapping"),
    "rate limit": Case('rate_limit:\n  interval: "1s"\n  burst: 20\n', newer=True),
    "rate limit off": Case("rate_limit:\n  interval: 0\n  burst: 0\n", newer=True),
    "rate limit that allows nothing": Case("rate_limit:\n  interval: 1s\n  burst: 0\n", newer=True),
    "no duration": Case("rate_limit:\n  interval: soon\n", "'soon' is not a duration", newer=True),
    "no number": Case("rate_limit:\n  burst: many\n", "'many' is not a whole number", newer=True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Path:
    """Make a folder with the files that the cases name."""
    found: Path = tmp_path_factory.mktemp("web")
    server, other = authority.issue("web-server"), authority.issue("web-other")
    for name, file in (
        *(("server.pem", server.certificate), ("server.key", server.key)),
        *(("other.key", other.key), ("ca.pem", authority.certificate)),
    ):
        (found / name).write_bytes(file.read_bytes())
    encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----\n"
    (found / "encrypted.key").write_text(encrypted)
    return found


def written(folder: Path, text: str) -> Path:
    """Write a file beside the certificates."""
    file = folder / "web.yml"
    for name, part in (("{certificate}", "server.pem"), ("{key}", "server.key")):
        if name in text:
            text = text.replace(name, _indented(folder / part))
    file.write_text(text)
    return file


def _indented(file: Path) -> str:
    return "".join(f"    {line}\n" for line in file.read_text().splitlines())


def read(file: Path) -> WebConfig:
    """Read a file once."""
    return load(file, FilesRead())


@pytest.mark.parametrize("name", CASES)
def test_verdicts(folder: Path, name: str) -> None:
    """Each valid file is accepted; each other one is refused in one line that names file and place."""
    case = CASES[name]
    file = written(folder, case.text)
    if not case.error:
        read(file)
        return
    with pytest.raises(ConfigError) as refused:
        read(file)
    message = str(refused.value)
    assert case.error in message
    assert message.startswith(str(folder))
    assert "\n" not in message
    assert "PRIVATE KEY-----\nM" not in message


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not (case.newer or case.differs)])
def test_node_exporter_has_the_same_verdict(folder: Path, name: str) -> None:
    """A real node_exporter accepts and refuses the same files."""
    case = CASES[name]
    node_exporter = installed("prometheus-node-exporter", "node_exporter")
    file = written(folder, case.text)
    flags = ("--web.listen-address=127.0.0.1:0", "--collector.disable-defaults", f"--web.config.file={file}")
    program = Program([node_exporter, *flags])
    try:
        wanted = "level=error" if case.error else "TLS is"
        program.wait_for_line(lambda line: wanted in line)
    finally:
        program.close()


def test_values(folder: Path) -> None:
    """Values arrive as the file has them: paths relative to it, text as it was written."""
    found = read(
        written(
            folder,
            _TLS
            + "http_server_config:\n  headers:\n    X-XSS-Protection: 1\n    X-Frame-Options: deny\n"
            + f"basic_auth_users:\n  0123: {HASH}\nrate_limit:\n  interval: 1m0.5s\n  burst: 20\n",
        )
    )
    assert found.tls.cert_file == folder / "server.pem"
    assert found.headers == {"X-XSS-Protection": "1", "X-Frame-Options": "deny"}
    assert found.users == {"0123": HASH}
    assert found.rate_limit == RateLimit(60.5, 20)
    assert found.context is not None
    assert HASH not in repr(found)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h2m3s", 3723), ("1.5s", 1.5), ("100ms", 0.1), (".5s", 0.5), ("-1s", -1), ("+2us", 2e-6), ("0", 0), ("5", 5e-9)],
)
def test_intervals_are_those_of_go(folder: Path, text: str, seconds: float) -> None:
    """A number without a unit is nanoseconds."""
    found = read(written(folder, f"rate_limit:\n  interval: {text}\n  burst: 1\n"))
    assert found.rate_limit.interval == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (_TLS, "http2"),
        (_TLS + "  client_auth_type: RequestClientCert\n", "treated as NoClientCert"),
        (_TLS + listed("client_allowed_sans", "x"), "client_allowed_sans has no effect"),
        (_TLS + "  client_auth_type: RequireAndVerifyClientCert\n", "no client certificate will be accepted"),
        ("rate_limit:\n  interval: 1s\n", "every request is refused"),
        (_TLS + "http_server_config:\n  http2: false\n", ""),
        ("", ""),
    ],
)
def test_what_has_no_effect_is_remarked(folder: Path, text: str, remark: str) -> None:
    """Each in one line, and nothing about other files."""
    found = read(written(folder, text))
    remarks = found.notes() + found.remarks()
    assert any(remark in line for line in remarks) if remark else not remarks


_PARTS = st.one_of(
    st.sampled_from(["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit", *HEADERS]),
    st.sampled_from(["cert_file", "min_version", "cipher_suites", "interval", "burst", "headers", "http2"]),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(string.printable, max_size=20),
)
_TREES = st.recursive(
    _PARTS | st.just(HASH), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_PARTS, inner, max_size=4)
)


@given(tree=_TREES)
@settings(deadline=None)
def test_any_yaml_is_a_configuration_or_one_error(tree: object) -> None:
    """Whatever is in the file: a configuration, or one ConfigError in one line."""
    _is_read_or_refused(yaml.safe_dump(tree).encode())


@given(text=st.binary(max_size=200) | st.text(string.printable + "äµ\u2028\0", max_size=200).map(str.encode))
@settings(deadline=None)
def test_any_bytes_are_a_configuration_or_one_error(text: bytes) -> None:
    """Likewise for text that is no YAML."""
    _is_read_or_refused(text)


@given(changes=st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=3)), min_size=1, max_size=4))
@settings(deadline=None)
def test_a_damaged_file_is_a_configuration_or_one_error(changes: list[tuple[int, bytes]]) -> None:
    """A valid file with some bytes changed."""
    valid = (
        f"http_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\nbasic_auth_users:\n  a: {HASH}\n"
    )
    damaged = bytearray((valid + "rate_limit:\n  interval: 1m\n  burst: 5\n").encode())
    for place, part in changes:
        damaged[place % len(damaged) : place % len(damaged) + len(part)] = part
    _is_read_or_refused(bytes(damaged))


def _is_read_or_refused(content: bytes) -> None:
    file = Path(_FOLDER.name) / "fuzzed.yml"
    file.write_bytes(content)
    refusal = ""
    try:
        read(file)
    except ConfigError as error:
        refusal = str(error)
    assert len(refusal.splitlines()) <= 1
    assert HASH not in refusal
