from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from exporter import config
from exporter.config import ConfigError
from exporter.live.access import Refused, check
from exporter.live.settings import Host, Live, Origin

PORT = 8585
MACHINE = "Box.example.net"


def _check(*headers: tuple[str, str]) -> dict[str, str]:
    return dict(
        check(
            CIMultiDictProxy(CIMultiDict(headers)),
            PORT,
            [Host.from_text("metrics.example.com"), Host.from_text("other.example.com:9000")],
            [Origin.from_text("https://dashboard.example.com")],
            MACHINE,
        )
    )


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8585",
        "localhost:8585",
        "LOCALHOST:8585",
        "192.168.1.7:8585",
        "[::1]:8585",
        "[2001:db8::1]:8585",
        "box.example.net:8585",
        "box:8585",
        "box.local:8585",
        "metrics.example.com",
        "metrics.example.com:443",
        "other.example.com:9000",
    ],
)
def test_own_and_listed_hosts_may_ask(host: str) -> None:
    """Addresses, localhost and the machine's name with the port that is listened on; listed ones as they are listed."""
    assert _check(("Host", host)) == {}


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("Host", ""),),
        (("Host", "evil.example:8585"),),  # DNS rebinding
        (("Host", "localhost.evil.example:8585"),),
        (("Host", "127.0.0.1.evil.example:8585"),),
        (("Host", "127.0.0.1"),),
        (("Host", "localhost:80"),),
        (("Host", "other.example.com"),),
        (("Host", "other.example.com:8585"),),
        (("Host", "127.0.0.1:8585@evil.example"),),
        (("Host", "evil.example#localhost:8585"),),
        (("Host", "localhost:8585"), ("Host", "evil.example:8585")),
    ],
)
def test_other_hosts_are_refused(headers: tuple[tuple[str, str], ...]) -> None:
    """A name that anybody can point here, another port, no name or two."""
    with pytest.raises(Refused, match="Host"):
        _check(*headers)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8585", "http://127.0.0.1:8585"),
        ("localhost:8585", "http://LOCALHOST:8585"),
        ("metrics.example.com", "https://metrics.example.com"),  # behind a reverse proxy
        ("[::1]:8585", "http://[::1]:8585"),
    ],
)
def test_the_own_page_may_ask(host: str, origin: str) -> None:
    """The page that was loaded from the host it asks; it needs no header to read the answer."""
    assert _check(("Host", host), ("Origin", origin)) == {}


def test_a_listed_page_may_ask_and_read() -> None:
    """A page elsewhere that is listed gets the header without which its browser would not show it the answer."""
    origin = "https://dashboard.example.com"
    assert _check(("Host", "127.0.0.1:8585"), ("Origin", origin), ("Sec-Fetch-Site", "cross-site")) == {
        "Access-Control-Allow-Origin": origin,
        "Vary": "Origin",
    }


@pytest.mark.parametrize(
    "origins",
    [
        ("https://evil.example",),
        ("http://127.0.0.1:3000",),  # another server on this machine
        ("http://localhost:8585",),  # not the host that was asked
        ("null",),
        ("",),
        ("http://dashboard.example.com",),
        ("https://dashboard.example.com:444",),
        ("https://dashboard.example.com.evil.example",),
        ("http://127.0.0.1:8585", "https://evil.example"),
    ],
)
def test_other_pages_are_refused(origins: tuple[str, ...]) -> None:
    """Any page elsewhere, one that says null, two at once."""
    with pytest.raises(Refused, match="Origin"):
        _check(("Host", "127.0.0.1:8585"), *(("Origin", origin) for origin in origins))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_images_and_scripts_of_other_pages_are_refused(site: str) -> None:
    """They carry no Origin; the browser says whose they are all the same."""
    with pytest.raises(Refused, match="another site"):
        _check(("Host", "127.0.0.1:8585"), ("Sec-Fetch-Site", site))
    assert _check(("Host", "127.0.0.1:8585"), ("Sec-Fetch-Site", "same-origin")) == {}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"web": {"allowed_hosts": ["http://a"]}}, "web.allowed_hosts[0]: 'http://a' is not a host such as"),
        ({"web": {"allowed_hosts": ["a b"]}}, "web.allowed_hosts[0]: 'a b' is not a host such as"),
        ({"web": {"allowed_hosts": "a"}}, "web.allowed_hosts: must be a list, not 'a'"),
        ({"web": {"allowed_origins": ["dashboard"]}}, "web.allowed_origins[0]: 'dashboard' is not an origin such as"),
        ({"web": {"allowed_origins": ["*"]}}, "web.allowed_origins[0]: '*' is not an origin such as"),
        (
            {"web": {"allowed_origins": ["https://a/b"]}},
            "web.allowed_origins[0]: 'https://a/b' is not an origin such as",
        ),
        ({"web": {"allowed_origins": ["ftp://a"]}}, "web.allowed_origins[0]: 'ftp://a' is not an origin such as"),
        ({"live": {"history_length": "1s"}}, "live: history_length must be between 1m and 1d"),
        ({"live": {"history_length": "2d"}}, "live: history_length must be between 1m and 1d"),
        ({"live": {"max_viewers": 0}}, "live: max_viewers must be at least 1"),
        ({"live": {"histry": True}}, "live: unknown key 'histry'; known: history, history_length, max_viewers"),
    ],
)
def test_mistakes_in_the_configuration_are_one_clear_line(raw: object, message: str) -> None:
    """Each names its path."""
    with pytest.raises(ConfigError) as caught:
        config.read(raw)
    assert str(caught.value).startswith(message)


def test_the_configuration_is_read() -> None:
    """Hosts, origins, history and viewers."""
    read = config.read(
        {
            "web": {"allowed_hosts": ["A.example", "[::1]:80"], "allowed_origins": ["https://B.example:8443/"]},
            "live": {"history": False, "history_length": "10m", "max_viewers": 3},
        }
    )
    assert read.web.allowed_hosts == (Host("a.example"), Host("[::1]", 80))
    assert read.web.allowed_origins == (Origin("https://b.example:8443"),)
    assert (read.live.history, read.live.history_length, read.live.max_viewers) == (False, 600.0, 3)
    assert config.read({}).live == Live(history=True)
