"""What is found out about one request while it passes, and the one observation that is made of it."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp import hdrs

from modelhost_exporter import dialects
from modelhost_exporter.proxy.failures import CLIENT_ERROR, SERVER_ERROR
from modelhost_exporter.proxy.watch import Watch
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
    from aiohttp import web
    from aiohttp.http import RawResponseMessage

    from modelhost_exporter.dialects import Call, Progress
    from modelhost_exporter.metrics.instruments import Counter, Gauge
    from modelhost_exporter.proxy.target import Target
    from modelhost_exporter.requests.observation import Outcome

_STREAM_TYPES = ("text/event-stream", "application/x-ndjson")
_REDIRECT = 300


class Account:
    """One request's account; begun when its head is here. Nothing in it raises or waits."""

    def __init__(self, target: Target, request: web.BaseRequest) -> None:
        self._accepted = perf_counter()
        self._target = target
        # a browser's preflight (OPTIONS) asks no model for anything
        found = dialects.find(request.path) if request.method == hdrs.METH_POST else None
        self.format = found[0] if found else None
        """The dialect; None for a path that belongs to none."""
        self._operation = found[1] if found else OTHER_OPERATION
        self._looked = False
        self._call: Call | None = None
        self.stream = False
        self.outcome: Outcome = "client_disconnect"  # what it was when nothing else is found out
        self.code = NO_REPLY
        self._status = 0
        self._succeeded = False
        self._clock = StreamClock()
        self._watch: Watch | None = None
        self._phase: Gauge | None = None
        self._chunks: Counter | None = None
        self._whole = False
        self._seen_at = 0.0
        self._slowest_piece = 0.0
        self._ended: float | None = None

    @property
    def dialect(self) -> str | None:
        """The dialect's name."""
        return self.format.NAME if self.format is not None else None

    def enter(self, phase: str) -> None:
        """Count the request in a phase and no longer in the one before."""
        if self._phase is not None:
            self._phase.dec()
        self._phase = self._target.metrics.in_flight(self._labels(), phase)
        self._phase.inc()

    def waits(self) -> None:
        """Note that something is waited for before the request's body could be looked at."""
        if self._phase is None:
            self.enter("blocking")

    def passed_on(self) -> None:
        """Note that the request is about to be sent."""
        self._target.health.overhead(self._target.name, "request", perf_counter() - self._accepted)

    def look(self, body: bytes) -> None:
        """Read the request, which is on its way already; once, and not when all is over."""
        if self._looked or self._ended is not None:
            return
        self._looked = True
        if self.format is None:
            self.waits()
            return
        try:
            seen = body and len(body) <= self._target.settings.max_inspected_body_bytes
            self._call = self.format.call(body) if seen else None
        except Exception:  # noqa: BLE001 - reading along must not hurt
            self._count_parse_error("internal")
        if self._call is not None:
            self.stream = self._call.stream
        if self._chunks is None:  # else the reply was faster than the request's body
            self.enter("waiting" if self.stream else "blocking")

    def replied(self, reply: RawResponseMessage) -> None:
        """Take the reply's head."""
        content_type = reply.headers.get(hdrs.CONTENT_TYPE, "")
        self._status = reply.code
        self._succeeded = reply.code < _REDIRECT
        self.stream = self.stream or (self._call is None and content_type.lower().startswith(_STREAM_TYPES))
        if self.format is not None:
            self._watch = Watch(
                self.format.reply(content_type),
                reply.headers.get(hdrs.CONTENT_ENCODING, ""),
                self._count_parse_error,
            )

    def spent(self, seconds: float) -> None:
        """Note how long the reply's head or a piece of it was held up here."""
        self._slowest_piece = max(self._slowest_piece, seconds)

    def saw(self, piece: bytes, at: float) -> None:
        """Parse a first part of a piece of the reply that was passed on; ``at`` is when it came."""
        if self._watch is not None:
            self._seen_at = at
            self._note(self._watch.feed(piece))

    @property
    def is_behind(self) -> bool:
        """Whether there is more to parse of what was passed on: other connections have their turn in between."""
        return self._watch is not None and self._watch.is_behind

    def catch_up(self) -> None:
        """Parse the next part."""
        if self._watch is not None:
            self._note(self._watch.catch_up())

    def stop_parsing(self) -> None:
        """Leave what is not parsed yet."""
        if self._watch is not None:
            self._watch.stop()

    def _note(self, progress: Progress) -> None:
        """Count the tokens of a part of a piece."""
        chunks, answer = progress
        if not chunks:
            return
        self._clock.chunk(self._seen_at, answer=answer)
        if self._chunks is None:
            self._chunks = self._target.metrics.chunks(self._labels())
            self.enter("streaming")
        self._chunks.inc(chunks)

    def end(self) -> None:
        """Note that the client was given the last byte, or is gone."""
        if self._ended is None:
            self._ended = perf_counter()

    def passed_whole(self) -> None:
        """Note that the reply was passed on to its end, which decides the outcome."""
        self._whole = True

    def _judge(self) -> None:
        """Find the outcome of a request whose reply was passed on to its end."""
        if self._status >= SERVER_ERROR:
            self.outcome = "server_error"
        elif self._status >= CLIENT_ERROR:
            self.outcome = "client_error"
        elif self._watch is not None and self._succeeded and self._watch.failed:
            self.outcome = "stream_error"
        else:
            self.outcome = "ok"

    def record(self) -> None:
        """Count the request; to be called once, when nothing is left to parse."""
        self.end()
        if self._whole:
            self._judge()
        if self._phase is not None:
            self._phase.dec()
        target = self._target
        if self._succeeded:
            target.health.overhead(target.name, "response", self._slowest_piece)
        observed = self._observed()
        target.metrics.record(observed, target.settings.objectives_of(observed.labels.model))
        self._watch = None  # its callback refers to this account: a cycle for each request

    def _labels(self) -> RequestLabels:
        """Return the labels as far as they are known."""
        return RequestLabels(server=self._target.name, model=self._model(), operation=self._operation)

    def _model(self) -> str:
        """Return the label of the model: what the reply names, else what the request named.

        A name that is only the client's takes no place when the client leaves before the first token: else it could
        fill them all with names that the server does not have.
        """
        if self.format is None:
            return UNKNOWN
        named = self._watch.model if self._watch is not None else None
        answered = named is not None or self._clock.first is not None or self.outcome != "client_disconnect"
        if named is None and self._call is not None:
            named = self._call.model
        return self._target.names.label(named, succeeded=self._succeeded and answered)

    def _count_parse_error(self, reason: str) -> None:
        self._target.health.parse_error(self._target.name, self.dialect or "none", reason)

    def _observed(self) -> RequestObservation:
        labels = self._labels()
        usage = self._watch.finish(cut=not self._whole) if self._watch is not None else dialects.Usage()
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
        )
