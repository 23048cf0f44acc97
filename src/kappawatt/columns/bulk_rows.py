"""Many small messages at once, where all of them are plain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import orjson

from kappawatt.columns.batch import Batch
from kappawatt.columns.json_rows import decode_objects
from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.columns.strict_json import count_quotes

NUMBER_CHARACTERS = b"0123456789+-.eE,"


def bulk_json(values: Sequence[bytes], schema: Schema) -> Batch | None:
    """Many messages of one flat object each, parsed as one list; None if any of them is anything else.

    The checks make it impossible for two damaged messages to be taken for one: each starts and ends with a
    brace, no list opens anywhere, and the newline between them cannot stand inside JSON text.
    """
    joined = b",\n".join(values)
    if b"[" in joined or not all(v[:1] == b"{" and v[-1:] == b"}" for v in values):
        return None
    try:
        rows = orjson.loads(b"[" + joined + b"]")
    except orjson.JSONDecodeError:
        return None
    if len(rows) != len(values) or joined.count(b'"') != count_quotes(rows, 0):
        return None
    return decode_objects(rows, schema)


def bulk_csv(values: Sequence[bytes], schema: Schema) -> Batch | None:
    """Many messages of one plain CSV row each; None if any holds more than digits, signs and commas."""
    joined = b"\n".join(values)
    if joined.translate(None, NUMBER_CHARACTERS) != b"\n" * (len(values) - 1):
        return None
    return plain_rows(joined, len(values), schema.csv_fields, schema)


def plain_rows(joined: bytes, n: int, fields: Sequence[Field], schema: Schema) -> Batch | None:
    """Rows of plain numbers; None if their text is not what JSON calls a number (`.5`, `+1`, empty)."""
    if any(field.kind in (Kind.TEXT, Kind.TIMESTAMP) for field in fields):
        return None
    try:
        rows = orjson.loads(b"[[" + joined.replace(b"\n", b"],[") + b"]]")
    except orjson.JSONDecodeError:
        return None
    required = sum(field.required for field in fields)
    widths = set(map(len, rows))
    if len(rows) != n or not widths <= set(range(required, len(fields) + 1)):
        return None
    try:
        if len(widths) > 1:
            width = max(widths)
            rows = [row + [math.nan] * (width - len(row)) for row in rows]
        matrix = np.array(rows, dtype=np.float64)
    except OverflowError:
        return None
    columns = {field.name: matrix[:, i] for i, field in enumerate(fields[: matrix.shape[1]])}
    return schema.check(columns, n)
