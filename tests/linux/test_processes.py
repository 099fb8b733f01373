"""Processes: what is read of /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from modelhost_exporter.linux.processes import command_line, command_name, owner_id, parse_stat, process_uses
from modelhost_exporter.linux.users import user_name

PROC = Path("/proc")
FIELDS = b"S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 4242 1000000 2560 18446744073709551615"


@pytest.mark.parametrize("name", [b"sh", b"a b", b"a) S 1 (b", b"()", b"\xff\n"])
def test_a_name_may_contain_anything(name: bytes) -> None:
    """Also what ends a name; fields are counted from its last parenthesis."""
    use = parse_stat("7", b"7 (" + name + b") " + FIELDS)
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    assert use == (7, 4242, 300 / ticks, 2560 * page)


@pytest.mark.parametrize("stat", [b"", b"7 (sh", b"7 (sh) S 1", b"7 (sh) " + FIELDS.replace(b"2560", b"-1")])
def test_what_cannot_be_parsed_is_left_out(stat: bytes) -> None:
    """Such as the empty file of a process that has just ended."""
    assert parse_stat("7", stat) is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_processes_of_this_machine_are_those_of_psutil() -> None:
    """Number, CPU time and memory of this process, and the name, user and arguments of a child."""
    with subprocess.Popen(["sleep", "60"]) as child:
        uses = {use.pid: use for use in process_uses(PROC)}
        own, seen = psutil.Process(), uses[os.getpid()]
        times = own.cpu_times()
        assert seen.cpu_seconds == pytest.approx(times.user + times.system, abs=1.0)
        assert seen.resident_bytes == pytest.approx(own.memory_info().rss, rel=0.2)
        assert {child.pid, 1} <= uses.keys()
        assert command_line(PROC, child.pid)[-2:] == ["sleep", "60"]
        owner = owner_id(PROC, child.pid)
        assert owner is not None
        assert user_name(owner) == own.username()
        child.kill()
    assert (command_line(PROC, child.pid), command_name(PROC, child.pid), owner_id(PROC, child.pid)) == ([], "", None)


def test_users_of_the_host_are_those_of_its_own_file(tmp_path: Path) -> None:
    """In a container with the host's root mounted; unknown ones are numbers."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nbad line\nada:x:1815:100::/home/ada:/bin/sh\n")
    assert [user_name(number, tmp_path) for number in (0, 1815, 100)] == ["root", "ada", "100"]
    assert user_name(0, tmp_path / "absent") == "0"
    assert user_name(4_000_000_001) == "4000000001"
