"""The addresses of this machine, where its kernel binds those of others too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

SCRIPT = """
import ipaddress, sys
from modelhost_exporter.process.own_addresses import is_own
print(*(is_own(ipaddress.ip_address(text)) for text in sys.argv[1:]))
"""
SETUP = """
ip link set lo up
ip addr add 198.51.100.1/32 dev lo
ip addr add 2001:db8::1/128 dev lo
ip route add default dev lo
ip -6 route add default dev lo
echo %s > /proc/sys/net/ipv4/ip_nonlocal_bind
echo %s > /proc/sys/net/ipv6/ip_nonlocal_bind
exec "$@"
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root for a network namespace")
@pytest.mark.skipif(shutil.which("unshare") is None or shutil.which("ip") is None, reason="needs unshare and ip")
@pytest.mark.parametrize("binds_any", [0, 1])
def test_only_own_addresses_are(binds_any: int) -> None:
    """Also with ``ip_nonlocal_bind``, which machines with a floating address set."""
    texts = ("127.0.0.9", "::", "198.51.100.1", "2001:db8::1", "198.51.100.2", "192.0.2.1", "2001:db8::2")
    command = ["unshare", "--net", "sh", "-ec", SETUP % (binds_any, binds_any), "-", sys.executable, "-c", SCRIPT]
    run = subprocess.run([*command, *texts], capture_output=True, text=True, check=False)
    if "not permitted" in run.stderr or "Read-only" in run.stderr:
        pytest.skip(run.stderr.strip())
    assert run.stdout.split() == ["True"] * 4 + ["False"] * 3, run.stderr
