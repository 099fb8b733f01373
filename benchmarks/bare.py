"""A bare aiohttp proxy that measures nothing, to compare the exporter's proxy with.

``python -m benchmarks.bare PORT UPSTREAM``
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from benchmarks.loops import loop_factory

_HOP_BY_HOP = (hdrs.CONNECTION, hdrs.KEEP_ALIVE, hdrs.TRANSFER_ENCODING, hdrs.HOST)


async def _serve(port: int, upstream: str) -> None:
    async with aiohttp.ClientSession(
        auto_decompress=False,
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
    ) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            async with session.request(
                request.method,
                URL(upstream + request.raw_path, encoded=True),
                headers=_end_to_end(CIMultiDict(request.headers)),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
            ) as reply:
                response = web.StreamResponse(
                    status=reply.status, reason=reply.reason, headers=_end_to_end(CIMultiDict(reply.headers))
                )
                await response.prepare(request)
                async for piece in reply.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
                return response

        runner = web.ServerRunner(web.Server(handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        await asyncio.Event().wait()


def _end_to_end(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    for name in _HOP_BY_HOP:
        headers.popall(name, None)
    return headers


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(_serve(int(sys.argv[1]), sys.argv[2]))
