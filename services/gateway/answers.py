"""What routes answer with, and how they read what was asked."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response, request

from kappawatt.columns.strict_json import dump_json
from kappawatt.errors import PayloadInvalid
from kappawatt.serving.openapi import JSON

__all__ = ["ARRAY", "COLUMNS", "OBJECT", "REFUSED", "TEXT", "decimal", "json_answer", "query", "whole"]

OBJECT = {"type": "object"}
ARRAY = {"type": "array", "items": OBJECT}
COLUMNS = {"type": "object", "description": "parallel lists", "additionalProperties": {"type": "array"}}
TEXT = {"type": ["string", "null"]}
REFUSED = dict.fromkeys((401, 403, 429), "problem")
# arrays are lists, NaN is null, instants are UTC with a Z
OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def json_answer(document: Any, status: int = 200) -> Response:
    """Return a document as JSON."""
    return Response(dump_json(document, OPTIONS), status, content_type=JSON)


def query(name: str, schema: dict[str, Any], meaning: str) -> dict[str, Any]:
    """Return the OpenAPI parameter of a part of the query that may be absent."""
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": meaning}


def whole(name: str, low: int, high: int, absent: int) -> int:
    """Return a whole number of the query; PayloadInvalid if it is none from `low` to `high`."""
    text = request.args.get(name)
    if text is None:
        return absent
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise PayloadInvalid(f"{name}: got {text[:80]!r}, allowed a whole number from {low} to {high}")
    return int(text)


def decimal(name: str, most: float) -> float:
    """Return a number of the query, 0 if absent; PayloadInvalid if it is none from 0 to `most`."""
    text = request.args.get(name, "0")
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= most:
        raise PayloadInvalid(f"{name}: got {text[:80]!r}, allowed a number from 0 to {most:g}")
    return found
