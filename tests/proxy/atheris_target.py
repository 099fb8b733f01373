"""A search for requests that the proxy reads in another way than h11 does, guided by coverage (atheris).

It runs until it finds one, or for a given time; atheris has wheels for some Pythons only, so that no test needs it::

    pip install atheris
    python -m tests.proxy.atheris_target -max_total_time=600
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import atheris
from hypothesis import given, settings

with atheris.instrument_imports(include=["modelhost_exporter.proxy"]):
    from prometheus_client import CollectorRegistry

    from modelhost_exporter.config.address import Address
    from modelhost_exporter.config.http_url import ServerUrl
    from modelhost_exporter.proxy.server import Proxy
    from modelhost_exporter.proxy.settings import ProxiedServer
    from tests.proxy.generated import hostile_connections
    from tests.proxy.raw_peers import RawServer
    from tests.proxy.test_fuzzing import Requests, answer, check_requests

if TYPE_CHECKING:
    from tests.proxy.generated import Sent


async def _started(stack: contextlib.AsyncExitStack) -> Requests:
    """Start a proxy in front of a server that answers every request."""
    server = await stack.enter_async_context(RawServer(answer).listening())
    proxy = Proxy(CollectorRegistry())
    stack.push_async_callback(proxy.close)
    url = ServerUrl.from_text(f"http://127.0.0.1:{server.port}")
    settings = ProxiedServer("it", Address("127.0.0.1", 0), (url,), allowed_hosts=frozenset("*"))
    return Requests(server, await proxy.listen(settings))


def main() -> None:
    """Search."""
    loop = asyncio.new_event_loop()
    stack = contextlib.AsyncExitStack()  # what is no longer referred to would be closed
    requests = loop.run_until_complete(_started(stack))

    async def check(sent: Sent) -> None:
        check_requests(*await requests.exchange(sent), requests.host)

    @settings(deadline=None)
    @given(sent=hostile_connections())
    def target(sent: Sent) -> None:
        loop.run_until_complete(check(sent))

    atheris.Setup(sys.argv, target.hypothesis.fuzz_one_input)  # type: ignore[attr-defined] # hypothesis adds it
    atheris.Fuzz()


if __name__ == "__main__":
    main()
