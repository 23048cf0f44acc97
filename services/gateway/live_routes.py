"""Routes of the live views: what views there are, the newest predictions, forecasts, and the event stream."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import NotFound

from kappawatt.errors import Overloaded, PayloadInvalid
from kappawatt.serving.openapi import operation
from kappawatt.streams.stream import Form, Stream

from .answers import COLUMNS, OBJECT, REFUSED, TEXT, decimal, json_answer, query, whole
from .live.events import ClientStream, Restated, Wanted
from .live.position import Logs, Position, format_position, parse_position
from .live.predictions import CHART_POINTS, PredictionsView
from .live.resuming import Resumed
from .paths import Own
from .wiring import Gateway, Live

__all__ = ["add_live_routes"]

MOST_STREAMS = 48  # of 64 threads; the others answer everything else
MOST_LIMIT = 1_000_000
MOST_RATE = 1_000
VIEW = query("view", {"type": "string"}, "Name of a view (GET /api/views); the first one of predictions if absent.")
KEY = query("key", {"type": "string"}, "Only this key; empty is messages without one.")
SERVICE = query("service", {"type": "string"}, "Only this service.")
RATE = {"type": "number", "minimum": 0, "maximum": MOST_RATE}
LIMIT = {"type": "integer", "minimum": 1, "maximum": MOST_LIMIT}
POINTS = {"type": "integer", "minimum": 1, "maximum": CHART_POINTS}
LAST_EVENT_ID = {"type": "string"}
KEY_OF_VIEW = {"type": "object", "properties": {"name": {"type": "string"}, "noun": {"type": "string"}}}
FIGURE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "how": {"type": "string", "enum": ["sum", "max"]}},
}
VIEW_ROW = {
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in ("name", "title", "meaning", "service", "target", "unit")},
        "form": {"type": "string", "enum": ["predictions", "forecasts", "own"]},
        "key": KEY_OF_VIEW,
        "percent": {"type": "boolean", "description": "whether percentage errors mean something"},
        "day_figures": {"type": "array", "items": FIGURE, "description": "figures of a day in forecasts"},
        "paths": {
            "type": "object",
            "description": "where its documents are, by what they are; `{key}` stands for a key",
            "additionalProperties": {"type": "string"},
        },
    },
}
SCORE = {
    "type": ["object", "null"],
    "description": "null until something was measured; mae, rmse, bias, crps, width_90 in the unit of the quantity; "
    "mape, smape, coverage_90 as shares; rmae and rcrps relative to the seasonal naive",
    "properties": {
        **{name: {"type": "integer"} for name in ("n", "fallback")},
        **{name: {"type": "number"} for name in ("mae", "rmse", "bias", "smape", "crps", "coverage_90", "width_90")},
        **{name: {"type": ["number", "null"]} for name in ("mape", "rmae", "rcrps")},
    },
}
ROW: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in ("service", "key", "target", "unit")},
        **dict.fromkeys(("time_zone", "issue_time", "available_at", "known_at", "fallback_reason"), TEXT),
        **dict.fromkeys(("model", "version", "measured_until"), TEXT),
        **{name: {"type": ["boolean", "null"]} for name in ("corrected", "fallback")},
        **{name: {"type": ["integer", "null"]} for name in ("step_seconds", "filled", "suspect", "published")},
        "score": SCORE,
    },
}
LIST = {
    "type": "object",
    "properties": {
        "series": {"type": "array", "items": ROW},
        "streams": {"type": "array", "items": {"type": "object"}, "description": "how fresh each stream is"},
    },
}
FORECAST = {
    "type": ["object", "null"],
    "description": "`quantiles` by level, one value for each of `target_time`; `day` quantiles of the day as a whole, "
    "`day_measured` what became of it; `score` of this forecast alone",
}
SERIES = {
    **ROW,
    "properties": {
        **ROW["properties"],
        "forecast": FORECAST,
        "earlier": {"type": "array", "items": FORECAST},
        "measured": COLUMNS,
        "errors": COLUMNS,
        "scores": {"type": "array", "items": {"type": "object"}},
    },
}
OF_SERVICE = {
    "type": "object",
    "properties": {
        "service": {"type": "string"},
        "unit": {"type": "string"},
        "version": TEXT,
        "score": SCORE,
        "by_version": {"type": "array", "items": {"type": "object"}},
        "series": {"type": "array", "items": {"type": "object"}},
    },
}


def add_live_routes(app: Flask, gateway: Gateway) -> None:
    """Add everything that views answer."""
    _add_views(app, gateway)
    _add_predictions(app, gateway)
    _add_forecasts(app, gateway)
    _add_stream(app, gateway)


# --- views ---------------------------------------------------------------------------------------------------


def _add_views(app: Flask, gateway: Gateway) -> None:
    @app.get(Own.VIEWS, provide_automatic_options=False)
    @operation(
        "Every view there is: one for each stream of answers",
        tag="view",
        description="The tabs of the dashboard. `form` is `own` where a stream brings a view of another kind.",
        answers={
            200: {"type": "object", "properties": {"views": {"type": "array", "items": VIEW_ROW}}},
            **REFUSED,
        },
    )
    def views() -> Response:
        return json_answer({"views": [_view_row(gateway, live.view.stream) for live in gateway.live.values()]})

    @app.get(Own.VIEW, provide_automatic_options=False)
    @operation(
        "How well one view goes, and how fresh it is", tag="view", answers={200: OBJECT, 404: "problem", **REFUSED}
    )
    def view(name: str) -> Response:
        if name not in gateway.live:
            raise NotFound(f"view: got {name[:80]!r}, allowed {', '.join(gateway.live)}")
        return json_answer(gateway.summary(name))


def _view_row(gateway: Gateway, stream: Stream) -> dict[str, Any]:
    name, paths = stream.name, {"summary": f"{Own.VIEWS}/{stream.name}", "stream": f"{Own.STREAM}?view={stream.name}"}
    form = "own"
    if name in gateway.predictions:
        form = Form.PREDICTIONS.value
        paths |= {
            "all": f"{Own.LATEST}?view={name}",
            "one": f"{Own.LATEST}/{{key}}?view={name}",
            "recent": f"{Own.RECENT}?view={name}",
        }
    elif stream.service in gateway.forecasts:
        form = Form.FORECASTS.value
        paths |= {
            "all": f"{Own.FORECASTS}/{stream.service}",
            "one": f"{Own.FORECASTS}/{stream.service}/{{key}}",
            "score": f"{Own.FORECAST_SCORE}?service={stream.service}",
        }
    schema = stream.schema if stream.errors is not None or stream.target in stream.schema.names else stream.answer
    return {
        "name": name,
        "title": stream.view.title,
        "meaning": stream.title,
        "form": form,
        "service": stream.service,
        "key": {"name": stream.key.name, "noun": stream.key.noun},
        "target": stream.target,
        "unit": schema.field(stream.target).unit,
        "percent": stream.view.percent,
        "day_figures": [{"name": figure, "how": how} for figure, how in stream.view.day_figures],
        "paths": paths,
    }


# --- predictions ---------------------------------------------------------------------------------------------


def _predictions(gateway: Gateway) -> Live[PredictionsView]:
    """The view of predictions that the query names, else the first there is."""
    name = request.args.get("view") or next(iter(gateway.predictions), "")
    found = gateway.predictions.get(name)
    if found is None:
        raise PayloadInvalid(
            f"view: got {name[:80]!r}, allowed {', '.join(gateway.predictions) or 'none: there is none'}"
        )
    return found


def _add_predictions(app: Flask, gateway: Gateway) -> None:
    @app.get(Own.LATEST, provide_automatic_options=False)
    @operation(
        "The newest prediction of every key",
        tag="view",
        parameters=(VIEW,),
        answers={200: OBJECT, 400: "problem", **REFUSED},
    )
    def latest() -> Response:
        return json_answer({"predictions": _predictions(gateway).view.all_latest()})

    @app.get(Own.LATEST_OF, provide_automatic_options=False)
    @operation(
        "The newest prediction of one key",
        tag="view",
        parameters=(VIEW,),
        answers={200: OBJECT, **dict.fromkeys((400, 404), "problem"), **REFUSED},
    )
    def latest_of(key: str) -> Response:
        live = _predictions(gateway)
        found = live.view.latest(key)
        if found is None:
            noun = live.view.stream.key.noun
            raise NotFound(f"key: got {key[:200]!r}, allowed a {noun} with predictions (GET {Own.LATEST})")
        return json_answer(found)

    @app.get(Own.RECENT, provide_automatic_options=False)
    @operation(
        "The last points of one key, in columns",
        tag="view",
        description="`position` is where GET /api/stream goes on without a gap, as `last_event_id`.",
        parameters=(VIEW, KEY, query("limit", POINTS, "How many points at most; 500 if absent.")),
        answers={200: OBJECT, 400: "problem", **REFUSED},
    )
    def recent() -> Response:
        live = _predictions(gateway)
        most = whole("limit", 1, CHART_POINTS, 500)
        _, reached, logs = live.hub.standing()
        position = format_position(reached, logs)  # before the points: rather one twice than one missing
        return json_answer({"position": position, **live.view.points(request.args.get("key"), most)})

    @app.get(Own.SUMMARY, provide_automatic_options=False)
    @operation(
        "Error, coverage, throughput, latency, consumer lag, refusals, and what serves now",
        tag="view",
        parameters=(VIEW,),
        answers={200: OBJECT, 400: "problem", **REFUSED},
    )
    def summary() -> Response:
        return json_answer(gateway.summary(_predictions(gateway).view.stream.name))

    @app.get(Own.REJECTIONS, provide_automatic_options=False)
    @operation(
        "Refused readings of all streams: counts by reason, and the newest with field, value got and values allowed",
        tag="view",
        answers={200: OBJECT, **REFUSED},
    )
    def rejections() -> Response:
        return json_answer(gateway.rejections.listed())


# --- forecasts -----------------------------------------------------------------------------------------------


def _add_forecasts(app: Flask, gateway: Gateway) -> None:
    @app.get(Own.FORECASTS, provide_automatic_options=False)
    @operation(
        "Every forecast series: newest forecast, model version, score",
        tag="forecasts",
        answers={200: LIST, **REFUSED},
    )
    def forecasts() -> Response:
        return json_answer(gateway.forecast_list(None))

    @app.get(Own.FORECASTS_OF, provide_automatic_options=False)
    @operation(
        "Every series of one service",
        tag="forecasts",
        answers={200: LIST, 404: "problem", **REFUSED},
    )
    def forecasts_of(service: str) -> Response:
        _known(gateway, service)
        return json_answer(gateway.forecast_list(service))

    @app.get(Own.FORECAST_OF, provide_automatic_options=False)
    @operation(
        "One series: newest forecast, earlier ones, what was measured, errors",
        tag="forecasts",
        description="The newest forecast has 19 quantiles, earlier ones five. Measured intervals and errors are those "
        "of the last ten days.",
        answers={200: SERIES, 404: "problem", **REFUSED},
    )
    def forecast(service: str, key: str) -> Response:
        _known(gateway, service)
        found = gateway.forecasts[service].view.one(key)
        if found is None:
            allowed = f"a series of {service} (GET /api/forecasts/{service})"
            raise NotFound(f"key: got {key[:200]!r}, allowed {allowed}")
        return json_answer(found)

    @app.get(Own.FORECAST_SCORE, provide_automatic_options=False)
    @operation(
        "Live score of forecasts, by service and series, version and issue time",
        tag="forecasts",
        description="Over the errors that the view keeps. `score` takes for "
        "each interval the forecast that was issued last before it began, as it was then known, of the version that "
        "answers now; `by_version` has the others, and `by_issue_time` each local issue time by itself.",
        parameters=(SERVICE,),
        answers={
            200: {"type": "object", "properties": {"services": {"type": "array", "items": OF_SERVICE}}},
            **REFUSED,
        },
    )
    def forecast_score() -> Response:
        wanted = request.args.get("service")
        found = [live.view.scores() for name, live in gateway.forecasts.items() if wanted in (None, name)]
        return json_answer({"services": found})


def _known(gateway: Gateway, service: str) -> None:
    if service not in gateway.forecasts:
        raise NotFound(f"service: got {service[:80]!r}, allowed {', '.join(gateway.forecasts)}")


# --- the event stream ----------------------------------------------------------------------------------------


def _add_stream(app: Flask, gateway: Gateway) -> None:
    @app.get(Own.STREAM, provide_automatic_options=False)
    @operation(
        "What is new in a view, as it comes (server-sent events)",
        tag="view",
        description="Of predictions, events are `prediction`, `rejection`, `summary` (every 2 s) and `gap` (the bus no "
        "longer keeps what was missed). Each has an id that names places on the bus: a reconnect with "
        "Last-Event-ID gets exactly what it missed, also from another or a restarted gateway. Of forecasts (a view of "
        "them, or all with `forecasts=1`) they are `forecast`, `forecast-error`, `reading` (measured intervals), and "
        "`state` at the start and whenever something was missed; these have no id.",
        parameters=(
            VIEW,
            KEY,
            query("forecasts", {"type": "string", "enum": ["0", "1"]}, "1: every view of forecasts."),
            query("service", {"type": "string"}, "With forecasts=1, only those of this service."),
            query("rate", RATE, "Most predictions of a key and second; absent or 0 is every one."),
            query("limit", LIMIT, "End after so many predictions and rejections, or forecasts and errors."),
            query("last_event_id", LAST_EVENT_ID, "The same as the header, which a browser cannot set at first."),
            {
                **query("Last-Event-ID", LAST_EVENT_ID, "Id of the last event that was received."),
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
        is_forecasts = whole("forecasts", 0, 1, 0) == 1
        wanted = Wanted(request.args.get("key"), decimal("rate", MOST_RATE))
        limit = whole("limit", 1, MOST_LIMIT, 0)
        name, service = request.args.get("view"), request.args.get("service")
        if name is not None and name not in gateway.live:
            raise PayloadInvalid(f"view: got {name[:80]!r}, allowed {', '.join(gateway.live)}")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return Response(headers=headers, content_type="text/event-stream")
        if gateway.clients >= MOST_STREAMS:
            raise Overloaded(f"streams: got {MOST_STREAMS} open ones, allowed {MOST_STREAMS}", 5.0)
        if name is None and is_forecasts:
            hubs = [live.hub for of, live in gateway.forecasts.items() if service in (None, of)]
            way = Restated(hubs, wanted.key, partial(gateway.forecast_list, service, wanted.key))
            events = ClientStream(way, limit=limit)
        else:
            events = _stream_of(gateway, name or _predictions(gateway).view.stream.name, wanted, position, limit)
        response = Response(iter(events), headers=headers, content_type="text/event-stream")
        response.call_on_close(events.close)
        return response


def _stream_of(
    gateway: Gateway, name: str, wanted: Wanted, position: tuple[Position, Logs] | None, limit: int
) -> ClientStream:
    """The events of one view, in the way that it can make up for what a client missed."""
    live = gateway.live[name]
    summary = partial(gateway.summary, name)
    if live.view.reread is not None:
        reached, logs = position or (None, {})
        way = Resumed(live.hub, live.view.reread, gateway.open_bus, wanted, reached, logs)
        return ClientStream(way, limit=limit, summary=summary)
    service = live.view.stream.service
    state = partial(gateway.forecast_list, service, wanted.key) if service in gateway.forecasts else summary
    return ClientStream(Restated([live.hub], wanted.key, state), limit=limit)
