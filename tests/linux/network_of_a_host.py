"""Build a network and print what is measured of 100 frames of 1,014 bytes: ``python network_of_a_host.py FOLDER``.

It runs in network and mount namespaces of its own (``unshare --net --mount``). ``eth0`` is in the bridge ``lan``,
above which is ``macvlan0``, and ``veth0`` is the other end of its cable.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

from modelhost_exporter.collector import CollectorContext, Paths
from modelhost_exporter.collectors.network import NetworkOptions, create
from tests.faults.mount_namespace import CANNOT_MOUNT
from tests.support.readings import readings

FRAMES, BYTES = 100, 1_014
_BUILD = """
link add name eth0 type veth peer name veth0
link add name lan type bridge
link set dev eth0 master lan
link add link lan name macvlan0 type macvlan
link set dev eth0 addrgenmode none
link set dev veth0 addrgenmode none
link set dev lan addrgenmode none
link set dev macvlan0 addrgenmode none
link set dev eth0 up
link set dev veth0 up
link set dev lan up
link set dev macvlan0 up
"""


def main(sysfs: Path) -> None:
    """Send the frames and print by how much each series rose."""
    try:
        subprocess.run(["mount", "-t", "sysfs", "sysfs", sysfs], check=True)
        subprocess.run(["ip", "-force", "-batch", "-"], input=_BUILD, text=True, check=False, stderr=subprocess.DEVNULL)
        subject = create(NetworkOptions(), CollectorContext(paths=Paths(sysfs=sysfs)))
        before = readings(subject.collect())
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as cable:
            cable.bind(("veth0", 0))
            for _ in range(FRAMES):
                cable.send(b"\xff" * 6 + b"\x02" + bytes(5) + b"\x88\xb5" + bytes(BYTES - 14))
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{CANNOT_MOUNT}: {error}")  # noqa: T201 - read by the test that started the program
        sys.exit(77)
    after = readings(subject.collect())
    print(  # noqa: T201 - likewise
        json.dumps(
            {
                name: {"".join(labels): value - before[name][labels] for labels, value in series.items()}
                for name, series in after.items()
                if "receive_bytes" in name
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
