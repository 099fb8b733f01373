"""Name, operating system and CPU of the machine."""

from __future__ import annotations

import platform
from datetime import datetime
from typing import TYPE_CHECKING

import psutil
import pytest

from modelhost_exporter.collector import Paths
from modelhost_exporter.live.host_identity import cpu_model, distribution, host_identity

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n', "Debian GNU/Linux 13 (trixie)"),
        ("PRETTY_NAME=Alpine\n", "Alpine"),
        ("PRETTY_NAME='Fedora Linux 43'", "Fedora Linux 43"),
        ("NAME=x\n", None),
    ],
)
def test_the_distribution_is_that_of_os_release(tmp_path: Path, text: str, expected: str | None) -> None:
    """With quotes or without; the file is in one of two folders."""
    assert distribution(tmp_path) is None
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text(text)
    assert distribution(tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor\t: 0\nmodel name\t: AMD EPYC 9354  32-Core Processor\nflags\t: a b\n",
            "AMD EPYC 9354 32-Core Processor",
        ),
        ("processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\n", None),
        ("model name\t: \n", None),
    ],
)
def test_the_model_is_that_of_the_first_cpu(tmp_path: Path, text: str, expected: str | None) -> None:
    """Arm kernels have none."""
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_model(tmp_path) == expected


def test_the_identity_of_this_machine() -> None:
    """It was booted when psutil says."""
    identity = host_identity(Paths())
    assert identity["name"] == platform.node()
    assert identity["kernel"] == platform.release()
    assert identity["bootTime"] is not None
    assert datetime.fromisoformat(identity["bootTime"]).timestamp() == pytest.approx(psutil.boot_time(), abs=2)
