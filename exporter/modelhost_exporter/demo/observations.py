"""What the proxy would have observed of simulated requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.requests.observation import NO_REPLY, RequestLabels, RequestObservation, ServerSeconds, Tokens

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from modelhost_exporter.demo.routing import Router
    from modelhost_exporter.demo.specs import ModelSpec
    from modelhost_exporter.demo.traffic import SimulatedRequest

_CHUNK_TOKENS = 1.25
_LOADED_SECONDS = 0.0005  # what a response reports as load time when the model is loaded


class Observations:
    """Builds the observation of each finished request."""

    def __init__(self, routers: Mapping[str, Router], rng: random.Random) -> None:
        self._response_times = {
            name: router.replicas[0].upstream.spec.response_times for name, router in routers.items()
        }
        self._rng = rng

    def of(self, request: SimulatedRequest) -> RequestObservation:
        """Return the observation of a request that ended."""
        duration = max(0.0, request.ended - request.arrived)
        code = request.code
        if request.outcome == "client_disconnect" and request.ended <= request.first:
            code = NO_REPLY
        plain = RequestObservation(labels_of(request.model), request.stream, request.outcome, code, duration)
        return self._with_answer(plain, request) if request.outcome == "ok" else plain

    def _with_answer(self, plain: RequestObservation, request: SimulatedRequest) -> RequestObservation:
        model, ttft = request.model, request.first - request.arrived
        thinking = request.reasoning * request.token_seconds
        timed = request.stream
        return plain._replace(
            time_to_first_token=ttft if timed else None,
            time_to_first_answer_token=ttft + thinking if timed else None,
            time_per_output_token=request.token_seconds if timed and request.output_tokens > 1 else None,
            max_gap=request.token_seconds * self._rng.uniform(1.5, 6) if timed else None,
            finish_reasons=(("length" if request.output_tokens % 13 == 0 else "stop"),)
            if request.output_tokens
            else (),
            tokens=Tokens(
                request.input_tokens,
                request.cached if model.cache_hit else None,
                None,
                request.output_tokens or None,
                request.reasoning if model.reasoning else None,
                "usage",
            ),
            server_seconds=self._server_seconds(request),
            chunks=chunks_of(request.output_tokens) if timed else 0,
            decode_seconds=request.ended - request.first if timed and request.output_tokens > 1 else None,
        )

    def _server_seconds(self, request: SimulatedRequest) -> ServerSeconds:
        times = {
            "queue": request.started - request.arrived,
            "prefill": request.first - request.started,
            "decode": request.ended - request.first if request.output_tokens else None,
            "load": request.load or _LOADED_SECONDS,
        }
        contained = self._response_times[request.model.server]
        return ServerSeconds(**{name: seconds for name, seconds in times.items() if name in contained})


def labels_of(model: ModelSpec) -> RequestLabels:
    """Return the labels of a model's requests."""
    return RequestLabels(model.server, model.name, model.operation)


def chunks_of(tokens: int) -> int:
    """Return the chunks in which so many tokens are sent."""
    return int(tokens / _CHUNK_TOKENS + 0.5)
