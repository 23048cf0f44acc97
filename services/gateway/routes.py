"""The gateway's routes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson
from flask import Flask, Response, g, request
from werkzeug.exceptions import MethodNotAllowed, NotFound

from kappawatt.errors import ContentTypeUnsupported, KappawattError, Overloaded, PayloadInvalid
from kappawatt.messages.tracing import trace_parent
from kappawatt.serving import docs
from kappawatt.serving.body import read_body
from kappawatt.serving.context import Context
from kappawatt.serving.openapi import JSON, operation, specification

from .access import COOKIE
from .forecast_routes import add_forecasts
from .live.events import ClientStream, Wanted
from .live.forecast_events import ForecastClientStream
from .live.position import format_position, parse_position
from .live.predictions import CHART_POINTS
from .pages import add_pages
from .proxy import openapi_merge
from .proxy.forward import METHODS, Target
from .wiring import EXTENSION, Gateway, open_gateway

__all__ = ["add_routes"]

MOST_STREAMS = 48  # of 64 threads; the others answer everything else
PROBE_SECONDS = 1.5
DOCUMENT_SECONDS = 3.0
KEPT_SECONDS = 2.0  # answers about other services are kept for so long
MOST_LIMIT = 1_000_000
OBJECT = {"type": "object"}
REFUSED = dict.fromkeys((401, 403, 429), "problem")


def _query(name: str, schema: dict[str, Any], meaning: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": meaning}


KEY = _query("key", {"type": "string"}, "Only this plant; empty is messages without a key.")
RATE = {"type": "number", "minimum": 0, "maximum": 1000}
LIMIT = {"type": "integer", "minimum": 1, "maximum": MOST_LIMIT}
LAST_EVENT_ID = {"type": "string"}


def add_routes(app: Flask, context: Context) -> None:
    """Add everything, and start reading the bus."""
    gateway = open_gateway(context)
    app.extensions[EXTENSION] = gateway
    gateway.access.guard(app)
    _add_trace(app)
    _add_view(app, gateway)
    _add_stream(app, gateway)
    add_forecasts(app, gateway)
    _add_session(app, gateway)
    _add_services(app, gateway)
    _add_documents(app, context, gateway)
    _add_proxy(app, gateway)
    add_pages(app)


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS), status, content_type=JSON)


def _add_trace(app: Flask) -> None:
    @app.before_request
    def begin() -> None:
        g.trace_parent = trace_parent(request.headers.get("traceparent"))

    @app.after_request
    def end(response: Response) -> Response:
        if "trace_parent" in g:
            response.headers["traceparent"] = g.trace_parent
        return response


def _add_view(app: Flask, gateway: Gateway) -> None:
    view = gateway.view

    @app.get("/api/latest", provide_automatic_options=False)
    @operation("The newest prediction of every plant", tag="view", answers={200: OBJECT, **REFUSED})
    def latest() -> Response:
        return _json({"predictions": view.all_latest()})

    @app.get("/api/latest/<path:key>", provide_automatic_options=False)
    @operation("The newest prediction of one plant", tag="view", answers={200: OBJECT, 404: "problem", **REFUSED})
    def latest_of(key: str) -> Response:
        found = view.latest(key)
        if found is None:
            raise NotFound(f"key: got {key[:200]!r}, allowed a plant with predictions (GET /api/latest)")
        return _json(found)

    @app.get("/api/recent", provide_automatic_options=False)
    @operation(
        "The last points of one plant, in columns",
        tag="view",
        description="`position` is where GET /api/stream goes on without a gap, as `last_event_id`.",
        parameters=(
            KEY,
            _query(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": CHART_POINTS},
                "How many points at most; 500 if absent.",
            ),
        ),
        answers={200: OBJECT, 400: "problem", **REFUSED},
    )
    def recent() -> Response:
        most = _whole("limit", 1, CHART_POINTS, 500)
        position = format_position(gateway.hub.position())  # before the points: rather one twice than one missing
        return _json({"position": position, **view.points(request.args.get("key"), most)})

    @app.get("/api/summary", provide_automatic_options=False)
    @operation(
        "Error, coverage, throughput, latency, consumer lag, refusals, and what serves now",
        tag="view",
        answers={200: OBJECT, **REFUSED},
    )
    def summary() -> Response:
        return _json(gateway.summary())

    @app.get("/api/rejections", provide_automatic_options=False)
    @operation(
        "Refused readings: counts by reason, and the newest with field, value got and values allowed",
        tag="view",
        answers={200: OBJECT, **REFUSED},
    )
    def rejections() -> Response:
        return _json(view.rejections())


def _add_stream(app: Flask, gateway: Gateway) -> None:
    @app.get("/api/stream", provide_automatic_options=False)
    @operation(
        "Predictions and refused readings as they come (server-sent events)",
        tag="view",
        description="Events are `prediction`, `rejection`, `summary` (every 2 s) and `gap` (the bus no "
        "longer keeps what was missed). Each has an id that names places on the bus: a reconnect with "
        "Last-Event-ID gets exactly what it missed, also from another or a restarted gateway. With `forecasts=1` it is "
        "the stream of forecasts instead: `forecast`, `forecast-error`, `reading` (measured intervals), and `state` at "
        "the start and whenever something was missed; these have no id.",
        parameters=(
            KEY,
            _query("forecasts", {"type": "string", "enum": ["0", "1"]}, "1: forecasts instead of predictions."),
            _query("service", {"type": "string"}, "With forecasts=1, only those of this service."),
            _query("rate", RATE, "Most predictions of a plant and second; absent or 0 is every one."),
            _query("limit", LIMIT, "End after so many predictions and rejections."),
            _query(
                "last_event_id",
                LAST_EVENT_ID,
                "The same as the header, which a browser's first request cannot set.",
            ),
            {
                **_query("Last-Event-ID", LAST_EVENT_ID, "Id of the last event that was received."),
                "in": "header",
            },
        ),
        answers={200: {"text/event-stream": {"type": "string"}}, 400: "problem", 503: "problem", **REFUSED},
    )
    def stream() -> Response:
        given = request.headers.get("Last-Event-ID") or request.args.get("last_event_id")
        position = parse_position(given) if given else None
        if given and position is None:
            raise PayloadInvalid(f"last_event_id: got {given[:100]!r}, allowed the id of an event of this stream")
        is_forecasts = _whole("forecasts", 0, 1, 0) == 1
        wanted = Wanted(request.args.get("key"), _rate(), _whole("limit", 1, MOST_LIMIT, 0))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return Response(headers=headers, content_type="text/event-stream")
        if gateway.streams >= MOST_STREAMS:
            raise Overloaded(f"streams: got {MOST_STREAMS} open ones, allowed {MOST_STREAMS}", 5.0)
        events: ClientStream | ForecastClientStream
        if is_forecasts:
            service, key = request.args.get("service"), wanted.key
            state = partial(gateway.forecast_list, service, key)
            events = ForecastClientStream(gateway.forecast_hub, service, key, wanted.limit, state)
        else:
            events = ClientStream(gateway.hub, gateway.open_bus, wanted, position, gateway.summary)
        response = Response(iter(events), headers=headers, content_type="text/event-stream")
        response.call_on_close(events.close)
        return response


def _whole(name: str, low: int, high: int, absent: int) -> int:
    text = request.args.get(name)
    if text is None:
        return absent
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise PayloadInvalid(f"{name}: got {text[:80]!r}, allowed a whole number from {low} to {high}")
    return int(text)


def _rate() -> float:
    text = request.args.get("rate", "0")
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= RATE["maximum"]:  # type: ignore[operator]
        raise PayloadInvalid(f"rate: got {text[:80]!r}, allowed a number from 0 to {RATE['maximum']}")
    return rate


def _add_session(app: Flask, gateway: Gateway) -> None:
    body = {
        "type": "object",
        "properties": {"key": {"type": "string", "minLength": 1, "maxLength": 512, "pattern": "^[!-~]+$"}},
        "required": ["key"],
    }

    @app.get("/api/session", provide_automatic_options=False)
    @operation(
        "Whether keys are asked for, and who is signed in",
        tag="session",
        answers={200: OBJECT, 403: "problem", 429: "problem"},
    )
    def session() -> Response:
        key = g.get("api_key")
        who = {"name": key.name, "role": key.role.name.lower()} if key else None
        return _json({"keys_needed": gateway.access.is_on, "signed_in": who})

    @app.post("/api/session", provide_automatic_options=False)
    @operation(
        "Sign a browser in with an API key: sets a session cookie",
        tag="session",
        body={JSON: body},
        answers={200: OBJECT, **dict.fromkeys((400, 401, 403, 413, 415, 429), "problem")},
    )
    def sign_in() -> Response:
        if request.mimetype != JSON:
            raise ContentTypeUnsupported(f"content type: got {request.mimetype[:80]!r}, allowed {JSON}")
        try:
            document = orjson.loads(read_body())
        except orjson.JSONDecodeError as error:
            raise PayloadInvalid(f"body: {error}") from None
        key = document.get("key") if isinstance(document, dict) else None
        if not isinstance(key, str) or not 0 < len(key) <= 512:
            raise PayloadInvalid('body: allowed {"key": "..."}')
        if not key.isascii() or not key.isprintable() or " " in key:
            raise PayloadInvalid("key: allowed printable ASCII characters without blanks")
        response = _json({})
        if gateway.access.is_on:
            found = gateway.access.sign_in(key, response)
            response.data = orjson.dumps({"name": found.name, "role": found.role.name.lower()})
        return response

    @app.delete("/api/session", provide_automatic_options=False)
    @operation("Sign out", tag="session", answers={204: None, 403: "problem", 429: "problem"})
    def sign_out() -> Response:
        response = Response(status=204)
        response.delete_cookie(COOKIE, httponly=True, samesite="Strict")
        return response


class _Kept:
    """Answers about other services, asked anew when they are older than KEPT_SECONDS."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._kept: dict[str, tuple[float, Mapping[str, Target], Any]] = {}

    def ask(self, path: str, seconds: float) -> dict[str, tuple[int, bytes] | str]:
        """GET `path` of every service at once; by name, status and body, or why there is none."""
        targets = self._gateway.proxy.targets
        kept = self._kept.get(path)
        if kept is not None and time.monotonic() - kept[0] < KEPT_SECONDS and kept[1] is targets:
            return kept[2]  # type: ignore[no-any-return]

        def fetch(target: Target) -> tuple[int, bytes] | str:
            try:
                return self._gateway.proxy.fetch(target, path, seconds)
            except KappawattError as error:
                return str(error)

        answers: dict[str, tuple[int, bytes] | str] = {}
        if targets:
            with ThreadPoolExecutor(min(8, len(targets))) as pool:
                answers = dict(zip(targets, pool.map(fetch, targets.values()), strict=True))
        self._kept[path] = (time.monotonic(), targets, answers)
        return answers


def _add_services(app: Flask, gateway: Gateway) -> None:
    kept = _Kept(gateway)

    @app.get("/api/services", provide_automatic_options=False)
    @operation(
        "The services behind the gateway, and whether they are ready",
        tag="services",
        answers={200: OBJECT, **REFUSED},
    )
    def services() -> Response:
        rows = []
        answers, targets = kept.ask("/readyz", PROBE_SECONDS), gateway.proxy.targets
        for name, answer in answers.items():
            if name not in targets:  # it has just gone
                continue
            reason = None if isinstance(answer, tuple) and answer[0] == 200 else _why(answer)
            circuit = targets[name].breaker.state
            rows.append({"name": name, "ready": reason is None, "reason": reason, "circuit": circuit})
        discovery = None if gateway.discovery is None else {"kind": "kubernetes", "failure": gateway.discovery.failure}
        return _json({"services": rows, "discovery": discovery})


def _why(answer: tuple[int, bytes] | str) -> str:
    if isinstance(answer, str):
        return answer
    try:
        return str(orjson.loads(answer[1])["detail"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"answered {answer[0]}"


def _add_documents(app: Flask, context: Context, gateway: Gateway) -> None:
    kept = _Kept(gateway)

    def merged() -> dict[str, Any]:
        description = (
            f"{context.service.summary} Every route of a service NAME is below /api/NAME, with the gateway's "
            "time-outs, request id (X-Request-Id) and trace (traceparent)."
        )
        document = specification(app, "kappawatt", description)
        unreachable = {}
        for name, answer in kept.ask("/openapi.json", DOCUMENT_SECONDS).items():
            if isinstance(answer, str) or answer[0] != 200:
                unreachable[name] = _why(answer)
                continue
            try:
                openapi_merge.add_service(document, name, orjson.loads(answer[1]))
            except (ValueError, AttributeError, TypeError) as error:
                unreachable[name] = f"its document cannot be read: {error}"
        document["x-unreachable"] = unreachable
        if gateway.access.is_on:
            openapi_merge.protect(document)
        return document

    @app.get("/openapi.json", provide_automatic_options=False)
    @operation("This document: every route of every reachable service", tag="docs", answers={200: OBJECT, **REFUSED})
    def openapi() -> Response:
        return _json(merged())

    @app.get("/docs", provide_automatic_options=False)
    @operation("This document as a page", tag="docs", answers={200: {"text/html": {"type": "string"}}, **REFUSED})
    def page() -> Response:
        return Response(docs.render(merged()), content_type="text/html; charset=utf-8")


def _add_proxy(app: Flask, gateway: Gateway) -> None:
    """The way to services. It is described by the services' own documents, which /openapi.json contains."""

    def forward(name: str, rest: str) -> Response:
        target = gateway.proxy.targets.get(name)
        if target is None:
            if name in ("latest", "forecasts") and request.method not in ("GET", "HEAD"):
                raise MethodNotAllowed(["GET", "HEAD"])
            known = ", ".join(gateway.proxy.targets) or f"none: {gateway.why_no_services()}"
            raise NotFound(f"service: got {name[:80]!r}, allowed {known}")
        return gateway.proxy.forward(target, rest, request, g.request_id, g.trace_parent)

    app.add_url_rule(
        "/api/<name>/<path:rest>",
        "forward",
        forward,
        methods=METHODS,
        provide_automatic_options=False,
        merge_slashes=False,
    )
