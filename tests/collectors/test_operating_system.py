from __future__ import annotations

import os
import platform

from modelhost_exporter.collector import CollectorContext, CollectorOptions
from modelhost_exporter.collectors.operating_system import OperatingSystemCollector, create
from tests.support.readings import readings


def test_the_labels_name_the_system() -> None:
    """One series of value 1 names system, release, machine and version, and not the machine's host name."""
    uname = platform.uname()._replace(
        system="Linux", node="secret", release="6.1.0-18-amd64", version="#1 SMP Debian", machine="x86_64"
    )
    read = readings(OperatingSystemCollector(lambda: uname).collect())
    assert read == {"os_info": {("Linux", "6.1.0-18-amd64", "x86_64", "#1 SMP Debian"): 1}}


def test_this_machine() -> None:
    """On the real machine the labels are the kernel's own."""
    uname = os.uname()
    read = readings(create(CollectorOptions(), CollectorContext()).collect())
    assert read == {"os_info": {(uname.sysname, uname.release, uname.machine, uname.version): 1}}
