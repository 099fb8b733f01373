"""The locked versions in ``requirements/`` against pyproject.toml, the build hook, the image and what is installed."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import hatch_build
from tests.support.programs import missing

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
DECLARED: dict[str, list[str]] = {
    "runtime": PROJECT["project"]["dependencies"],
    "build": PROJECT["build-system"]["requires"],
    "node": [hatch_build.NODE],
}


class Pin(NamedTuple):
    """One package of a file of locked versions."""

    requirement: Requirement
    hashes: list[str]

    @property
    def version(self) -> str:
        """The only version that is allowed."""
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "=="
        return specifier.version


def locked(name: str) -> dict[str, Pin]:
    """Return the packages of ``requirements/NAME.txt``."""
    text = (ROOT / f"requirements/{name}.txt").read_text().replace("\\\n", " ")
    pins: dict[str, Pin] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=", line.rstrip())
            pins[canonicalize_name(Requirement(requirement).name)] = Pin(Requirement(requirement), hashes)
    return pins


@pytest.mark.parametrize("name", DECLARED)
def test_locked_versions_are_allowed(name: str) -> None:
    """Every declared package is locked, at one version that pyproject.toml (or the hook) allows: make constraints."""
    pins = locked(name)
    for declared in map(Requirement, DECLARED[name]):
        assert declared.specifier.contains(pins[canonicalize_name(declared.name)].version), declared


@pytest.mark.parametrize("name", DECLARED)
def test_every_package_has_hashes(name: str) -> None:
    """The hashes are SHA-256: pip then installs no file without one of them."""
    assert locked(name)
    for package, pin in locked(name).items():
        assert pin.version
        assert pin.hashes, package
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in pin.hashes), package


@pytest.mark.parametrize("name", ["runtime", "build"])
def test_what_they_need_is_locked_too(name: str) -> None:
    """The dependencies of each package, as installed here, are in the file, at a version that the package allows."""
    pins = locked(name)
    for package in pins:
        for needed in map(Requirement, _requires(package)):
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert needed.specifier.contains(pins[canonicalize_name(needed.name)].version), (package, needed)


def test_what_is_tested_is_what_is_locked() -> None:
    """The versions that these tests run with are those that users get."""
    different = {
        package: metadata.version(package)
        for package, pin in locked("runtime").items()
        if (pin.requirement.marker is None or pin.requirement.marker.evaluate())
        and metadata.version(package) != pin.version
    }
    if different:
        missing(f"other versions than the locked ones are installed ({different}): make test installs those")


def test_runtime_dependencies_have_upper_bounds() -> None:
    """A new major version, which may break the exporter, is not installed before it is tested."""
    for declared in map(Requirement, DECLARED["runtime"]):
        assert {one.operator for one in declared.specifier} == {">=", "<"}, declared


def test_build_time_packages_have_one_version() -> None:
    """Packages of the build are pinned in pyproject.toml, its extra for tests, and the hook."""
    (build,) = DECLARED["build"]
    assert build in EXTRAS["dev"]
    assert all("==" in one for one in (build, hatch_build.NODE))


@pytest.mark.parametrize("file", ["Dockerfile", ".ci/install"])
def test_packages_are_installed_by_hash(file: str) -> None:
    """Every file of locked versions that is installed is installed with its hashes, and the files exist."""
    commands = (ROOT / file).read_text().replace("\\\n", " ").splitlines()
    named = [line for line in commands if "requirements/" in line and not line.startswith("#")]
    assert {"runtime", "build", "node"} <= set(re.findall(r"requirements/(\w+)\.txt", " ".join(named)))
    for line in named:
        assert "--require-hashes" in line, line
        assert all((ROOT / path).is_file() for path in re.findall(r"requirements/\w+\.txt", line)), line


def _requires(package: str) -> list[str]:
    try:
        return metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []  # for another Python or platform
