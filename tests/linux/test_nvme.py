from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.linux import nvme

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "/usr/include/linux/nvme_ioctl.h"
PROGRAM = """
#include <stdio.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <linux/nvme_ioctl.h>
#define AT(member) offsetof(struct nvme_admin_cmd, member)
int main() {
    printf("%lu %zu", (unsigned long)NVME_IOCTL_ADMIN_CMD, sizeof(struct nvme_admin_cmd));
    printf(" %zu %zu %zu %zu %zu", AT(nsid), AT(addr), AT(data_len), AT(cdw10), AT(timeout_ms));
}
"""


def test_the_command_is_the_kernel_s(tmp_path: Path) -> None:
    """Number, size and places of the fields are those of the kernel's header."""
    compiler = shutil.which("cc")
    (tmp_path / "command.c").write_text(PROGRAM)
    build = [compiler or "cc", "-o", str(tmp_path / "command"), str(tmp_path / "command.c")]
    if compiler is None or subprocess.run(build, capture_output=True, check=False).returncode:
        pytest.skip("no C compiler, or no headers of the kernel")
    numbers = subprocess.run([tmp_path / "command"], capture_output=True, text=True, check=True).stdout.split()
    fields = nvme.COMMAND.pack(1, *range(2, 19))
    places = [fields.index(bytes([value, 0, 0, 0])) for value in (4, 8, 10, 11, 17)]
    assert list(map(int, numbers)) == [nvme.ADMIN_COMMAND, nvme.COMMAND.size, *places]
