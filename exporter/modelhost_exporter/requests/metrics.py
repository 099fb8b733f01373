"""Metric families of requests, and ``RequestMetrics``, which counts each request once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.metrics.families import counter, gauge, histogram
from modelhost_exporter.metrics.instruments import (
    live_counter,
    live_gauge,
    live_histogram,
    nothing_expected,
    occasional_gauge,
)
from modelhost_exporter.requests.model_names import UNKNOWN
from modelhost_exporter.requests.observation import ERRORS, NO_SECONDS, RequestLabels, ServerSeconds
from modelhost_exporter.requests.running import RunningRequests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import CollectorRegistry

    from modelhost_exporter.metrics.instruments import Counter, Gauge, Instrument
    from modelhost_exporter.requests.listener import ObservationListener, RemovalListener
    from modelhost_exporter.requests.observation import RequestObservation, Tokens
    from modelhost_exporter.requests.slo import Objectives

# Supersets of the bounds that OpenTelemetry's GenAI conventions recommend, so that queries for those stay exact.
# Additional bounds reduce the error of a median (docs/metrics.md).
DURATION = (
    *(0.0025, 0.005, 0.01, 0.014, 0.02, 0.028, 0.04, 0.056, 0.08, 0.1, 0.13, 0.16, 0.23, 0.32, 0.4, 0.5, 0.64, 0.8),
    *(1, 1.28, 1.8, 2.56, 3.6, 5, 5.12, 7.2, 10.24, 15, 20.48, 30, 40.96, 60, 81.92, 120, 240, 480, 900),
    *(1800, 3600, 7200),
)
TTFT = (
    *(0.001, 0.002, 0.0035, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75),
    *(1, 1.5, 2, 2.5, 3.5, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 240, 480, 900, 1800),
)
TPOT = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2),
    *(0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 2.5, 3.5, 5, 7.5, 10),
)
PHASE = (0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 240, 480)
TOKENS = (1, 4, 16, 64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144, 1048576)

_COMMON = RequestLabels._fields

REQUESTS = counter(
    "requests",
    "Finished requests by outcome and status code.",
    *_COMMON,
    "stream",
    "outcome",
    "code",
    note=(
        "Errors are the outcomes server_error, timeout, upstream_unreachable, stream_error and "
        "proxy_error (the proxy's own fault). code is the status sent to the client, or 'none'. Leave "
        "operation 'other' out of error rates."
    ),
)
REQUEST_ERRORS = counter(
    "request_errors",
    "Finished requests that failed because of the server or the proxy, by outcome.",
    *_COMMON,
    "outcome",
    note=(
        "The outcomes that error rates count: server_error, timeout, upstream_unreachable, stream_error and "
        "proxy_error; client_error and client_disconnect are not errors of the server, and operation 'other' is left "
        "out. Starts at 0 with the exporter for models that are configured or that the engine lists, and for the "
        "models 'other' and 'unknown', so that increase() counts the first failures too: for the operation 'chat' "
        "and each operation that a request to the server had. Other models start with their first request."
    ),
)
IN_FLIGHT = gauge(
    "requests_in_flight",
    "Requests in progress by state (waiting, streaming, blocking).",
    *_COMMON,
    "state",
    note=(
        "A series appears when a scrape first finds a request; then it is 0 in between. "
        "waiting: streams before their first token; streaming: streams after it; blocking: requests for "
        "a whole response. The model is the one that the request names, and once tokens arrive the "
        "response's."
    ),
)
_SECONDS = {
    "duration": histogram(
        "request_duration_seconds",
        "Duration from a request's headers to the last byte of its response, by outcome (ok, error).",
        DURATION,
        *_COMMON,
        "outcome",
        note=(
            "Until the byte was written to the client's socket. error is every outcome but ok; "
            "modelhost_requests_total has each."
        ),
    ),
    "time_to_first_token": histogram(
        "request_time_to_first_token_seconds",
        "Time from a request's headers to the first token of its response.",
        TTFT,
        *_COMMON,
        note=(
            "A token of any kind (answer, reasoning, tool call); queue, model load and prompt included. "
            "Successful streams only."
        ),
    ),
    "time_to_first_answer_token": histogram(
        "request_time_to_first_answer_token_seconds",
        "Time from a request's headers to the first token that is not reasoning.",
        TTFT,
        *_COMMON,
        note="The wait that a person notices. Successful streams only.",
    ),
    "time_per_output_token": histogram(
        "request_time_per_output_token_seconds",
        "Mean time between two output tokens of a request.",
        TPOT,
        *_COMMON,
        note=(
            "(Last token - first token) / (output tokens - 1), with the server's count of tokens, since a "
            "chunk is not a token. Successful streams of one choice only."
        ),
    ),
    "max_gap": histogram(
        "request_stream_max_gap_seconds",
        "Longest pause between two chunks with tokens of a stream.",
        PHASE,
        *_COMMON,
        note="Successful streams only.",
    ),
}
_SERVER_SECONDS = {
    "prefill": histogram(
        "request_prefill_seconds",
        "Time spent on the prompt, as the server reports it for each request.",
        PHASE,
        *_COMMON,
    ),
    "decode": histogram(
        "request_decode_seconds",
        "Time spent on the output, as the server reports it for each request.",
        PHASE,
        *_COMMON,
    ),
    "queue": histogram(
        "request_queue_seconds", "Time spent in the queue, as the server reports it for each request.", PHASE, *_COMMON
    ),
    "load": histogram(
        "request_load_seconds",
        "Time to load the model, as the server reports it for each request.",
        PHASE,
        *_COMMON,
        note="Ollama's includes waiting for a place.",
    ),
}
INPUT_SIZE = histogram(
    "request_input_tokens",
    "Input tokens of a request, cached ones included.",
    TOKENS,
    *_COMMON,
    note="As the server counts them.",
)
OUTPUT_SIZE = histogram(
    "request_output_tokens",
    "Output tokens of a request, reasoning included.",
    TOKENS,
    *_COMMON,
    note="As the server counts them.",
)
INPUT_TOKENS = counter(
    "input_tokens",
    "Input tokens by cache result (hit, miss, write, unknown).",
    *_COMMON,
    "cache",
    note="Disjoint; their sum is all input tokens. unknown where the server does not report it.",
)
OUTPUT_TOKENS = counter(
    "output_tokens",
    "Output tokens by type (response, reasoning, unknown).",
    *_COMMON,
    "type",
    note="Disjoint; unknown where the server does not report it.",
)
FINISHED = counter(
    "choices_finished",
    "Finished choices by finish reason.",
    *_COMMON,
    "finish_reason",
    note="A response has one choice unless the request sets a larger n.",
)
CHUNKS = counter(
    "stream_chunks",
    "Chunks with tokens, counted while a stream runs.",
    *_COMMON,
    note="Shows progress before a request ends. A chunk is not a token.",
)
SLO_REQUESTS = counter("slo_requests", "Requests to which an objective applied.", *_COMMON, "slo")
SLO_GOOD = counter(
    "slo_good_requests", "Requests that met the objective.", *_COMMON, "slo", note="Decided exactly, per request."
)
GOODPUT_REQUESTS = counter("goodput_requests", "Requests to which any objective applied.", *_COMMON)
GOODPUT_GOOD = counter("goodput_good_requests", "Requests that met all objectives that applied.", *_COMMON)
SLO_THRESHOLD = gauge("slo_threshold_seconds", "Configured threshold of an objective.", *_COMMON, "slo")
SLO_RATIO = gauge("slo_objective_ratio", "Configured share of requests that should meet an objective.", *_COMMON, "slo")
USAGE_SOURCE = counter(
    "requests_by_usage_source",
    "Successful requests by the source of their token counts.",
    *_COMMON,
    "source",
    note="Those with 'none' are missing from the token metrics.",
)
FAMILIES = (
    REQUESTS,
    REQUEST_ERRORS,
    IN_FLIGHT,
    *_SECONDS.values(),
    *_SERVER_SECONDS.values(),
    *(INPUT_SIZE, OUTPUT_SIZE, INPUT_TOKENS, OUTPUT_TOKENS, FINISHED, CHUNKS),
    *(SLO_REQUESTS, SLO_GOOD, GOODPUT_REQUESTS, GOODPUT_GOOD, SLO_THRESHOLD, SLO_RATIO, USAGE_SOURCE),
)


_USUAL_OPERATION = "chat"
"""The operation whose errors start at 0 before any request: all of them would be 35 series for each listed model."""


class RequestMetrics:
    """The metrics of all proxied requests in one registry; counted by one thread, read by any."""

    def __init__(
        self,
        registry: CollectorRegistry,
        listeners: Sequence[ObservationListener] = (),
        removal_listeners: Sequence[RemovalListener] = (),
        known_models: Callable[[], Iterable[tuple[str, str]]] = nothing_expected,
        running: RunningRequests | None = None,
    ) -> None:
        """Register the metrics. Each listener receives every finished request, in the thread that records it.

        Each removal listener receives every model whose series were removed. ``known_models`` returns, in any thread,
        the (server, model) labels whose errors are shown before a request.
        """
        self._listeners = tuple(listeners)
        self._removal_listeners = tuple(removal_listeners)
        self._instruments = _Instruments(registry, known_models)
        self.running = RunningRequests() if running is None else running
        """The requests in progress one by one, beside the gauge that counts them."""
        self._series: dict[RequestLabels, _Series] = {}

    def is_idle(self) -> bool:
        """Return whether no request is in progress."""
        families = self._instruments.in_flight.collect()
        return not any(sample.value for family in families for sample in family.samples)

    def remove_model(self, server: str, model: str) -> bool:
        """Remove the series of a model; return False, and remove nothing, while it has a request in progress."""
        if any(child.value for child in self._instruments.in_flight.children(server=server, model=model).values()):
            return False
        for listener in self._removal_listeners:
            listener(server, model)
        for labels in [labels for labels in self._series if labels.server == server and labels.model == model]:
            del self._series[labels]
        for instrument in self._instruments.all:
            instrument.remove(server=server, model=model)
        return True

    def in_flight(self, labels: RequestLabels, state: str) -> Gauge:
        """Return the gauge of the requests in progress in one state, for inc() and dec()."""
        return self._of(labels).in_flight[state]

    def chunks(self, labels: RequestLabels) -> Counter:
        """Return the counter of streamed chunks, for inc()."""
        return self._instruments.chunks.labels(*labels)

    def record(self, observed: RequestObservation, objectives: Objectives) -> None:
        """Count one finished request and pass it to the listeners."""
        for listener in self._listeners:
            listener(observed)
        labels = observed.labels
        series = self._of(labels)
        ok = observed.outcome == "ok"
        series.requests["true" if observed.stream else "false", observed.outcome, observed.code].inc()
        series.duration["ok" if ok else "error"].observe(observed.duration)
        if not labels.is_inference:
            return
        if observed.outcome in ERRORS:
            series.errors[observed.outcome].inc()
        if ok:
            series.usage_source[observed.tokens.source].inc()
            series.record_seconds(observed)
        series.record_tokens(observed.tokens)
        for reason in observed.finish_reasons:
            series.finished[reason].inc()
        if objectives.given and labels.model != UNKNOWN and observed.is_parsed:
            series.record_objectives(observed, objectives)

    def _of(self, labels: RequestLabels) -> _Series:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series(self._instruments, labels)
        return series


class _Instruments:
    """The instruments of all families of requests."""

    def __init__(self, registry: CollectorRegistry, known_models: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._known_models = known_models
        self.requests = live_counter(REQUESTS, registry)
        self.errors = live_counter(REQUEST_ERRORS, registry, self._expected_errors)
        self.in_flight = occasional_gauge(IN_FLIGHT, registry)
        self.seconds = {name: live_histogram(family, registry) for name, family in _SECONDS.items()}
        self.server_seconds = {name: live_histogram(family, registry) for name, family in _SERVER_SECONDS.items()}
        self.input_size = live_histogram(INPUT_SIZE, registry)
        self.output_size = live_histogram(OUTPUT_SIZE, registry)
        self.input_tokens = live_counter(INPUT_TOKENS, registry)
        self.output_tokens = live_counter(OUTPUT_TOKENS, registry)
        self.finished = live_counter(FINISHED, registry)
        self.chunks = live_counter(CHUNKS, registry)
        self.slo_requests = live_counter(SLO_REQUESTS, registry)
        self.slo_good = live_counter(SLO_GOOD, registry)
        self.goodput_requests = live_counter(GOODPUT_REQUESTS, registry)
        self.goodput_good = live_counter(GOODPUT_GOOD, registry)
        self.slo_threshold = live_gauge(SLO_THRESHOLD, registry)
        self.slo_ratio = live_gauge(SLO_RATIO, registry)
        self.usage_source = live_counter(USAGE_SOURCE, registry)
        counters = (self.requests, self.errors, self.input_tokens, self.output_tokens, self.finished, self.chunks)
        slo = (self.slo_requests, self.slo_good, self.goodput_requests, self.goodput_good)
        gauges = (self.in_flight, self.slo_threshold, self.slo_ratio)
        sizes = (self.input_size, self.output_size)
        self.all: list[Instrument[Any]] = [*counters, *slo, self.usage_source, *gauges, *sizes]
        self.all += (*self.seconds.values(), *self.server_seconds.values())

    def _expected_errors(self) -> Iterator[tuple[str, ...]]:
        """Yield the label values of errors that start at 0."""
        operations: dict[str, set[str]] = {}
        for server, _, operation, _ in list(self.errors.children()):
            operations.setdefault(server, {_USUAL_OPERATION}).add(operation)
        for server, model in self._known_models():
            for operation in operations.get(server, (_USUAL_OPERATION,)):
                for outcome in ERRORS:
                    yield server, model, operation, outcome


class _Series:
    """The series of one combination of labels, looked up once: a request updates a dozen of them.

    Counters and gauges appear when they are first used; histograms are bound at once, since they appear with their
    first observation.
    """

    def __init__(self, instruments: _Instruments, labels: RequestLabels) -> None:
        self.requests = instruments.requests.bind(*labels)
        self.errors = instruments.errors.bind(*labels)
        if labels.is_inference:
            for outcome in sorted(ERRORS):
                self.errors[outcome]  # starts at 0, with the model's first request
        self.in_flight = instruments.in_flight.bind(*labels)
        self.duration = instruments.seconds["duration"].bind(*labels)
        self.usage_source = instruments.usage_source.bind(*labels)
        self.finished = instruments.finished.bind(*labels)
        self._ttft = instruments.seconds["time_to_first_token"].labels(*labels)
        self._ttfat = instruments.seconds["time_to_first_answer_token"].labels(*labels)
        self._tpot = instruments.seconds["time_per_output_token"].labels(*labels)
        self._max_gap = instruments.seconds["max_gap"].labels(*labels)
        names = ServerSeconds._fields
        self._server_seconds = [instruments.server_seconds[name].labels(*labels) for name in names]
        self._input_size = instruments.input_size.labels(*labels)
        self._output_size = instruments.output_size.labels(*labels)
        self._input_tokens = instruments.input_tokens.bind(*labels)
        self._output_tokens = instruments.output_tokens.bind(*labels)
        self._instruments = instruments
        self._labels = labels

    def record_seconds(self, observed: RequestObservation) -> None:
        """Record the times of a successful request."""
        if observed.time_to_first_token is not None:
            self._ttft.observe(observed.time_to_first_token)
        if observed.time_to_first_answer_token is not None:
            self._ttfat.observe(observed.time_to_first_answer_token)
        if observed.time_per_output_token is not None:
            self._tpot.observe(observed.time_per_output_token)
        if observed.max_gap is not None:
            self._max_gap.observe(observed.max_gap)
        if observed.server_seconds != NO_SECONDS:
            for histogram_, seconds in zip(self._server_seconds, observed.server_seconds, strict=True):
                if seconds is not None:
                    histogram_.observe(seconds)

    def record_tokens(self, tokens: Tokens) -> None:
        """Record the tokens that the server counted."""
        if tokens.input is not None:
            self._input_size.observe(tokens.input)
            for cache, count in input_parts(tokens):
                self._input_tokens[cache].inc(count)
        if tokens.output is not None:
            self._output_size.observe(tokens.output)
            for type_, count in output_parts(tokens):
                self._output_tokens[type_].inc(count)

    def record_objectives(self, observed: RequestObservation, objectives: Objectives) -> None:
        """Record which objectives the request met; there must be one."""
        of, labels = self._instruments, self._labels
        for slo, objective in objectives.given:  # a request that misses all of them is counted as well
            of.slo_requests.labels(*labels, slo)
            of.slo_good.labels(*labels, slo)
            of.slo_threshold.labels(*labels, slo).set(objective.threshold)
            of.slo_ratio.labels(*labels, slo).set(objective.target)
        counted, met_all = of.goodput_requests.labels(*labels), of.goodput_good.labels(*labels)
        verdicts = objectives.verdicts(observed)
        for slo, good in verdicts.items():
            of.slo_requests.labels(*labels, slo).inc()
            of.slo_good.labels(*labels, slo).inc(good)
        if verdicts:
            counted.inc()
            met_all.inc(all(verdicts.values()))


def input_parts(tokens: Tokens) -> Sequence[tuple[str, int]]:
    """Return (``cache`` label, tokens) for the disjoint parts of the input; parts that are 0 are left out."""
    if tokens.input is None:
        return ()
    if tokens.input_cache_hit is None and tokens.input_cache_write is None:
        return (("unknown", tokens.input),)
    hit, write = tokens.input_cache_hit or 0, tokens.input_cache_write or 0
    parts = (("hit", hit), ("write", write), ("miss", tokens.input - hit - write))
    return [part for part in parts if part[1] > 0]


def output_parts(tokens: Tokens) -> Sequence[tuple[str, int]]:
    """Return (``type`` label, tokens) for the disjoint parts of the output; parts that are 0 are left out."""
    if tokens.output is None:
        return ()
    if tokens.output_reasoning is None:
        return (("unknown", tokens.output),)
    parts = (("reasoning", tokens.output_reasoning), ("response", tokens.output - tokens.output_reasoning))
    return [part for part in parts if part[1] > 0]
