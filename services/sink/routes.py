"""`GET /queries` and `GET /queries/{name}`: the example queries, run on the database of the sink."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask, Response

from kappawatt.serving.openapi import JSON, operation
from kappawatt.store.interface import Store

from .queries import QUERIES

if TYPE_CHECKING:
    from kappawatt.serving.context import Context

__all__ = ["add_routes"]

MOST_ROWS = 1_000

QUERY = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("name", "title", "sql")},
    "required": ["name", "title", "sql"],
}
RESULT = {
    "type": "object",
    "properties": {
        **QUERY["properties"],  # type: ignore[dict-item]
        "columns": {"type": "array", "items": {"type": "string"}},
        "rows": {
            "type": "array",
            "items": {"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}},
        },
    },
    "required": ["name", "title", "sql", "columns", "rows"],
}
NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": QUERIES[0].name,
}


def add_routes(app: Flask, context: Context, store: Store) -> None:
    """Add `/queries` and `/queries/{name}`."""
    from kappawatt.serving.problems import problem

    by_name = {query.name: query for query in QUERIES}

    @app.get("/queries", provide_automatic_options=False)
    @operation(
        "The example queries",
        tag="queries",
        answers={
            200: {
                "type": "object",
                "properties": {"queries": {"type": "array", "items": QUERY}},
                "required": ["queries"],
            }
        },
    )
    def queries() -> Response:
        listed = [{"name": q.name, "title": q.title, "sql": q.sql} for q in QUERIES]
        return Response(orjson.dumps({"queries": listed}), content_type=JSON)

    @app.get("/queries/<name>", provide_automatic_options=False)
    @operation(
        "Run one of them",
        tag="queries",
        description="Times are ISO 8601 in UTC. 503 while another process holds the database file.",
        parameters=(NAME,),
        answers={200: RESULT, 404: "problem", 503: "problem"},
    )
    def query(name: str) -> Response:
        asked = by_name.get(name)
        if asked is None:
            return problem(404, "Query not found", f"query: got {name[:80]!r}, allowed {', '.join(by_name)}")
        result = store.query(asked.sql, MOST_ROWS)
        document = {
            "name": asked.name,
            "title": asked.title,
            "sql": asked.sql,
            "columns": result.columns,
            "rows": [[_plain(value) for value in row] for row in result.rows],
        }
        return Response(orjson.dumps(document), content_type=JSON)


def _plain(value: Any) -> Any:
    """A database's value as JSON has it."""
    if isinstance(value, dt.datetime):
        aware = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
        return aware.isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
