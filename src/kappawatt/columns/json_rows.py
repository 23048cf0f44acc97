"""Rows as JSON: one object, a list of them, columns, or one object a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.content import Decoded
from kappawatt.columns.schema import SHORTEST, Kind, Schema, shorten
from kappawatt.columns.strict_json import Repeated, load_json
from kappawatt.columns.values import column_of, refuse_unknown
from kappawatt.errors import PayloadInvalid

__all__ = ["decode_json", "decode_objects", "decode_parsed"]


def decode_json(body: bytes, schema: Schema) -> Decoded:
    return decode_parsed(load_json(body), schema)


def decode_parsed(parsed: Any, schema: Schema) -> Decoded:
    """Validate rows that are parsed JSON already: an object, a list of them, or columns."""
    if isinstance(parsed, list):
        if not parsed:
            raise PayloadInvalid.of("body", "an empty list", f"1 row of {schema.name} or more")
        return Decoded(decode_objects(parsed, schema), "list")
    if isinstance(parsed, dict):
        if parsed.keys() == {"columns"}:
            return Decoded(_columns_to_batch(parsed["columns"], schema), "columns")
        return Decoded(decode_objects([parsed], schema), "object")
    raise PayloadInvalid.of(
        "body",
        repr(shorten(parsed)),
        f'an object, a list of objects or {{"columns": {{field: list}}}} of {schema.name}',
    )


def decode_objects(rows: Sequence[Any], schema: Schema) -> Batch:
    """Validate rows that are parsed JSON already."""
    if len(rows) == 1 and type(rows[0]) is dict:
        batch = schema.plain_row(rows[0])
        if batch is not None:
            return batch
    plain = _plain_objects(rows, schema)
    if plain is not None:
        return schema.check(plain, len(rows))
    rejections: list[Rejection] = []
    if not {type(row) for row in rows} <= {dict}:
        rows = [_checked_row(i, row, schema, rejections) for i, row in enumerate(rows)]
    if not set().union(*rows) <= set(schema.names):
        known = set(schema.names)
        for i, row in enumerate(rows):
            for name in (name for name in row if name not in known):
                rejections.append(schema.unknown(i, name, row[name]))
    columns = {f.name: column_of([row.get(f.name) for row in rows], f, rejections) for f in schema.fields}
    return schema.check(columns, len(rows), rejections)


def _plain_objects(rows: Sequence[Any], schema: Schema) -> dict[str, NDArray[Any]] | None:
    """Columns of rows that have the required fields, all numbers, and no other; None for anything else."""
    names = [field.name for field in schema.required]
    if set(map(type, rows)) != {dict} or any(f.kind in (Kind.TEXT, Kind.TIMESTAMP) for f in schema.required):
        return None
    try:
        flat = [row[name] for name in names for row in rows]
    except KeyError:
        return None
    if not set(map(type, flat)) <= {float, int} or any(len(row) != len(names) for row in rows):
        return None
    try:
        matrix = np.array(flat, dtype=np.float64).reshape(len(names), len(rows))
    except OverflowError:
        return None
    return None if np.isnan(matrix).any() else dict(zip(names, matrix, strict=True))


def _checked_row(i: int, row: Any, schema: Schema, rejections: list[Rejection]) -> dict[str, Any]:
    if isinstance(row, Repeated):
        rejections.append(Rejection(i, "duplicate_field", row.key[:SHORTEST], "this field twice", "each field once"))
        return row
    if not isinstance(row, dict):
        rejections.append(Rejection(i, "malformed", None, shorten(row), f"an object of {schema.name}"))
        return {}
    return row


def _columns_to_batch(columns: Any, schema: Schema) -> Batch:
    if isinstance(columns, Repeated):
        raise PayloadInvalid.of("columns", f"{columns.key!r} twice", "each field once")
    if not isinstance(columns, dict) or not columns:
        raise PayloadInvalid.of("columns", repr(shorten(columns)), "an object of lists")
    lengths = {name: len(c) if isinstance(c, list) else None for name, c in columns.items()}
    if None in lengths.values() or len(set(lengths.values())) != 1 or 0 in lengths.values():
        got = {name[:SHORTEST]: length or "no list" for name, length in lengths.items()}
        raise PayloadInvalid.of("columns", f"lengths {got}", "lists of one length from 1 up")
    refuse_unknown(columns, schema)
    n = len(next(iter(columns.values())))
    rejections: list[Rejection] = []
    read = {n_: column_of(columns[n_], schema.field(n_), rejections) for n_ in columns}
    return schema.check(read, n, rejections)
