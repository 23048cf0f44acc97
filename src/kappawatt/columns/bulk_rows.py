"""Many small messages at once, where all of them are plain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import orjson

from kappawatt.columns.batch import Batch
from kappawatt.columns.budget import LISTED_TOGETHER
from kappawatt.columns.json_rows import decode_objects, objects_at_once
from kappawatt.columns.schema import Field, Kind, Schema

NUMBER_CHARACTERS = b"0123456789+-.eE,"


def bulk_json(values: Sequence[bytes], schema: Schema) -> Batch | None:
    """Many messages of one flat object each; None if any of them is anything else."""
    rows = objects_at_once(values)
    return None if rows is None else few_refused(decode_objects(rows, schema, listed=LISTED_TOGETHER))


def bulk_csv(values: Sequence[bytes], schema: Schema) -> Batch | None:
    """Many messages of one plain CSV row each; None if any holds more than digits, signs and commas."""
    joined = b"\n".join(values)
    if joined.translate(None, NUMBER_CHARACTERS) != b"\n" * (len(values) - 1):
        return None
    rows = plain_rows(joined, len(values), schema.csv_fields, schema, LISTED_TOGETHER)
    return None if rows is None else few_refused(rows)


def few_refused(rows: Batch) -> Batch | None:
    """Rows of many messages, each one row; None if they have so many rejections that some may not be in the list."""
    return rows if len(rows.rejections) < LISTED_TOGETHER else None


def plain_rows(
    joined: bytes, n: int, fields: Sequence[Field], schema: Schema, listed: int | None = None
) -> Batch | None:
    """Rows of plain numbers, of whose rejections so many are kept (None: all).

    None if their text is not what JSON calls a number (`.5`, `+1`, empty).
    """
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
    return schema.check(columns, n, schema.refusals(n, listed))
