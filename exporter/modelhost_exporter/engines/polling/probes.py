"""Probes: a request for one token on a schedule, to distinguish silence from breakage. Off unless configured."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from modelhost_exporter.engines.metrics import PROBE_DURATION, PROBES
from modelhost_exporter.engines.pages import read_json
from modelhost_exporter.engines.polling.fetching import CannotFetch, Fetcher
from modelhost_exporter.metrics.instruments import live_counter, live_histogram, nothing_expected
from modelhost_exporter.metrics.label_values import bounded
from modelhost_exporter.untrusted_json import child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import CollectorRegistry

    from modelhost_exporter.engines.model_history import Known
    from modelhost_exporter.engines.polling.fetching import Connect
    from modelhost_exporter.engines.polling.server_poller import ServerPoller
    from modelhost_exporter.engines.polling.settings import PolledServer, Probe

_SERVER_ERROR = 500
OUTCOMES = ("ok", "client_error", "server_error", "timeout", "upstream_unreachable", "not_understood")


# operation → path, what is sent beside the model, where an answer has its results
_REQUESTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "stream": False},
        "choices",
    ),
    "text_completion": ("/v1/completions", {"prompt": "Hi", "max_tokens": 1, "stream": False}, "choices"),
    "embeddings": ("/v1/embeddings", {"input": "Hi"}, "data"),
}


class ProbeMetrics:
    """Counts probes of every server; those of one replica are counted by one thread."""

    def __init__(
        self, registry: CollectorRegistry, expected: Callable[[], Iterable[tuple[str, ...]]] = nothing_expected
    ) -> None:
        """Register the metrics; ``expected`` returns the label values of probes that start at 0."""
        self._probes = live_counter(PROBES, registry, expected)
        self._seconds = live_histogram(PROBE_DURATION, registry)

    def record(self, key: tuple[str, str], model: str, outcome: str, seconds: float) -> None:
        """Count one probe of a (server, upstream)."""
        self._probes.labels(*key, model, outcome).inc()
        if outcome == "ok":
            self._seconds.labels(*key, model).observe(seconds)


class Prober:
    """Probes the models of one server or replica, one after the other, with a connection of its own."""

    def __init__(
        self,
        server: PolledServer,
        watch: ServerPoller,
        metrics: ProbeMetrics,
        *,
        now: Callable[[], float] = time.perf_counter,
        connect: Connect = Fetcher,
    ) -> None:
        if server.probe is None:
            raise ValueError(f"{server.name} has no probe")
        self._settings: Probe = server.probe
        self._key = server.key
        self._watch = watch
        self._metrics = metrics
        self._now = now
        self._fetcher = connect(server.url.text, server.headers, server.probe.timeout)
        self.interval: float = server.probe.interval

    def probe(self) -> bool:
        """Probe each model once; always True: a failure is no reason to probe less."""
        for name, label in list(self._models()):
            began = self._now()
            outcome = self._outcome(name)
            self._metrics.record(self._key, label, outcome, self._now() - began)
        return True

    def close(self) -> None:
        """Close the connection."""
        self._fetcher.close()

    def labels(self) -> list[str]:
        """Return the labels of models that are loaded, or were: a counter stays; for any thread."""
        return [label for label, known in self._wanted() if known.loaded is not False or known.unloads]

    def _models(self) -> Iterator[tuple[str, str]]:
        """Yield name and label of each model that may be probed: never one whose load that would cause."""
        if self._watch.may_load_unseen():
            return
        for label, known in self._wanted():
            if known.loaded is not False:
                yield known.model.name, label

    def _wanted(self) -> Iterator[tuple[str, Known]]:
        """Yield label and state of each known model that the configuration wants probed."""
        names = set(map(bounded, self._settings.models))
        for label, known in list(self._watch.history.models()):
            if not names or known.model.names & names:
                yield label, known

    def _outcome(self, model: str) -> str:
        path, rest, results = _REQUESTS[self._settings.operation]
        try:
            body = json.dumps({"model": model, **rest}).encode()
            answer = read_json(lambda path: self._fetcher.post(path, body), path)
        except LookupError as refusal:
            status = refusal.args[1] if len(refusal.args) > 1 else _SERVER_ERROR
            return "server_error" if status >= _SERVER_ERROR else "client_error"
        except TimeoutError:
            return "timeout"
        except CannotFetch:
            return "not_understood"
        except OSError:
            return "upstream_unreachable"
        except ValueError:
            return "not_understood"
        return "ok" if child(answer, results) else "not_understood"
