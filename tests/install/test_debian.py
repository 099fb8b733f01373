"""Install, upgrade and remove in a clean Debian: ``make test-install``, which makes what these tests run in.

Each test has the root file system for itself, as an overlay in a mount namespace; a removal leaves what differs.
systemd does not run there, so the service is enabled, and started by the next boot.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import missing

ROOT = Path(__file__).parent.parent.parent
SECONDS = 300
NAMESPACE = """
set -eu
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=$2/root,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --bind /dev "$1/root/dev"
mkdir "$1/root/given"
cp -R "$2/wheels" "$2"/*.deb "$3/install.sh" "$1/root/given"
files() {
    (cd "$1/root" && find . -xdev \\( -path ./given -o -path ./run -o -path ./proc -o -path ./dev \\) -prune \\
        -o -print | sort)
}
files "$1" >"$1/before"
chroot "$1/root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PIP_NO_INDEX=1 \\
    PIP_FIND_LINKS=/given/wheels setsid sh -eu -c "cd /given; $4"
files "$1" >"$1/after"
echo "== residue"
comm -13 "$1/before" "$1/after"
"""
CHECKS = """
modelhost-exporter --version
modelhost-exporter --config.check
unit=/etc/systemd/system/multi-user.target.wants/modelhost-exporter.service
systemd-analyze verify --man=no "$(readlink -f $unit)" 2>&1 | grep 'exporter.service:' || echo verified
id --user --name modelhost-exporter
"""
START = """
setpriv --reuid=modelhost-exporter --regid=modelhost-exporter --clear-groups \\
    modelhost-exporter --no-discovery --web.listen-address=127.0.0.1:0 >/tmp/out 2>&1 & started=$!
for turn in $(seq 300); do grep -q 'msg=ready' /tmp/out && break; sleep 0.1; done
kill $started; wait $started && echo stopped; rm /tmp/out
"""


@pytest.fixture
def debian() -> Path:
    """Return the folder that .ci/debian-root made; skips where it was not."""
    folder = Path(os.environ.get("MODELHOST_TEST_DEBIAN", "/nonexistent"))
    if not (folder / "root/usr/bin/systemctl").exists():
        pytest.skip("no clean Debian: `make test-install` makes one")
    if os.geteuid() != 0:
        missing("a mount namespace needs root")
    return folder


def run(debian: Path, folder: Path, script: str) -> tuple[list[str], list[str]]:
    """Run a script in the clean system; return what it printed, and the files that are there more than before."""
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", NAMESPACE, "sh", folder, debian, ROOT, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    printed, _, residue = result.stdout.partition("== residue\n")
    return printed.splitlines(), residue.splitlines()


def test_the_script_installs_upgrades_and_removes(debian: Path, tmp_path: Path) -> None:
    """The service is enabled and its own user can start it; nothing is left, and a second removal is fine."""
    wheel = "sh install.sh --from wheels/modelhost_exporter-*.whl"
    removal = "sh install.sh --uninstall; sh install.sh --uninstall"
    script = f"{wheel} --service; {CHECKS} {START} {wheel}; echo upgraded; {CHECKS} {removal}; ! id modelhost-exporter"
    printed, residue = run(debian, tmp_path, script)
    assert [line for line in printed if line == "modelhost-exporter"] == ["modelhost-exporter"] * 2
    assert {"verified", "stopped"} <= set(printed)
    assert "modelhost-exporter is not installed in /opt/modelhost-exporter" in printed
    assert residue == []


def test_a_failed_upgrade_leaves_what_was_there(debian: Path, tmp_path: Path) -> None:
    """A release that does not exist changes nothing; a first installation that fails leaves nothing."""
    absent = "! sh install.sh --from modelhost-exporter==99"
    script = f"{absent}; test ! -e /opt/modelhost-exporter; sh install.sh --from modelhost-exporter==0.1.0"
    printed, _ = run(debian, tmp_path, f"{script}; {absent}; modelhost-exporter --version; sh install.sh --uninstall")
    assert any(line.startswith("modelhost-exporter 0.1.0 (Python") for line in printed)


def test_a_folder_of_somebody_else_stays(debian: Path, tmp_path: Path) -> None:
    """Neither installed into nor removed."""
    mine = "mkdir -p /opt/modelhost-exporter/mine"
    script = f"{mine}; ! sh install.sh; ! sh install.sh --uninstall; test -d /opt/modelhost-exporter/mine"
    printed, _ = run(debian, tmp_path, script)
    assert sum("was not made by this script" in line for line in printed) == 2


def test_the_package_installs_upgrades_and_is_purged(debian: Path, tmp_path: Path) -> None:
    """It enables the service, keeps changed flags in an upgrade, and purges everything."""
    script = f"""
    dpkg --install ./*.deb; {CHECKS} {START}
    echo 'ARGS="--proxy=auto"' >/etc/default/modelhost-exporter
    dpkg --install ./*.deb; cat /etc/default/modelhost-exporter
    dpkg --purge modelhost-exporter; ! id modelhost-exporter
    """
    printed, residue = run(debian, tmp_path, script)
    assert 'ARGS="--proxy=auto"' in printed
    assert {"verified", "stopped"} <= set(printed)
    assert residue == []
