"""Which requests are allowed: a table of Host and Origin, without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from modelhost_exporter.config import model as configuration
from modelhost_exporter.config.address import Address
from modelhost_exporter.config.model import ConfigError, Web
from modelhost_exporter.live.settings import AllowedHost, AllowedOrigin, LiveOptions
from modelhost_exporter.process.machine_names import MachineNames
from modelhost_exporter.web.origin_check import CheckedRequest, OriginCheck, RefusalLog, RefusedOrigin, is_on_loopback

CHECK = OriginCheck(MachineNames("Box.example.net"))
WEB = Web(
    allowed_hosts=(
        AllowedHost.from_text("metrics.example.com"),
        AllowedHost.from_text("other.example.com:9000"),
        AllowedHost.from_text("xn--bcher-kva.example"),
    ),
    allowed_origins=(AllowedOrigin.from_text("https://dashboard.example.com"),),
)
HOST = ("Host", "127.0.0.1:8585")


def reader(
    *headers: tuple[str, str],
    method: str = "GET",
    is_scrape: bool = False,
    is_on_loopback: bool = True,
    web: Web = WEB,
) -> str | None:
    """Check a request."""
    return CHECK.reader(CheckedRequest(method, CIMultiDictProxy(CIMultiDict(headers)), is_scrape, is_on_loopback), web)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:8585", "127.0.0.1", "127.8.8.8:1", "192.168.1.7:8585", "8.8.8.8", "0.0.0.0:8585", "127.0.0.1.:80"),
        *("[::1]:8585", "[::1]", "[2001:DB8::1]:8585", "[::ffff:127.0.0.1]:1", "[fe80::1%eth0]:1", "[fe80::1%25eth0]"),
        *("localhost:8585", "localhost", "LOCALHOST:80", "localhost.:8585"),
        *(
            "box.example.net:8585",
            "BOX:9000",
            "box",
            "box.local",
            "box.lan:1",
            "box.tail1234.ts.net",
            "box.example.net.",
        ),
        "host.docker.internal:8585",
        *("metrics.example.com", "metrics.example.com:443", "METRICS.example.com.:8585", "other.example.com:9000"),
        "xn--bcher-kva.example",
    ],
)
def test_known_hosts_pass_with_any_port(host: str) -> None:
    """Addresses, localhost, the machine's names with any domain; configured ones as they are configured."""
    assert reader(("Host", host)) is None


FOREIGN_HOSTS = [
    *("", " ", "evil.example:8585", "evil.example.", "localhost.evil.example:8585", "localhost..", ".localhost", "."),
    *("127.0.0.1.evil.example:8585", "127.0.0.1..", "127.0.0.1:8585@evil.example", "localhost@evil.example"),
    *("evil.example#localhost:8585", "evil.example/localhost", "evil.example?localhost", "evil.example\\localhost"),
    *("2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "127.000.000.001"),  # browsers send 127.0.0.1
    *("::1", "[::1", "[::1].evil.example", "[evil.example]", "[::1%25eth0@evil.example]", "[fe80::1%]x"),
    *("other.example.com", "other.example.com:8585", "x.metrics.example.com", "metrics.example.com.evil.example"),
    *("boxer", "evil.box", "xbox.example.net", "box-evil.example", "example.net"),
    *("localhost:123456", "localhost:", "localhost:80:80", "localhost, evil.example", "localhost evil.example"),
    *("bücher.example", "ｌｏｃａｌｈｏｓｔ", "localhost\u3002evil.example", "xn--bcher-kva.example.evil", "\udcff"),
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_other_hosts_are_refused(host: str) -> None:
    """Names of other domains, also if they contain a name of this machine, and invalid hosts are refused."""
    with pytest.raises(RefusedOrigin, match=r"^the host .* is not known: add --web.allowed-host="):
        reader(("Host", host))
    with pytest.raises(RefusedOrigin):
        reader(("Host", host), is_scrape=True)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_scrapes_may_come_by_any_name_where_the_listener_is_not_on_loopback(host: str) -> None:
    """A cluster's service, a tunnel: allowed for scrapes without web.strict_host, and never for the page."""
    assert reader(("Host", host), is_scrape=True, is_on_loopback=False) is None
    with pytest.raises(RefusedOrigin):
        reader(("Host", host), is_scrape=True, is_on_loopback=False, web=replace(WEB, strict_host=True))
    with pytest.raises(RefusedOrigin):
        reader(("Host", host), is_on_loopback=False)


@pytest.mark.parametrize("is_on_loopback", [True, False])
def test_a_scrape_may_lack_a_host(is_on_loopback: bool) -> None:
    """HTTP/1.0 requests without Host may scrape but not open the page; more than one Host is always refused."""
    assert reader(is_scrape=True, is_on_loopback=is_on_loopback) is None
    assert reader(is_scrape=True, web=replace(WEB, strict_host=True)) is None
    with pytest.raises(RefusedOrigin, match="no Host"):
        reader(is_on_loopback=is_on_loopback)
    with pytest.raises(RefusedOrigin, match="more than one Host"):
        reader(HOST, HOST, is_scrape=True, is_on_loopback=is_on_loopback)


@pytest.mark.parametrize("name", ["localhost.localdomain", "ubuntu", "127.lan", "10", "127.0.0.1"])
def test_a_common_name_leads_here_without_a_domain_only(name: str) -> None:
    """Common host names and numbers match without a domain only: ubuntu.evil.example is refused."""
    names = MachineNames(name)
    assert name in names or name == "127.0.0.1"
    assert f"{name.partition('.')[0]}.evil.example" not in names
    assert "127.0.0.1.evil.example" not in names
    assert "" not in names
    assert "evil.example" not in names


def test_the_systems_names_are_known() -> None:
    """Without configured names those of gethostname and getfqdn are used."""
    import socket  # noqa: PLC0415

    assert socket.gethostname().lower() in MachineNames()
    assert "localhost" in MachineNames()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8585", "http://127.0.0.1:8585"),
        ("localhost:8585", "http://LOCALHOST:8585"),
        ("metrics.example.com", "https://metrics.example.com"),  # behind a reverse proxy
        ("metrics.example.com:443", "https://metrics.example.com"),  # behind one that adds the port
        ("[::1]:8585", "http://[::1]:8585"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_own_page_may_read_and_write(host: str, origin: str, method: str) -> None:
    """A page of the requested host is allowed, without a CORS header."""
    assert reader(("Host", host), ("Origin", origin), ("Sec-Fetch-Site", "same-origin"), method=method) is None


READERS = [
    *("https://dashboard.example.com", "http://localhost:3000", "http://127.0.0.1:1", "https://[::1]:3000"),
    *("http://localhost", "http://127.9.9.9", "http://LOCALHOST:3000"),
    "http://192.168.1.7:3000",  # the same machine
]


@pytest.mark.parametrize("origin", READERS)
def test_allowed_pages_may_read_and_no_more(origin: str) -> None:
    """Configured origins, those on loopback, and those of another port of the same host are allowed."""
    headers = (("Host", "192.168.1.7:8585"), ("Origin", origin), ("Sec-Fetch-Site", "cross-site"))
    assert reader(*headers) == origin
    with pytest.raises(RefusedOrigin, match="may only read"):
        reader(*headers, method="POST")


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "http://evil.example:8585", "null", "", "file://", "http://", "//localhost"),
        *(
            "http://dashboard.example.com",
            "https://dashboard.example.com:444",
            "https://dashboard.example.com.evil.example",
        ),
        *("http://localhost.evil.example", "http://127.0.0.1.evil.example", "http://localhost@evil.example"),
        *("http://8.8.8.8", "http://0.0.0.0:3000", "http://2130706433", "http://box.example.net", "http://localhost:x"),
        *("ftp://localhost", "chrome-extension://localhost", "http://localhost/", "http://localhost, http://localhost"),
    ],
)
@pytest.mark.parametrize("is_scrape", [True, False])
@pytest.mark.parametrize("is_on_loopback", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_other_pages_are_refused(origin: str, is_scrape: bool, is_on_loopback: bool, method: str) -> None:
    """Requests from other sites are refused for every route and listener."""
    with pytest.raises(RefusedOrigin):
        reader(HOST, ("Origin", origin), method=method, is_scrape=is_scrape, is_on_loopback=is_on_loopback)


@pytest.mark.parametrize(("method", "is_allowed"), [("GET", True), ("HEAD", True), ("POST", False)])
def test_files_of_the_page_are_for_every_origin(method: str, is_allowed: bool) -> None:
    """Browsers send Origin for modules, and a reverse proxy may replace Host; an unknown Host is refused as ever."""
    origin = ("Origin", "https://evil.example")
    fields = CIMultiDictProxy(CIMultiDict((HOST, origin)))
    wanted = CheckedRequest(method, fields, is_scrape=False, is_on_loopback=True, is_page_file=True)
    if is_allowed:
        assert CHECK.reader(wanted, WEB) is None
    else:
        with pytest.raises(RefusedOrigin):
            CHECK.reader(wanted, WEB)
    foreign = CIMultiDictProxy(CIMultiDict([("Host", "evil.example")]))
    with pytest.raises(RefusedOrigin):
        CHECK.reader(wanted._replace(headers=foreign), WEB)


def test_two_origins_are_refused() -> None:
    """Two Origin headers are refused; browsers never send them."""
    with pytest.raises(RefusedOrigin, match="more than one Origin"):
        reader(HOST, ("Origin", "http://127.0.0.1:8585"), ("Origin", "http://127.0.0.1:8585"))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_images_and_scripts_of_other_pages_are_refused(site: str) -> None:
    """They have no Origin header, but Sec-Fetch-Site shows another site. Links are allowed."""
    with pytest.raises(RefusedOrigin, match="another site"):
        reader(HOST, ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image"))
    framed = (("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe"))
    with pytest.raises(RefusedOrigin, match="another site"):
        reader(HOST, *framed)
    link = (("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"))
    assert reader(HOST, *link) is None
    with pytest.raises(RefusedOrigin, match="another site"):
        reader(HOST, *link, method="POST")
    assert reader(HOST, ("Sec-Fetch-Site", "same-origin")) is None


@pytest.mark.parametrize(
    ("host", "flag"),
    [
        ("metrics.example.org:8585", "--web.allowed-host=metrics.example.org"),
        ("[evil]", "--web.allowed-host=NAME"),
        ("a; rm -rf /", "--web.allowed-host=NAME"),
    ],
)
def test_a_refusal_holds_what_allows_it(host: str, flag: str) -> None:
    """The flag in the message can be copied; it contains no invalid name."""
    with pytest.raises(RefusedOrigin) as caught:
        reader(("Host", host))
    assert caught.value.flag == flag
    assert str(caught.value).endswith(f"add {flag} to allow it")


def test_foreign_text_in_a_refusal_is_short_and_without_controls() -> None:
    """Untrusted text is printable and short, since it is logged and shown in terminals."""
    for text in ("a\x1b[2J\u202e\"'", "x" * 5000):
        with pytest.raises(RefusedOrigin) as caught:
            reader(("Host", text))
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400


def test_refusals_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """The next line has the number of suppressed ones; quoted text is short and without control characters."""
    now = [0.0]
    refusals = RefusalLog(lambda: now[0])
    for now[0] in (0.0, 1.0, 59.9, 60.0, 61.0):
        refusals.add("192.0.2.1", "/x\x1b" + "y" * 500, RefusedOrigin("wrong", "--web.allowed-host=a"))
    first, second = (record.__dict__["fields"] for record in caplog.records)
    assert first == {
        "client": "192.0.2.1",
        "path": f"/x?{'y' * 97}…",
        "reason": "wrong: add --web.allowed-host=a to allow it",
    }
    assert second == {**first, "more": 2}


@pytest.mark.parametrize(
    ("local", "listeners", "expected"),
    [
        (("127.0.0.1", 1), ["127.0.0.1:1"], True),
        (("::1", 1, 0, 0), ["[::1]:1"], True),
        (("127.0.0.1", 1), ["localhost:1"], True),
        (("127.0.0.1", 1), [":1"], False),  # by way of loopback, but others can come too
        (("127.0.0.1", 1), ["0.0.0.0:1"], False),
        (("127.0.0.1", 1), ["0:1"], False),
        (("::ffff:127.0.0.1", 1, 0, 0), ["[::]:1"], False),
        (("127.0.0.1", 1), ["127.0.0.1:1", ":2"], True),
        (("127.0.0.1", 2), ["127.0.0.1:1", ":2"], False),
        (("192.168.1.7", 1), ["192.168.1.7:1"], False),
        (None, [":1"], True),
        ("/run/socket", [":1"], True),
    ],
)
def test_which_listeners_are_on_loopback(local: object, listeners: list[str], expected: bool) -> None:
    """The listener's address decides, not the client's."""
    assert is_on_loopback(local, [Address.from_text(each) for each in listeners]) == expected


def test_every_address_has_many_forms() -> None:
    """Every notation that the system accepts for all addresses counts."""
    for host in ("", "0.0.0.0", "::", "0", "0.0", "0x0", "::0"):  # noqa: S104
        assert Address(host, 1).is_every_address
    for host in ("127.0.0.1", "::1", "localhost", "10.0.0.1", "box", "a\0b"):
        assert not Address(host, 1).is_every_address


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"web": {"allowed_hosts": ["http://a"]}}, "web.allowed_hosts[0]: 'http://a' is not a host such as"),
        ({"web": {"allowed_hosts": ["a b"]}}, "web.allowed_hosts[0]: 'a b' is not a host such as"),
        (
            {"web": {"allowed_hosts": ["bücher.example"]}},
            "web.allowed_hosts[0]: 'bücher.example' is not a host such as",
        ),
        ({"web": {"allowed_hosts": "a"}}, "web.allowed_hosts: must be a list, not 'a'"),
        ({"web": {"allowed_origins": ["dashboard"]}}, "web.allowed_origins[0]: 'dashboard' is not an origin such as"),
        ({"web": {"allowed_origins": ["*"]}}, "web.allowed_origins[0]: '*' is not an origin such as"),
        (
            {"web": {"allowed_origins": ["https://a/b"]}},
            "web.allowed_origins[0]: 'https://a/b' is not an origin such as",
        ),
        ({"web": {"allowed_origins": ["ftp://a"]}}, "web.allowed_origins[0]: 'ftp://a' is not an origin such as"),
        ({"web": {"strict_host": "yes"}}, "web.strict_host: must be true or false, not 'yes'"),
        ({"live": {"history_length": "1s"}}, "live: history_length must be between 1m and 1d"),
        ({"live": {"history_length": "2d"}}, "live: history_length must be between 1m and 1d"),
        ({"live": {"max_viewers": 0}}, "live: max_viewers must be at least 1"),
        ({"live": {"histry": True}}, "live: unknown key 'histry'; known: history, history_length, max_viewers"),
    ],
)
def test_mistakes_in_the_configuration_are_one_clear_line(raw: object, message: str) -> None:
    """Each error has the path of its key."""
    with pytest.raises(ConfigError) as caught:
        configuration.read(raw)
    assert str(caught.value).startswith(message)


def test_the_configuration_is_read() -> None:
    """Hosts, origins, history and the number of viewers are parsed."""
    read = configuration.read(
        {
            "web": {"allowed_hosts": ["A.example", "[::1]:80"], "allowed_origins": ["https://B.example:8443/"]},
            "live": {"history": False, "history_length": "10m", "max_viewers": 3},
        }
    )
    assert read.web.allowed_hosts == (AllowedHost("a.example"), AllowedHost("[::1]", 80))
    assert read.web.allowed_origins == (AllowedOrigin("https://b.example:8443"),)
    assert not read.web.strict_host
    assert (read.live.history, read.live.history_length, read.live.max_viewers) == (False, 600.0, 3)
    assert configuration.read({}).live == LiveOptions(history=True)
