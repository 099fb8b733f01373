"""The real program without garbage collection; each SIGUSR1 logs how many objects have been left in cycles so far."""

from __future__ import annotations

import gc
import json
import signal
import sys
import types
from collections import Counter

from modelhost_exporter import cli


def left() -> dict[str, int]:
    """Return how many of the exporter's objects, errors and frames wait for a garbage collection, by kind."""
    gc.collect()  # frees nothing: see DEBUG_SAVEALL
    counts: Counter[str] = Counter()
    for one in gc.garbage:
        kind = type(one)
        if isinstance(one, types.FrameType):
            counts[f"frame {one.f_code.co_qualname}"] += 1
        elif isinstance(one, BaseException) or kind.__module__.partition(".")[0] == "modelhost_exporter":
            counts[kind.__qualname__] += 1
    return counts


def report(*_: object) -> None:
    """Write the counts as one line."""
    print(json.dumps({"msg": "left", "left": left()}), file=sys.stderr, flush=True)  # noqa: T201 - read by the test


if __name__ == "__main__":
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    signal.signal(signal.SIGUSR1, report)
    sys.exit(cli.main())
