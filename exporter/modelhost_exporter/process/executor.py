"""The event loop's default executor, which asyncio uses for name look-ups."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modelhost_exporter.process import daemon_thread
from modelhost_exporter.threads import CALLS

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_POLL_SECONDS = 0.001


class Executor(ThreadPoolExecutor):
    """An executor for name look-ups that runs them in ``CALLS``, whose threads are not joined at exit."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run a function in a thread of ``CALLS``; raises RuntimeError when the machine has no thread left."""
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = fn(*args, **kwargs)
                except BaseException as error:  # noqa: BLE001 - raised where the future is awaited
                    future.set_exception(error)
                else:
                    future.set_result(result)

        CALLS.submit(work)
        return future


def use_for_name_look_ups(loop: asyncio.AbstractEventLoop) -> None:
    """Make an event loop use ``CALLS``, and not join threads when it ends, for which asyncio starts a new thread."""
    loop.set_default_executor(Executor())
    loop.shutdown_default_executor = _nothing_to_join  # type: ignore[method-assign]


async def start_threads_of_uvloop(loop: asyncio.AbstractEventLoop) -> None:
    """Start the thread that uvloop needs to connect sockets; raises RuntimeError when the machine has none left.

    libuv starts its threads (one is enough, since names are resolved in ``CALLS``) on first use and aborts the process
    when that fails. A trial thread first checks that one can be started; a look-up then makes libuv start its own.
    The trial counts against the limit until the kernel has removed it, which is after its Python has ended.
    """
    os.environ.setdefault("UV_THREADPOOL_SIZE", "1")
    ids: list[int] = []
    trial = daemon_thread.start(lambda: ids.append(threading.get_native_id()), "trial")
    trial.join(daemon_thread.BEGIN_SECONDS)
    end = time.monotonic() + daemon_thread.BEGIN_SECONDS
    while _are_known(ids) and time.monotonic() < end:  # noqa: ASYNC110 - the kernel has no event for it
        await asyncio.sleep(_POLL_SECONDS)
    await loop.getaddrinfo("127.0.0.1", 0)


def _are_known(ids: list[int]) -> bool:
    """Return whether the kernel still has one of these threads."""
    return any(Path(f"/proc/self/task/{id_}").exists() for id_ in ids)


async def _nothing_to_join(*_: object) -> None:
    pass
