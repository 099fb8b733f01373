"""Where the web port listens: on the configured addresses, or on sockets that systemd passed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from modelhost_exporter.config.address import Address
from modelhost_exporter.process import listening
from modelhost_exporter.process.listening import CannotListen
from modelhost_exporter.security import open_listeners
from modelhost_exporter.security.open_listeners import ListenerState

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from aiohttp import web

    from modelhost_exporter.config.model import Web
    from modelhost_exporter.process.passed_sockets import PassedSockets
    from modelhost_exporter.security.web_security import WebSecurity

log = logging.getLogger(__name__)

_WAY_OUT = "--web.listen-address=127.0.0.1:PORT, passwords in --web.config.file, or a firewall"


class WebListeners:
    """The listening sockets of the web port."""

    def __init__(self, runner: web.AppRunner, security: WebSecurity) -> None:
        self._runner = runner
        self._security = security
        self.addresses: Sequence[Address] = ()
        """The TCP addresses, once it listens; Unix sockets have none."""

    @property
    def port(self) -> int:
        """The first TCP port; 0 where there are Unix sockets only."""
        return self.addresses[0].port if self.addresses else 0

    def listening(self) -> list[ListenerState]:
        """Return each address, and whether clients have to authenticate; for any thread."""
        is_authenticated = self._security.is_authenticated
        return [ListenerState(address, "", is_authenticated) for address in self.addresses]

    async def listen(self, settings: Web, passed: PassedSockets) -> None:
        """Listen, and warn of what everybody may use. Raises CannotListen."""
        if settings.systemd_socket:
            if not passed.sockets:
                raise CannotListen("web.systemd_socket: systemd passed no socket: start the unit of the socket")
            for each in passed.sockets:
                await self._adopt(each)
        else:
            if passed.sockets:
                log.warning("systemd passed sockets that are not used: set web.systemd_socket (--web.systemd-socket)")
            for address in settings.listen_addresses:
                await self._listen(address, settings.telemetry_path)
        names = [name for name in self._runner.addresses if isinstance(name, tuple)]
        self.addresses = [Address(str(name[0]), int(name[1])) for name in names]
        open_listeners.warn(self.listening(), _WAY_OUT)

    async def _listen(self, address: Address, path: str) -> None:
        try:
            await listening.listen(self._runner, address)
        except (OSError, ValueError) as error:  # ValueError: an invalid host name, such as a label of 70 letters
            raise CannotListen(f"cannot listen on {address}: {listening.reason(error)}") from error
        shown = listening.url_address(address, self._runner.addresses[-1][1])
        _log(address, f"{self._security.scheme}://{shown}{path}")

    async def _adopt(self, listener: socket.socket) -> None:
        name = listener.getsockname()
        shown = Address(name[0], name[1]) if isinstance(name, tuple) else f"unix:{name}"
        try:
            await listening.adopt(self._runner, listener)
        except OSError as error:
            raise CannotListen(f"cannot listen on {shown} of systemd: {listening.reason(error)}") from error
        _log(shown, f"{self._security.scheme}://{shown}" if isinstance(shown, Address) else "")


def _log(address: Address | str, url: str) -> None:
    fields = {"address": str(address)}
    log.info("listening", extra={"fields": {**fields, "url": url} if url else fields})
