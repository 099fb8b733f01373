"""The command line program: exit codes, one-line errors, signals, reloads."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter import __version__
from tests.support.fakes import of_collector, samples
from tests.support.machine import write
from tests.support.programs import DEADLINE_SECONDS, Program, fetch, running, wait_until
from tests.support.readings import Page

if TYPE_CHECKING:
    from tests.conftest import StartExporter
    from tests.support.programs import Exporter


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modelhost_exporter", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def _value(exporter: Exporter, name: str) -> float:
    return samples(exporter.page())[name, ()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag (see --help)"),
        (["--web.max"], "unrecognized arguments: --web.max (see --help)"),
        (["positional"], "unrecognized arguments: positional (see --help)"),
        (["--collector.gpus"], "unrecognized arguments: --collector.gpus (see --help)"),
        (["--web.max-requests=many"], "argument --web.max-requests: invalid int value: 'many' (see --help)"),
        (["--web.max-requests=0"], "web: max_requests must be at least 1"),
        (
            ["--web.listen-address=nowhere"],
            "--web.listen-address: 'nowhere' is not an address such as 127.0.0.1:8585, :8585 or [::1]:8585",
        ),
        (["--scrape.timeout=soon"], "--scrape.timeout: 'soon' is not a duration such as 5s, 500ms or 1m30s"),
        (["--scrape.timeout=0s"], "--scrape.timeout: '0s' is not a duration greater than zero"),
        (["--log.level=loud"], "--log.level: must be one of debug, info, warning, error, not 'loud'"),
        (["--config.file=/nowhere.yaml"], "/nowhere.yaml: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    """An invalid flag or configuration is one line on standard error, never a traceback."""
    result = _run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"modelhost-exporter: {message}\n"


def test_an_unknown_key_is_named_with_the_legal_ones(tmp_path: Path) -> None:
    """The message contains the path of the unknown key and the keys that are valid there."""
    file = tmp_path / "config.yaml"
    file.write_text("web: {max_request: 3}")
    result = _run("--config.file", file)
    assert result.returncode == 2
    assert result.stderr == (
        "modelhost-exporter: web: unknown key 'max_request';"
        " known: listen_addresses, telemetry_path, max_requests, created_lines, enable_lifecycle, config_file,"
        " grafana_url, allowed_hosts, allowed_origins, strict_host, header_timeout, idle_timeout, body_timeout,"
        " send_timeout, max_header_bytes, max_connections, max_connections_per_address, auth, systemd_socket\n"
    )


@pytest.mark.parametrize("name", ["procfs", "sysfs", "rootfs"])
def test_a_folder_of_the_host_that_is_missing_is_one_line_and_exit_code_2(name: str, tmp_path: Path) -> None:
    """A container that was started without the host's files does not become ready; a check of its file needs none."""
    missing = tmp_path / "host"
    file = tmp_path / "config.yaml"
    file.write_text(f"path: {{{name}: {missing}}}\n")
    for arguments, where in ((f"--path.{name}={missing}", f"--path.{name}"), (f"--config.file={file}", f"path.{name}")):
        result = _run(arguments)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert f"{where}: {missing} does not exist" in line
    assert _run(f"--config.file={file}", "--config.check").returncode == 0


def test_config_check_validates_and_exits(tmp_path: Path) -> None:
    """A valid configuration is confirmed with exit code 0, without a start; an invalid one is exit code 2."""
    file = tmp_path / "config.yaml"
    file.write_text("log: {level: debug}")
    good = _run("--config.file", file, "--config.check")
    assert (good.returncode, good.stdout, good.stderr) == (0, f"{file}: valid\n", "")
    file.write_text("log: {level: loud}")
    assert _run("--config.file", file, "--config.check").returncode == 2


def test_version_and_help() -> None:
    """--version names the program and its version; --help names every kind of flag."""
    assert _run("--version").stdout.startswith(f"modelhost-exporter {__version__} (Python ")
    shown = _run("--help").stdout
    for flag in ("--config.file", "--collector.cpu", "--no-collector.cpu", "--web.listen-address", "--scrape.timeout"):
        assert flag in shown


@pytest.mark.parametrize("level", ["-O", "-OO"])
def test_it_runs_without_docstrings_and_assertions(level: str) -> None:
    """Help and metrics work without docstrings and assertions."""
    python = [sys.executable, level, "-m", "modelhost_exporter"]
    shown = subprocess.run([*python, "--help"], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True)
    assert "--no-collector.cpu" in shown.stdout
    with running(Program([*python, "--web.listen-address=127.0.0.1:0", "--no-discovery"])) as program:
        line = program.wait_for_line(lambda line: "msg=listening" in line)
        page = fetch(line.rpartition("url=")[2].strip())
        assert of_collector(page, "success", "memory") == 1
        assert program.stop() < DEADLINE_SECONDS
        assert program.process.returncode == 0


def test_a_port_in_use_is_one_line_and_exit_code_1() -> None:
    """An address in use is reported without a traceback, with exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = _run(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warning")
    assert result.returncode == 1
    assert result.stderr == f"modelhost-exporter: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_an_address_of_another_machine_is_one_line_and_exit_code_1() -> None:
    """An address of another machine, and a name that is unknown or invalid, is a run-time error in one line."""
    for address in ("192.0.2.1:0", "no-such-host.invalid:0", "a" * 70 + ":0", "a..b:0"):
        result = _run(f"--web.listen-address={address}", "--log.level=warning")
        assert result.returncode == 1
        assert result.stderr.startswith(f"modelhost-exporter: cannot listen on {address}: ")
        assert result.stderr.count("\n") == 1


def test_every_listen_address_is_served(start_exporter: StartExporter) -> None:
    """A repeated --web.listen-address listens on all of them, and the log names a URL for each."""
    exporter = start_exporter("--web.listen-address=127.0.0.2:0")
    urls = [line for line in exporter.lines if '"listening"' in line]
    assert len(urls) == 2
    assert "http://127.0.0.1:" in urls[0]
    assert "http://127.0.0.2:" in urls[1]
    assert b"modelhost_build_info" in exporter.page()


def test_flags_win_over_the_file(start_exporter: StartExporter, tmp_path: Path) -> None:
    """The file's value is used unless a flag overrides it."""
    file = tmp_path / "config.yaml"
    file.write_text("web: {telemetry_path: /from-file}\nscrape: {timeout: 3s}\ncollectors: {load: {enabled: false}}")
    exporter = start_exporter(f"--config.file={file}", "--scrape.timeout=2s", "--no-collector.cpu")
    assert exporter.url.endswith("/from-file")
    page = exporter.page()
    assert samples(page)["modelhost_scrape_timeout_seconds", ()] == 2
    assert b"modelhost_load1" not in page
    assert b"modelhost_cpu_seconds" not in page
    assert b"modelhost_memory_total_bytes" in page


def test_the_hosts_files_are_read_where_path_says(start_exporter: StartExporter, tmp_path: Path) -> None:
    """--path.procfs is where psutil reads too, and --path.rootfs gives mounts the names that they have on the host."""
    write(
        tmp_path / "proc",
        {
            "stat": "cpu  1 2 3 4 5 6 7 8 9 10\nbtime 1600000000\n",
            "filesystems": "\text4\n",
            "self/mountinfo": (
                "50 1 8:1 / / rw - ext4 /dev/a rw\n"
                f"51 50 8:2 / {tmp_path} ro - ext4 /dev/b ro\n"
                f"52 50 8:3 / {tmp_path}/home ro - ext4 /dev/c rw\n"
            ),
        },
    )
    exporter = start_exporter(
        *(f"--path.procfs={tmp_path / 'proc'}", f"--path.rootfs={tmp_path}"),
        *("--collector.disable-defaults", "--collector.clock", "--collector.filesystem"),
    )
    page = Page(exporter.page().decode())
    assert page.one("modelhost_boot_time_seconds") == 1.6e9
    assert page.by("modelhost_filesystem_readonly", "device", "mountpoint") == {
        ("/dev/b", "/"): 1,
        ("/dev/c", "/home"): 0,
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_within_a_second(start_exporter: StartExporter, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end an idle exporter with exit code 0 within a second."""
    exporter = start_exporter()
    exporter.page()
    assert exporter.stop(number) < 1.0
    assert exporter.process.returncode == 0
    assert "Traceback" not in exporter.output()


def test_it_stops_within_a_second_while_a_collector_hangs(start_exporter: StartExporter, tmp_path: Path) -> None:
    """A collector that hangs in the kernel (a FIFO in place of a /proc file) delays neither a scrape nor the stop."""
    (tmp_path / "pressure").mkdir()
    os.mkfifo(tmp_path / "pressure/cpu")
    exporter = start_exporter(f"--path.procfs={tmp_path}", "--scrape.timeout=300ms")
    page = exporter.page()
    assert of_collector(page, "success", "pressure") == 0
    assert of_collector(page, "available", "pressure") == 1
    assert of_collector(page, "success", "operating_system") == 1
    exporter.wait_for_message("collector timeout")

    answers: list[object] = []
    scraping = threading.Thread(target=lambda: answers.append(_page_or_error(exporter)))
    scraping.start()
    assert exporter.stop() < 1.0
    scraping.join(DEADLINE_SECONDS)
    assert exporter.process.returncode == 0
    assert answers


def test_a_scrape_in_flight_does_not_hold_up_the_stop(start_exporter: StartExporter, tmp_path: Path) -> None:
    """SIGTERM during a scrape whose collector hangs, with a long deadline, still ends within a second."""
    (tmp_path / "pressure").mkdir()
    os.mkfifo(tmp_path / "pressure/cpu")
    exporter = start_exporter(f"--path.procfs={tmp_path}", "--scrape.timeout=1m")
    scraping = threading.Thread(target=_page_or_error, args=[exporter])
    scraping.start()
    with (tmp_path / "pressure/cpu").open("w"):  # opens once the collector has opened it to read: it runs
        assert exporter.stop() < 1.0
    scraping.join(DEADLINE_SECONDS)
    assert exporter.process.returncode == 0


def _page_or_error(exporter: Exporter) -> object:
    try:
        return exporter.page()
    except OSError as error:
        return error


def test_sighup_reloads_and_keeps_the_old_configuration_when_the_new_is_bad(
    start_exporter: StartExporter, tmp_path: Path
) -> None:
    """A valid file takes effect; an invalid one changes nothing, is logged in one line, and sets a metric."""
    file = tmp_path / "config.yaml"
    file.write_text("scrape: {timeout: 3s}")
    exporter = start_exporter(f"--config.file={file}")
    assert _value(exporter, "modelhost_scrape_timeout_seconds") == 3
    assert _value(exporter, "modelhost_config_last_reload_successful") == 1
    first_read = _value(exporter, "modelhost_config_last_reload_success_timestamp_seconds")

    file.write_text("scrape: {timeout: 4s}\ncollectors: {load: {enabled: false}}")
    exporter.process.send_signal(signal.SIGHUP)
    exporter.wait_for_message("configuration reloaded")
    assert _value(exporter, "modelhost_scrape_timeout_seconds") == 4
    assert b"modelhost_load1" not in exporter.page()
    assert _value(exporter, "modelhost_config_last_reload_success_timestamp_seconds") > first_read

    file.write_text("scrape: {timeout: never}")
    exporter.process.send_signal(signal.SIGHUP)
    fields = exporter.wait_for_message("configuration not reloaded")
    assert fields["error"] == "scrape.timeout: 'never' is not a duration such as 5s, 500ms or 1m30s"
    assert _value(exporter, "modelhost_scrape_timeout_seconds") == 4
    assert _value(exporter, "modelhost_config_last_reload_successful") == 0


def test_a_reload_names_what_needs_a_restart(start_exporter: StartExporter, tmp_path: Path) -> None:
    """A new telemetry path needs a restart: each reload logs that, and / links to the old one."""
    file = tmp_path / "config.yaml"
    file.write_text("")
    exporter = start_exporter(f"--config.file={file}")
    file.write_text("web: {telemetry_path: /other}")
    exporter.process.send_signal(signal.SIGHUP)
    assert exporter.wait_for_message("changed, but needs a restart")["key"] == "web.telemetry_path"
    exporter.wait_for_message("configuration reloaded")
    assert exporter.page()
    assert b'<a href="metrics">' in fetch(f"http://{exporter.address}/")

    exporter.process.send_signal(signal.SIGHUP)
    assert exporter.wait_for_message("changed, but needs a restart")
    exporter.wait_for_message("configuration reloaded")
    file.write_text("")
    exporter.process.send_signal(signal.SIGHUP)
    exporter.wait_for_message("configuration reloaded")
    assert exporter.output().count("changed, but needs a restart") == 2, "a return to the path in use is no change"


def test_a_reload_changes_what_is_logged(start_exporter: StartExporter, tmp_path: Path) -> None:
    """A new log level is in force from the reload on."""
    file = tmp_path / "config.yaml"
    file.write_text("")
    exporter = start_exporter(f"--config.file={file}", "--web.enable-lifecycle")
    reload = urllib.request.Request(f"http://{exporter.address}/-/reload", method="POST")
    file.write_text("log: {level: error}")
    assert fetch(reload) == b"reloaded\n"
    file.write_text("log: {level: loud}")
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(reload)
    caught.value.close()
    exporter.wait_for_message("configuration not reloaded")
    assert "configuration reloaded" not in exporter.output()


def test_post_reloads_where_it_is_enabled(start_exporter: StartExporter, tmp_path: Path) -> None:
    """POST /-/reload reads the file again."""
    file = tmp_path / "config.yaml"
    file.write_text("scrape: {timeout: 3s}")
    exporter = start_exporter(f"--config.file={file}", "--web.enable-lifecycle")
    file.write_text("scrape: {timeout: 4s}")
    request = urllib.request.Request(f"http://{exporter.address}/-/reload", method="POST")
    assert fetch(request) == b"reloaded\n"
    assert _value(exporter, "modelhost_scrape_timeout_seconds") == 4
    file.unlink()
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(request)
    with caught.value as answer:
        assert answer.code == 500
        assert b"No such file or directory" in answer.read()


def test_a_hung_collector_is_not_started_again_by_a_reload(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Reloading while a collector hangs keeps its one thread."""
    (tmp_path / "pressure").mkdir()
    os.mkfifo(tmp_path / "pressure/cpu")
    exporter = start_exporter(f"--path.procfs={tmp_path}", "--scrape.timeout=100ms", "--collector.disable-defaults",
                              "--collector.pressure")  # fmt: skip
    exporter.page()
    before = _threads(exporter)
    for _ in range(3):
        exporter.process.send_signal(signal.SIGHUP)
        exporter.wait_for_message("configuration reloaded")
        exporter.page()
    wait_until(lambda: _threads(exporter) <= before, "the threads of the calls have ended")


def _threads(exporter: Exporter) -> int:
    return len(list(Path(f"/proc/{exporter.process.pid}/task").iterdir()))


def test_text_logs_are_logfmt() -> None:
    """Each line of the default format is key=value pairs, quoted where needed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = _run("--web.listen-address=127.0.0.1:0", f"--web.listen-address=127.0.0.1:{taken.getsockname()[1]}")
    first = result.stderr.splitlines()[0]
    assert (
        " level=info logger=modelhost_exporter.web.listeners msg=listening address=127.0.0.1:0 url=http://127.0.0.1:"
        in first
    )
