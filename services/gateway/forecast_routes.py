"""Routes of the forecasts: list, one series, live score."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import NotFound

from kappawatt.serving.openapi import JSON, operation

from .live.forecast_hub import encode
from .wiring import Gateway

__all__ = ["add_forecasts"]

REFUSED = dict.fromkeys((401, 403, 429), "problem")
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
TEXT = {"type": ["string", "null"]}
ROW: dict[str, Any] = {
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in ("service", "key", "target", "unit")},
        **dict.fromkeys(("time_zone", "issue_time", "known_at", "fallback_reason"), TEXT),
        **dict.fromkeys(("model", "version", "measured_until"), TEXT),
        **{name: {"type": ["boolean", "null"]} for name in ("corrected", "fallback")},
        **{name: {"type": ["integer", "null"]} for name in ("step_seconds", "filled", "published")},
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
COLUMNS = {"type": "object", "description": "parallel lists", "additionalProperties": {"type": "array"}}
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


def _json(document: Any) -> Response:
    return Response(encode(document), content_type=JSON)


def add_forecasts(app: Flask, gateway: Gateway) -> None:
    """Add `GET /api/forecasts` and what is below it."""

    @app.get("/api/forecasts", provide_automatic_options=False)
    @operation(
        "Every forecast series: newest forecast, model version, score",
        tag="forecasts",
        answers={200: LIST, **REFUSED},
    )
    def forecasts() -> Response:
        return _json(gateway.forecast_list(None))

    @app.get("/api/forecasts/<service>", provide_automatic_options=False)
    @operation(
        "Every series of one service",
        tag="forecasts",
        answers={200: LIST, 404: "problem", **REFUSED},
    )
    def forecasts_of(service: str) -> Response:
        _known(gateway, service)
        return _json(gateway.forecast_list(service))

    @app.get("/api/forecasts/<service>/<path:key>", provide_automatic_options=False)
    @operation(
        "One series: newest forecast, earlier ones, what was measured, errors",
        tag="forecasts",
        description="The newest forecast has 19 quantiles, earlier ones five. Measured intervals and errors are those "
        "of the last ten days.",
        answers={200: SERIES, 404: "problem", **REFUSED},
    )
    def forecast(service: str, key: str) -> Response:
        _known(gateway, service)
        found = gateway.forecasts[service].one(key)
        if found is None:
            allowed = f"a series of {service} (GET /api/forecasts/{service})"
            raise NotFound(f"key: got {key[:200]!r}, allowed {allowed}")
        return _json(found)

    @app.get("/api/forecasts/score", provide_automatic_options=False)
    @operation(
        "Live score of forecasts, by service and series, version and issue time",
        tag="forecasts",
        description="Over the errors kept (2,000 hours of a load zone, 1,000 intervals of a meter). `score` takes for "
        "each interval the forecast that was issued last before it began, as it was then known, of the version that "
        "answers now; `by_version` has the others, and `by_issue_time` each local issue time by itself.",
        parameters=(
            {
                "name": "service",
                "in": "query",
                "required": False,
                "schema": {"type": "string"},
                "description": "Only this service.",
            },
        ),
        answers={
            200: {
                "type": "object",
                "properties": {
                    "services": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "service": {"type": "string"},
                                "unit": {"type": "string"},
                                "version": TEXT,
                                "score": SCORE,
                                "by_version": {"type": "array", "items": {"type": "object"}},
                                "series": {"type": "array", "items": {"type": "object"}},
                            },
                        },
                    }
                },
            },
            **REFUSED,
        },
    )
    def forecast_score() -> Response:
        wanted = request.args.get("service")
        views = [view for name, view in gateway.forecasts.items() if wanted in (None, name)]
        return _json({"services": [view.scores() for view in views]})


def _known(gateway: Gateway, service: str) -> None:
    if service not in gateway.forecasts:
        raise NotFound(f"service: got {service[:80]!r}, allowed {', '.join(gateway.forecasts)}")
