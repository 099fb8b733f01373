"""The event loop's default executor, which asyncio uses for name look-ups."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from modelhost_exporter.process import daemon_thread
from modelhost_exporter.threads import CALLS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")


class Executor(ThreadPoolExecutor):
    """A default executor for name look-ups, whose threads are not joined at the end."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a function in a thread of ``CALLS``; RuntimeError when the machine has no thread left."""
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = fn(*args, **kwargs)
                except BaseException as error:  # noqa: BLE001 - for whoever waits
                    future.set_exception(error)
                else:
                    future.set_result(result)

        CALLS.submit(work)
        return future


def use_for_name_look_ups(loop: asyncio.AbstractEventLoop) -> None:
    """Make an event loop use ``CALLS`` and join no thread when it ends, which would need a new thread."""
    loop.set_default_executor(Executor())
    loop.shutdown_default_executor = _nothing_to_join  # type: ignore[method-assign]


async def start_threads_of_uvloop(loop: asyncio.AbstractEventLoop) -> None:
    """Start the thread that uvloop needs to connect sockets; RuntimeError when the machine has none left.

    libuv starts its threads (one is enough: names are resolved in ``CALLS``) when the first one is needed, and aborts
    the process where that fails: so one is needed now, and only after another thread could be started.
    """
    os.environ.setdefault("UV_THREADPOOL_SIZE", "1")
    trial = daemon_thread.start(_nothing, "trial")
    trial.join(daemon_thread.BEGIN_SECONDS)
    await loop.getaddrinfo("127.0.0.1", 0)


def _nothing() -> None:
    pass


async def _nothing_to_join(*_: object) -> None:
    pass
