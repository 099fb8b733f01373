"""The compose file: mounted paths, ports, uids, images, and privileges of containers."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack import options, programs

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DIGEST = "@sha256:[0-9a-f]{64}"
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROFILES = ("normal", "live", "demo")
ONE_OF_EACH = ("exporter", "prometheus", "alertmanager", "grafana")


def named(kind: str, profile: str) -> dict[str, Any]:
    """Return the only service of a type in a profile."""
    found = [one for name, one in SERVICES.items() if name.split("-")[0] == kind and profile in one["profiles"]]
    assert len(found) == 1, (kind, profile, found)
    return found[0]


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Return what is mounted where: the path in the container, and the path in this repository (or volume)."""
    volumes = service.get("volumes", ())
    short = dict(volume.split(":")[1::-1] for volume in volumes if isinstance(volume, str))
    full = {volume["target"]: volume["source"] for volume in volumes if not isinstance(volume, str)}
    return {target: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", source) for target, source in (short | full).items()}


def is_read_only(volume: str | dict[str, Any]) -> bool:
    """Return whether a container cannot write to what is mounted."""
    return bool(re.search(r":ro(,|$)", volume)) if isinstance(volume, str) else volume["read_only"] is True


def in_repository(service: dict[str, Any], path: str) -> Path:
    """Return the file in this repository that a path in the container is."""
    for target, source in mounts(service).items():
        if path == target or path.startswith(f"{target}/"):
            return ROOT / source / path[len(target) :].lstrip("/")
    raise AssertionError(f"{path} is not mounted")


def flag(service: dict[str, Any], name: str) -> str:
    """Return the value of a flag of the service's program."""
    words: list[str] = service["command"]
    return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))


def settings_file(profile: str) -> Path:
    """Return the path of a profile's Prometheus settings in the container, which is an argument of container.sh."""
    path: str = named("prometheus", profile)["command"][0]
    return Path(path)


def prometheus_settings(profile: str) -> dict[str, Any]:
    """Return the settings of a profile's Prometheus."""
    file = in_repository(named("prometheus", profile), str(settings_file(profile)))
    settings: dict[str, Any] = yaml.safe_load(file.read_text())
    return settings


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_has_one_of_each_program(profile: str) -> None:
    """A profile runs one exporter, Prometheus, Alertmanager and Grafana, and nothing else."""
    running = [name.split("-")[0] for name, service in SERVICES.items() if profile in service["profiles"]]
    assert sorted(running) == sorted(ONE_OF_EACH)


def test_without_a_profile_the_normal_one_runs() -> None:
    """``docker compose up`` alone reads its profile from .env."""
    assert "\nCOMPOSE_PROFILES=normal\n" in (ROOT / ".env").read_text()
    assert all(service["profiles"] and set(service["profiles"]) <= set(PROFILES) for service in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    """An image has a whole version and a digest, or is built here from images that have."""
    image = SERVICES[name]["image"]
    if "build" not in SERVICES[name]:
        assert re.search(rf":v?\d+\.\d+\.\d+{DIGEST}$", image)
        return
    bases = re.findall(r"(?m)^FROM (\S+)", DOCKERFILE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert all(re.search(rf":\d+\.\d+\.\d+-slim{DIGEST}$", base) for base in bases)


def test_the_image_has_no_package_index() -> None:
    """Only the stage that builds has pip: the environment that runs has none, and is copied as it is."""
    build, run = DOCKERFILE.split("\nFROM ")[1:]
    assert "venv --without-pip /opt/modelhost " in build
    assert "COPY --from=build /opt/modelhost /opt/modelhost" in run
    assert not re.search(r"(?m)^RUN ", run)


def test_the_image_listens_whatever_its_arguments() -> None:
    """The address is in the environment: one in CMD would be lost with any argument of ``docker run``."""
    assert re.search(r"(?m)^ENV .*\bMODELHOST_LISTEN_ADDRESS=:8585$", DOCKERFILE)
    assert not re.search(r"(?m)^CMD", DOCKERFILE)


@pytest.mark.parametrize(
    "name", [name for name in SERVICES if name.startswith(("prometheus", "alertmanager", "grafana"))]
)
def test_services_are_checked(name: str) -> None:
    """Compose knows whether a program answers; the image that is built here has a check of its own."""
    assert SERVICES[name]["healthcheck"]["test"]


def test_grafana_and_prometheus_are_recent_enough() -> None:
    """Dashboards need Grafana 12, and Prometheus is a 3."""
    assert re.search(r"/grafana:(1[2-9]|[2-9]\d)\.", named("grafana", "normal")["image"])
    assert re.search(r"/prometheus:v3\.", named("prometheus", "normal")["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_containers_may_do_nothing_that_they_need_not(name: str) -> None:
    """Read-only, without capabilities, without new privileges; files of this repository are mounted read-only."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"privileged", "user", "cap_add"} & service.keys()
    for volume in service.get("volumes", ()):
        of_docker = isinstance(volume, str) and volume.split(":")[0] in COMPOSE["volumes"]
        assert of_docker or is_read_only(volume), volume


def test_a_configuration_of_ones_own_that_is_missing_is_an_error() -> None:
    """Docker would otherwise mount an empty folder, or use a path without a slash as a volume's name."""
    (given,) = [one for one in SERVICES["exporter"]["volumes"] if "MODELHOST_CONFIG" in str(one)]
    assert given["type"] == "bind"
    assert given["bind"] == {"create_host_path": False}


def test_the_exporter_is_not_root() -> None:
    """The image runs as a numbered user."""
    assert re.search(r"(?m)^USER [1-9]\d*:[1-9]\d*$", (ROOT / "Dockerfile").read_text())


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_exists(name: str) -> None:
    """Docker would otherwise create an empty folder for a missing source."""
    for source in mounts(SERVICES[name]).values():
        assert source in COMPOSE["volumes"] or source == "/" or (ROOT / source).exists(), source


@pytest.mark.parametrize("profile", PROFILES)
def test_every_program_is_asked_where_it_listens(profile: str) -> None:
    """Targets and addresses in settings are those the programs are told to listen on, all of them on loopback."""
    listening = {kind: flag(named(kind, profile), "--web.listen-address") for kind in ONE_OF_EACH[:-1]}
    settings = prometheus_settings(profile)
    targets = [
        target for job in settings["scrape_configs"] for static in job["static_configs"] for target in static["targets"]
    ]
    assert targets == [listening["exporter"], listening["prometheus"]]
    assert settings["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == [listening["alertmanager"]]
    environment = named("grafana", profile)["environment"]
    assert environment["MODELHOST_PROMETHEUS_URL"] == f"http://{listening['prometheus']}"
    assert environment["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert all(address.startswith("127.0.0.1:") for address in listening.values())


def test_the_demo_has_a_history_of_its_own() -> None:
    """The demo's Prometheus has another volume than that of the real host, which both of its profiles share."""
    normal, live, demo = (mounts(named("prometheus", profile))["/prometheus"] for profile in PROFILES)
    assert normal == live
    assert demo != normal


def test_ports_are_those_of_the_stack_without_docker() -> None:
    """Docker and ``make stack`` use the same ports."""
    ports = {kind: int(flag(named(kind, "normal"), "--web.listen-address").split(":")[1]) for kind in ONE_OF_EACH[:-1]}
    ports["grafana"] = int(named("grafana", "normal")["environment"]["GF_SERVER_HTTP_PORT"])
    assert ports == options.PORTS


@pytest.mark.parametrize("profile", PROFILES)
def test_health_checks_ask_their_own_program(profile: str) -> None:
    """A health check requests the address that its program listens on."""
    for kind, own in (("prometheus", "127.0.0.1:9090"), ("grafana", "127.0.0.1:3000")):
        assert any(own in word for word in named(kind, profile)["healthcheck"]["test"])


@pytest.mark.parametrize("profile", PROFILES)
def test_grafana_knows_how_often_prometheus_scrapes(profile: str) -> None:
    """With another interval rates would be flat for a minute, or have gaps."""
    interval = prometheus_settings(profile)["global"]["scrape_interval"]
    assert named("grafana", profile)["environment"]["MODELHOST_SCRAPE_INTERVAL"] == interval
    assert interval == (options.NORMAL_INTERVAL if profile == "normal" else options.LIVE_INTERVAL)


@pytest.mark.parametrize("profile", PROFILES)
def test_rules_are_where_prometheus_looks(profile: str) -> None:
    """The patterns in the settings find the rule files."""
    service = named("prometheus", profile)
    folder = settings_file(profile).parent
    for pattern in prometheus_settings(profile)["rule_files"]:
        found = in_repository(service, str(folder / pattern))
        assert sorted(path.name for path in found.parent.glob(found.name)) == ["alerts.yml", "recording.yml"]


def test_grafana_is_told_the_same_with_and_without_docker() -> None:
    """Each variable that settings and provisioning files refer to is set in both cases."""
    folder = ROOT / "grafana"
    files = [folder / "grafana.ini", *folder.glob("provisioning/**/*.yml")]
    read = {
        name
        for path in files
        for pair in re.findall(r"\$__env\{(\w+)\}|\$\{?(MODELHOST_\w+)", path.read_text())
        for name in pair
        if name
    }
    assert read
    given = options.parse([])
    assert read <= programs.grafana_environment(given, folder).keys()
    for profile in PROFILES:
        assert read <= named("grafana", profile)["environment"].keys()


@pytest.mark.parametrize("profile", PROFILES)
def test_dashboards_are_mounted_where_they_are_looked_for(profile: str) -> None:
    """The provider's folder has the dashboards, and the home page is the Overview."""
    service = named("grafana", profile)
    folder = in_repository(service, service["environment"]["MODELHOST_DASHBOARDS"])
    refresh = {json.loads(path.read_text())["refresh"] for path in folder.glob("*.json")}
    assert refresh == {"30s" if service["environment"]["MODELHOST_SCRAPE_INTERVAL"] == "15s" else "5s"}
    assert len(list(folder.glob("*.json"))) == 7
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(in_repository(service, "/etc/grafana/grafana.ini"))
    home = settings["dashboards"]["default_home_dashboard_path"]
    home = re.sub(r"\$__env\{MODELHOST_DASHBOARDS\}", service["environment"]["MODELHOST_DASHBOARDS"], home)
    assert '"uid": "modelhost-overview"' in in_repository(service, home).read_text()


def test_the_build_context_has_what_the_build_reads() -> None:
    """The Dockerfile builds the wheel from what .dockerignore lets through, and that exists."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    project = (ROOT / "pyproject.toml").read_text()
    wanted = {
        "exporter",
        "pyproject.toml",
        "npm",
        "requirements",
        *("config.example.yaml", "deploy/systemd", "grafana/dashboards", "prometheus/rules", "prometheus/runbook.md"),
        *(f"prometheus/{name}.yml" for name in ("alertmanager", "hosts.example", "prometheus")),
        *re.findall(r"README\.md|LICENSE|hatch_build\.py", project),
    }
    assert wanted == let_through
    assert all((ROOT / path).exists() for path in let_through)
    copied = set(re.findall(r"(?m)^COPY (?!--from)(\S+)", DOCKERFILE))
    assert copied <= {".", *let_through}
    assert all((ROOT / name).exists() for name in let_through)
