"""Track one proxied request and build its ``RequestObservation``. No I/O; nothing in it raises or waits."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from modelhost_exporter import dialects
from modelhost_exporter.dialects.body_parser import BodyParser
from modelhost_exporter.proxy import headers
from modelhost_exporter.proxy.errors import CLIENT_ERROR, SERVER_ERROR
from modelhost_exporter.requests.model_names import UNKNOWN
from modelhost_exporter.requests.observation import (
    NO_REPLY,
    OTHER_OPERATION,
    RequestLabels,
    RequestObservation,
    ServerSeconds,
    Tokens,
)
from modelhost_exporter.requests.stream_clock import StreamClock

if TYPE_CHECKING:
    from modelhost_exporter.dialects import Call, Progress
    from modelhost_exporter.metrics.instruments import Counter, Gauge
    from modelhost_exporter.proxy.server import ServerContext
    from modelhost_exporter.proxy.upstream import ResponseHead
    from modelhost_exporter.requests.observation import Outcome

_STREAM_TYPES = ("text/event-stream", "application/x-ndjson")
_REDIRECT = 300


class Observer:
    """What is known of one request; begun when its head was received, ended by ``finish``."""

    stream = False
    outcome: Outcome = "client_disconnect"
    """What became of the request; this until something else is known."""
    code = NO_REPLY
    _call: Call | None = None
    _body_seen = False
    _status = 0
    _succeeded = False
    _clock = StreamClock()
    """Its own from the first chunk on."""
    _parser: BodyParser | None = None
    _state: Gauge | None = None
    _chunks: Counter | None = None
    _whole = False
    _received_at = 0.0
    _longest_delay = 0.0
    _ended: float | None = None

    def __init__(self, server: ServerContext, method: bytes, target: bytes, client: str | None = None) -> None:
        self._accepted = perf_counter()
        self._server = server
        self._client = client
        # a browser's preflight (OPTIONS) requests no inference
        found = dialects.find_target(target) if method == b"POST" else None
        self.dialect = found[0] if found else None
        """The dialect; None for a path that belongs to none."""
        self._operation = found[1] if found else OTHER_OPERATION

    @property
    def dialect_name(self) -> str | None:
        """The dialect's name."""
        return self.dialect.NAME if self.dialect is not None else None

    def enter(self, state: str) -> None:
        """Count the request in a state (waiting, streaming, blocking) instead of the one before."""
        if self._state is not None:
            self._state.dec()
        labels, metrics = self._labels(), self._server.metrics
        self._state = metrics.in_flight(labels, state)
        self._state.inc()
        metrics.running.enter(self, labels, state, self._client)

    def on_wait(self) -> None:
        """Note that the request waits before its body could be parsed."""
        if self._state is None:
            self.enter("blocking")

    def on_request_forwarded(self, at: float) -> None:
        """Note that the request is about to be sent for the first time."""
        self._server.request_overhead.observe(at - self._accepted)

    def on_request_body(self, body: bytes | None) -> None:
        """Parse the request, once it was sent; None for a body that is too long to parse."""
        if self._body_seen or self._ended is not None:
            return
        self._body_seen = True
        if self.dialect is None:
            self.on_wait()
            return
        try:
            self._call = self.dialect.call(body) if body else None
        except Exception:  # noqa: BLE001 - a fault of a parser must not stop the request
            self._count_parse_error("internal")
        if self._call is not None:
            self.stream = self._call.stream
        if self._chunks is None:  # else the response was faster than the request's body
            self.enter("waiting" if self.stream else "blocking")

    def on_response_start(self, head: ResponseHead) -> None:
        """Note the response's head."""
        content_type = headers.text(head.by_key, b"content-type")
        self._status = head.status
        self.code = str(head.status)
        self._succeeded = head.status < _REDIRECT
        self.stream = self.stream or (self._call is None and content_type.lower().startswith(_STREAM_TYPES))
        if self.dialect is not None:
            encoding = headers.text(head.by_key, b"content-encoding")
            self._parser = BodyParser(self.dialect.reply(content_type), encoding, self._count_parse_error)

    def on_delay(self, seconds: float) -> None:
        """Note how long a part of the response stayed in the proxy."""
        self._longest_delay = max(self._longest_delay, seconds)

    def on_chunk(self, content: bytes, at: float) -> bool:
        """Note the delay of a chunk that was received and forwarded as it is, and parse it likewise."""
        delay = perf_counter() - at
        self._longest_delay = max(self._longest_delay, delay)
        return self.on_response_data(content, at)

    def on_response_data(self, piece: bytes, at: float) -> bool:
        """Parse a first part of a piece of the response that was forwarded; ``at`` is when it was received.

        Return whether there is more of it to parse.
        """
        parser = self._parser
        if parser is None:
            return False
        self._received_at = at
        progress = parser.feed(piece)
        if progress.chunks:
            self._count(progress)
        return parser.is_behind

    @property
    def is_behind(self) -> bool:
        """Whether there is more to parse of what was forwarded."""
        return self._parser is not None and self._parser.is_behind

    def parse_next(self) -> None:
        """Parse the next part."""
        if self._parser is not None:
            progress = self._parser.parse_next()
            if progress.chunks:
                self._count(progress)

    def stop_parsing(self) -> None:
        """Ignore what is not parsed yet."""
        if self._parser is not None:
            self._parser.stop()

    def _count(self, progress: Progress) -> None:
        """Count the chunks of a part of a piece."""
        chunks, answer = progress
        if self._chunks is None:
            self._clock = StreamClock()
        self._clock.chunk(self._received_at, answer=answer, count=chunks)
        if self._chunks is None:
            self._chunks = self._server.metrics.chunks(self._labels())
            self.enter("streaming")
        self._chunks.inc(chunks)

    def on_end(self) -> None:
        """Note that the last byte was written to the client, or that the client has left."""
        if self._ended is None:
            self._ended = perf_counter()

    def on_response_end(self) -> None:
        """Note that the whole response was forwarded, which decides the outcome."""
        self._whole = True
        self.on_end()

    def _judge(self) -> None:
        """Decide the outcome."""
        if self._whole:
            self.outcome = self._outcome_of_whole()
        elif self.outcome == "client_disconnect" and self._succeeded and self._has_dialects_end():
            self.outcome = "ok"  # some clients close after [DONE]

    def _outcome_of_whole(self) -> Outcome:
        if self._status >= SERVER_ERROR:
            return "server_error"
        if self._status >= CLIENT_ERROR:
            return "client_error"
        parser = self._parser
        if parser is not None and self._succeeded:
            usage = parser.finish()
            if usage.failed or not (usage.complete or parser.is_blind):
                return "stream_error"
        return "ok"

    def _has_dialects_end(self) -> bool:
        """Return whether the response was complete for its dialect, though HTTP had not ended it."""
        if self._parser is None or self._parser.is_blind:
            return False
        usage = self._parser.finish(cut=True)
        return usage.complete and not usage.failed

    def finish(self) -> RequestObservation:
        """Record the request and return what is known of it; to be called once, when nothing is left to parse."""
        self.on_end()
        self._judge()
        server = self._server
        if self._state is not None:
            self._state.dec()
            server.metrics.running.leave(self)
        if self._succeeded:
            server.response_overhead.observe(self._longest_delay)
        observed = self._observed()
        server.metrics.record(observed, server.objectives_of(observed.labels.model))
        self._parser = None  # its callback refers to this observer: a cycle for each request
        return observed

    def _labels(self) -> RequestLabels:
        """Return the labels as far as they are known."""
        return RequestLabels(server=self._server.name, model=self._model(), operation=self._operation)

    def _model(self) -> str:
        """Return the label of the model: what the request named, else what the response names.

        Routers write the names of their backends into responses, and hosted APIs dated ones. A name takes no place when
        the client leaves before the first token: else it could fill them all with names that the server does not have.
        """
        if self.dialect is None:
            return UNKNOWN
        replied = self._parser.model if self._parser is not None else None
        answered = replied is not None or self._clock.first is not None or self.outcome != "client_disconnect"
        named = self._call.model if self._call is not None else None
        return self._server.names.label(named or replied, succeeded=self._succeeded and answered)

    def _count_parse_error(self, reason: str) -> None:
        self._server.self_metrics.parse_error(self._server.name, self.dialect_name or "none", reason)

    def _observed(self) -> RequestObservation:
        labels = self._labels()
        parser = self._parser
        usage = parser.finish(cut=not self._whole) if parser is not None else dialects.Usage()
        timed = self.stream and self.outcome == "ok"
        clock, ended = self._clock, self._ended or 0.0
        return RequestObservation(
            labels=labels if usage.is_inference else labels._replace(operation=OTHER_OPERATION),
            stream=self.stream,
            outcome=self.outcome,
            code=self.code,
            duration=ended - self._accepted,
            time_to_first_token=clock.first - self._accepted if timed and clock.first is not None else None,
            time_to_first_answer_token=(
                clock.first_answer - self._accepted if timed and clock.first_answer is not None else None
            ),
            time_per_output_token=(
                clock.time_per_output_token(usage.output_tokens) if timed and usage.choices == 1 else None
            ),
            max_gap=clock.max_gap if timed else None,
            finish_reasons=usage.finish_reasons,
            tokens=Tokens(
                usage.input_tokens,
                usage.input_cache_hit,
                usage.input_cache_write,
                usage.output_tokens,
                usage.output_reasoning,
                usage.source,
            ),
            server_seconds=ServerSeconds(
                usage.prefill_seconds, usage.decode_seconds, usage.queue_seconds, usage.load_seconds
            ),
            chunks=clock.chunks,
            decode_seconds=clock.decode_seconds,
            is_parsed=parser is None or not parser.is_blind,
            choices=self._call.choices if self._call is not None else 1,
            client=self._client,
        )
