from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import psutil
from modelhost_exporter.process import allocator
if {set_up}:
    allocator.return_large_blocks()
process = psutil.Process()
bytearray(1 << 20)  # freed at once: glibc's threshold rises
before = process.memory_info().rss
blocks, kept = [], []
for _ in range(200):
    blocks.append(bytearray(b"x") * (1 << 19))
    kept.append(bytes(2000))
blocks.clear()
print(process.memory_info().rss - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
@pytest.mark.parametrize("set_up", [True, False])
def test_large_blocks_are_returned(set_up: bool) -> None:
    """100 MB in blocks of 512 kB, with small ones between them, are returned to the kernel only with the setting."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(set_up=set_up)], capture_output=True, text=True, timeout=60, check=True
    )
    assert (int(run.stdout) < 20 << 20) == set_up
