"""``modelhost-exporter healthcheck``: exit 0 if the exporter on this machine is ready, else 1 with the reason.

It runs every few seconds, so it imports little: the configuration file is parsed only if it is given.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter.config.address import Address
from modelhost_exporter.process import health_socket

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMMAND = "healthcheck"
PATH = "/-/ready"

_PROGRAM = f"modelhost-exporter {COMMAND}"
_DEFAULT = "127.0.0.1:8585"
_MAX_BYTES = 1000
_OK = 200
_EXIT_READY, _EXIT_NOT_READY, _EXIT_CONFIG = 0, 1, 2


def main(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Print one line, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Exit with 0 if the exporter that runs here as the same user is ready, else with 1. It takes the"
        " flags of the exporter, of which only these matter. It needs no password and no certificate.",
        allow_abbrev=False,
    )
    parser.add_argument("--config.file", metavar="FILE", help="The exporter's configuration file.")
    parser.add_argument("--web.listen-address", action="append", metavar="HOST:PORT", help="Its first address.")
    parser.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="Default 2.")
    given = vars(parser.parse_known_args(arguments)[0])
    try:
        port = _address(given["web.listen_address"], given["config.file"], environment).port
    except (ValueError, LookupError) as error:
        return _say(str(error), _EXIT_CONFIG)
    if not health_socket.is_supported():
        return _say(f"works on Linux only: request {PATH} of the web port instead", _EXIT_NOT_READY)
    try:
        status, text = _request(port, given["timeout"])
    except (OSError, http.client.HTTPException) as error:
        return _say(_problem(error, port, given["timeout"]), _EXIT_NOT_READY)
    return _say(text, _EXIT_READY if status == _OK else _EXIT_NOT_READY)


def _problem(error: Exception, port: int, timeout: float) -> str:
    if isinstance(error, PermissionError):
        return str(error)
    if isinstance(error, ConnectionRefusedError):
        return f"no exporter of this user listens on port {port}"
    if isinstance(error, TimeoutError):
        return f"the exporter on port {port} did not respond within {timeout:g} s"
    return f"the exporter on port {port} did not respond: {error or type(error).__name__}"


def _address(flags: Sequence[str] | None, file: str | None, environment: Mapping[str, str]) -> Address:
    """Return the first address of the exporter, by the rules of its own configuration."""
    if flags:
        return Address.from_text(flags[0])
    default = environment.get("MODELHOST_LISTEN_ADDRESS") or _DEFAULT
    if file is None:
        return Address.from_text(default.split(",")[0])
    from modelhost_exporter.config import model  # noqa: PLC0415 - takes most of the time, and is rarely needed

    try:
        return model.load(Path(file), {}, {"web.listen_addresses": default.split(",")}).web.listen_addresses[0]
    except model.ConfigError as error:
        raise LookupError(str(error)) from error


def _request(port: int, timeout: float) -> tuple[int, str]:
    """Return status and first line of the exporter's response."""
    with contextlib.closing(http.client.HTTPConnection("localhost")) as connection:
        connection.sock = health_socket.connect(port, timeout)
        connection.request("GET", PATH)
        response = connection.getresponse()
        return response.status, response.read(_MAX_BYTES).decode("utf-8", "replace").partition("\n")[0]


def _say(text: str, code: int) -> int:
    print(text, file=sys.stdout if code == _EXIT_READY else sys.stderr)
    return code
