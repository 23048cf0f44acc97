"""`POST /forecast`, `GET /series`: the next window of one series as a fan, or of a sum and its members.

Histories are brought or known.
"""

from __future__ import annotations

from typing import Any

import orjson
from flask import Flask, Response, request

from kappawatt.columns.content import JSON
from kappawatt.columns.strict_json import load_json
from kappawatt.errors import ContentTypeUnsupported
from kappawatt.forecasting.calendar import as_instant
from kappawatt.forecasting.forecaster import EVER, LEAD_TIME, Forecaster
from kappawatt.forecasting.group_request import MEMBERS, group_schema, read_group_request
from kappawatt.forecasting.model import ForecastModel
from kappawatt.forecasting.reconciliation import POINTS
from kappawatt.forecasting.request import example_request, read_forecast_request, request_schema
from kappawatt.messages.forecasts import forecast_document, instant
from kappawatt.messages.groups import group_document
from kappawatt.serving.body import read_body
from kappawatt.serving.doors.predict import VERSION
from kappawatt.serving.histories import KnownHistories
from kappawatt.serving.models import Models
from kappawatt.serving.openapi import Right, operation
from kappawatt.serving.service import Context

__all__ = ["add_routes"]

MOST_SERIES = 1_000
SPAN = {
    "type": "object",
    "properties": {
        **{name: {"type": "string", "format": "date-time"} for name in ("start", "end")},
        "count": {"type": "integer"},
        "why": {"type": "string", "enum": ["spike", "stuck", "zero"]},
    },
}
SERIES = {
    "type": "object",
    "properties": {"series": {"type": "array", "items": {"type": "object"}}, "count": {"type": "integer"}},
    "required": ["series", "count"],
}


def add_routes(
    app: Flask, context: Context, models: Models[ForecastModel], forecaster: Forecaster, histories: KnownHistories
) -> None:
    """Add `/forecast` and `/series`."""

    @app.post("/forecast", provide_automatic_options=False)
    @operation(
        f"Forecast {forecaster.target} of one series for {forecaster.window.says}, or of a sum and its members",
        tag="forecast",
        access=Right.READ,
        repeatable=True,
        description="The history comes with the request, or is known from the bus by the series' name. The answer has "
        f"{len(forecaster.levels)} quantiles for each interval; `filled` says how many missing intervals of the "
        "history were filled, `suspect` how many measurements are suspect and were taken for missing, and "
        "`fallback` that the seasonal naive answers instead of the model. With `members` the name is that of "
        "their sum; it and they are forecast so that they add up.",
        body={JSON: {"anyOf": [request_schema(forecaster), group_schema(forecaster)]}},
        examples={JSON: example_request(forecaster, str(forecaster.request.field(forecaster.key).example))},
        parameters=(VERSION,),
        answers={
            200: {"anyOf": [_answer_schema(), _group_answer_schema()]},
            **dict.fromkeys((400, 404, 413, 415, 422, 501, 503), "problem"),
        },
    )
    def forecast() -> Response:
        model = models.get(request.args.get("version"))
        if request.mimetype != JSON:
            raise ContentTypeUnsupported.of("content-type", repr(request.mimetype[:80]), JSON)
        document = load_json(read_body(), context.budget)
        if isinstance(document, dict) and MEMBERS in document:
            return group(model, document)
        history, targets, issue_time = read_forecast_request(document, forecaster, model.lookup)
        as_of = None if document.get("issue_time") is not None else EVER
        issued = model.issue(history.until(issue_time, as_of), targets)
        context.telemetry.rows_at("http").inc(len(targets))
        context.telemetry.suspects("http", issued.suspects)
        answer = forecast_document(model, issued, as_instant(issue_time))
        return Response(orjson.dumps(answer), content_type=JSON)

    def group(model: ForecastModel, document: dict[str, Any]) -> Response:
        asked = read_group_request(document, forecaster, model.lookup)
        issued = model.issue_group(asked, None if document.get("issue_time") is not None else EVER)
        context.telemetry.rows_at("http").inc(len(asked.targets) * (len(asked.members) + 1))
        answer = group_document(model, issued, as_instant(asked.issue_time))
        return Response(orjson.dumps(answer), content_type=JSON)

    @app.get("/series", provide_automatic_options=False)
    @operation(
        "Series whose history is known from the bus, the first thousand by name",
        tag="forecast",
        answers={200: SERIES},
    )
    def series() -> Response:
        keys = histories.keys()
        rows = []
        for key in keys[:MOST_SERIES]:
            known = histories.history(key)
            if known is None or known.clock is None or known.first is None:
                continue
            rows.append(
                {
                    forecaster.key: key,
                    "first": instant(known.first),
                    "until": instant(known.clock),
                    "time_zone": known.time_zone,
                    "step_seconds": known.step,
                }
            )
        return Response(orjson.dumps({"series": rows, "count": len(keys)}), content_type=JSON)


def _group_answer_schema() -> dict[str, Any]:
    numbers = {"type": "array", "items": {"type": "number"}}
    one = _answer_schema()
    more = {"mean": numbers, "day_mean": {"type": "object", "additionalProperties": {"type": "number"}}}
    document = {**one, "properties": {**one["properties"], **more}, "required": [*one["required"], *more]}
    return {
        "type": "object",
        "properties": {
            "sum": document,
            "members": {"type": "array", "items": document},
            "reconciliation": {
                "type": "object",
                "properties": {
                    "method": {"type": "string"},
                    "adds_up": {
                        "type": "string",
                        "enum": list(POINTS),
                        "description": "which of the forecasts' points do",
                    },
                    "discrepancy": {**numbers, "description": "the sum less its members' total, before"},
                },
                "required": ["method", "adds_up", "discrepancy"],
            },
        },
        "required": ["sum", "members", "reconciliation"],
    }


def _answer_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "issue_time": {"type": "string", "format": "date-time"},
            "available_at": {"type": "string", "format": "date-time"},
            "target_time": {"type": "array", "items": {"type": "string", "format": "date-time"}},
            LEAD_TIME: {
                "type": "array",
                "items": {"type": "number"},
                "description": "hours from `trusted_until` to the end of each interval: 1 of the next hour",
            },
            "quantiles": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "number"}}},
            "trusted_until": {
                "type": "string",
                "format": "date-time",
                "description": "end of the newest measurement that is not suspect",
            },
            "filled": {"type": "integer"},
            "suspect": {"type": "integer", "description": "suspect measurements of five weeks, taken for missing"},
            "suspect_spans": {"type": "array", "items": SPAN, "description": "where they are, the newest 20"},
            "warnings": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"code": {"type": "string"}, "detail": {"type": "string"}},
                },
                "description": "what whoever relies on it should know: suspect values, hours without any, no holidays "
                "known, weeks in which the seasonal naive was closer",
            },
            "fallback": {"type": "boolean"},
        },
        "required": ["issue_time", "available_at", "target_time", "quantiles", "filled", "fallback"],
    }
