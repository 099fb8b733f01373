"""TCP listeners from /proc/net/tcp: of real sockets, and of written files."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.linux.tcp_listeners import ListeningSocket, tcp_listeners

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "   0: {}:{} 00000000:0000 {} 00000000:00000000 00:00000000 00000000  1000        0 {} 1 0000000000000000\n"


def _procfs(root: Path, tcp: str, tcp6: str | None = None) -> Path:
    folder = root / "self/net"
    folder.mkdir(parents=True)
    (folder / "tcp").write_text(HEAD + tcp)
    if tcp6 is not None:
        (folder / "tcp6").write_text(HEAD + tcp6)
    return root


def test_real_sockets_are_found() -> None:
    """A socket that listens is there, one that is only bound is not, and a new socket is another listener."""
    with socket.socket() as bound, socket.socket() as one:
        bound.bind(("127.0.0.1", 0))
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        first = {listener.port: listener for listener in tcp_listeners()}
        assert first[port].host == "127.0.0.1"
        assert bound.getsockname()[1] not in first
        one.close()
        with socket.create_server(("127.0.0.1", port)):
            second = {listener.port: listener for listener in tcp_listeners()}
    assert second[port].inode != first[port].inode


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "127.0.0.1"),
        ("0501A8C0", "192.168.1.5"),
        ("00000000000000000000000000000000", "127.0.0.1"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
    ],
)
def test_an_address_that_reaches_it(address: str, host: str, tmp_path: Path) -> None:
    """Every address is reached by loopback; IPv4 in IPv6 is IPv4 (addresses of a little-endian machine)."""
    listed = LINE.format(address, "2CAA", "0A", 77)
    assert tcp_listeners(_procfs(tmp_path, "", listed)) == [ListeningSocket(host, 11434, "77")]


def test_connections_are_not_read(tmp_path: Path) -> None:
    """Listeners come first; a line of another form ends them, and IPv4 wins."""
    listening, connected = LINE.format("0100007F", "0050", "0A", 1), LINE.format("0100007F", "0051", "01", 2)
    hidden = LINE.format("0100007F", "0052", "0A", 3)
    again = LINE.format("00000000000000000000000001000000", "0050", "0A", 4)
    root = _procfs(tmp_path, listening + connected + hidden, again)
    assert tcp_listeners(root) == [ListeningSocket("127.0.0.1", 80, "1")]


@pytest.mark.parametrize("line", ["", "x\n", "   0: zz:0050 a 0A b c d e f 9\n", "   0: 01:0050 a 0A b c d e f 9\n"])
def test_a_damaged_line_is_left_out(line: str, tmp_path: Path) -> None:
    """An address that is none hides only itself."""
    assert tcp_listeners(_procfs(tmp_path, line)) == []


def test_a_system_that_does_not_list_them_is_an_error(tmp_path: Path) -> None:
    """OSError, which the search takes for not known."""
    with pytest.raises(OSError, match="net/tcp"):
        tcp_listeners(tmp_path)
