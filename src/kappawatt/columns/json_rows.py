"""Rows as JSON: one object, a list of them, columns, or one object a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch
from kappawatt.columns.blocks import LIST_BYTES, in_blocks, joined, lines_of
from kappawatt.columns.budget import STANDARD, Budget
from kappawatt.columns.content import JSON, Decoded
from kappawatt.columns.refusals import Refusals
from kappawatt.columns.schema import SHORTEST, Kind, Schema, shorten
from kappawatt.columns.strict_json import SMALL, SURROGATE_ESCAPE, Repeated, count_quotes, load_json
from kappawatt.columns.values import column_of, refuse_unknown
from kappawatt.errors import PayloadInvalid, PayloadTooLarge

__all__ = ["decode_json", "decode_lines", "decode_objects", "decode_parsed", "objects_at_once"]

MOST_UNKNOWN = 20  # unknown fields of one row that are named


def decode_json(body: bytes, schema: Schema, budget: Budget = STANDARD) -> Decoded:
    if len(body) > LIST_BYTES:
        batches = in_blocks(
            body, lambda text: load_json(text, budget), lambda rows, _: decode_objects(rows, schema, budget), budget
        )
        if batches is not None:
            return Decoded(joined(batches, schema, budget.listed), "list")
    return decode_parsed(load_json(body, budget), schema, budget)


def decode_parsed(parsed: Any, schema: Schema, budget: Budget = STANDARD) -> Decoded:
    """Validate rows that are parsed JSON already: an object, a list of them, or columns."""
    if isinstance(parsed, list):
        if not parsed:
            raise PayloadInvalid.of("body", "an empty list", f"1 row of {schema.name} or more")
        return Decoded(decode_objects(parsed, schema, budget), "list")
    if isinstance(parsed, dict):
        if parsed.keys() == {"columns"}:
            return Decoded(_columns_to_batch(parsed["columns"], schema, budget), "columns")
        return Decoded(decode_objects([parsed], schema, budget), "object")
    raise PayloadInvalid.of(
        "body",
        repr(shorten(parsed)),
        f'an object, a list of objects or {{"columns": {{field: list}}}} of {schema.name}',
    )


def decode_lines(body: bytes, schema: Schema, budget: Budget) -> Batch:
    """One row of JSON a line."""
    batches, count = [], 0
    for text in lines_of(body):
        lines = [line for line in text.splitlines() if line.strip()]
        count += len(lines)
        budget.allow_rows(count)
        if lines:
            batches.append(_decode_lines(lines, schema, budget))
    return joined(batches, schema, budget.listed)


def _decode_lines(lines: Sequence[bytes], schema: Schema, budget: Budget) -> Batch:
    plain = objects_at_once(lines, budget)
    return decode_objects(plain if plain is not None else [_line(line, budget) for line in lines], schema, budget)


def objects_at_once(values: Sequence[bytes], budget: Budget = STANDARD) -> list[Any] | None:
    """Many texts of one flat object each, parsed as one list; None if any of them is anything else, or all too many.

    The checks make it impossible for two damaged texts to be taken for one: each starts and ends with a
    brace, no list opens anywhere, and the newline between them cannot stand inside JSON text.
    """
    joined_ = b",\n".join(values)
    if b"[" in joined_ or not all(v[:1] == b"{" and v[-1:] == b"}" for v in values):
        return None
    try:
        budget.allow_objects(joined_)
        rows: list[Any] = orjson.loads(b"[" + joined_ + b"]")
    except (PayloadTooLarge, orjson.JSONDecodeError):
        return None
    if len(rows) != len(values) or joined_.count(b'"') != count_quotes(rows, 0):
        return None
    return rows


@dataclass(frozen=True, slots=True)
class _Unread:
    """A line that is no JSON."""

    text: bytes
    reason: str


def _line(line: bytes, budget: Budget) -> Any:
    """The value in a line; `_Unread` if there is none."""
    try:
        if len(line) > SMALL:
            budget.allow_objects(line)
        parsed = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        # of NaN and Infinity, and of text that is no Unicode, the sender should hear by field
        if b"N" not in line and b"I" not in line and SURROGATE_ESCAPE.search(line) is None:
            return _Unread(line, f"body: got malformed JSON ({error}), allowed JSON (RFC 8259)")
    except PayloadInvalid as error:
        return _Unread(line, str(error))
    else:
        if line.count(b'"') == count_quotes(parsed, 0):
            return parsed
    try:
        return load_json(line, budget)
    except PayloadInvalid as error:
        return _Unread(line, str(error))


def decode_objects(
    rows: Sequence[Any], schema: Schema, budget: Budget | None = None, listed: int | None = None
) -> Batch:
    """Validate rows that are parsed JSON already; without a budget so many rejections are kept (None: all)."""
    if len(rows) == 1 and type(rows[0]) is dict:
        batch = schema.plain_row(rows[0])
        if batch is not None:
            return batch
    if budget is not None:
        budget.allow_rows(len(rows))
        listed = budget.listed
    plain = _plain_objects(rows, schema)
    if plain is not None:
        return schema.check(plain, len(rows), schema.refusals(len(rows), listed))
    refusals = schema.refusals(len(rows), listed)
    if not {type(row) for row in rows} <= {dict}:
        rows = [_checked_row(i, row, schema, refusals) for i, row in enumerate(rows)]
    named: set[str] = set().union(*rows)
    fields = tuple(f for f in schema.fields if f.name in named)
    if not named <= set(schema.names):
        more = schema.more(named)
        fields = (*fields, *map(schema.field, more))
        if not named <= {*schema.names, *more}:
            for i, row in enumerate(rows):
                _refuse_unknown_fields(i, row, schema, refusals)
    columns = {f.name: column_of([row.get(f.name) for row in rows], f, refusals) for f in fields}
    return schema.check(columns, len(rows), refusals)


def _refuse_unknown_fields(i: int, row: dict[str, Any], schema: Schema, refusals: Refusals) -> None:
    names = [name for name in row if not schema.knows(name)]
    named = names[:MOST_UNKNOWN] if refusals.has_room else []
    for name in named:
        unknown = schema.unknown(i, name, row[name])
        refusals.refuse(i, unknown.code, name, row[name], unknown.allowed)
    if len(names) > len(named):
        refusals.count(i, "unknown_field", len(names) - len(named))


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


def _checked_row(i: int, row: Any, schema: Schema, refusals: Refusals) -> dict[str, Any]:
    if isinstance(row, Repeated):
        refusals.refuse(i, "duplicate_field", row.key[:SHORTEST], "this field twice", "each field once")
        return row
    if isinstance(row, _Unread):
        allowed = f"rows of {schema.name} as {JSON} ({row.reason[:400]})"
        refusals.refuse(i, "malformed", None, row.text[:SHORTEST], allowed)
        return {}
    if not isinstance(row, dict):
        refusals.refuse(i, "malformed", None, row, f"an object of {schema.name}")
        return {}
    return row


def _columns_to_batch(columns: Any, schema: Schema, budget: Budget) -> Batch:
    if isinstance(columns, Repeated):
        raise PayloadInvalid.of("columns", f"{columns.key!r} twice", "each field once")
    if not isinstance(columns, dict) or not columns:
        raise PayloadInvalid.of("columns", repr(shorten(columns)), "an object of lists")
    lengths = {name: len(c) if isinstance(c, list) else None for name, c in columns.items()}
    if None in lengths.values() or len(set(lengths.values())) != 1 or 0 in lengths.values():
        got = {name[:SHORTEST]: length or "no list" for name, length in islice(lengths.items(), len(schema.names) + 1)}
        raise PayloadInvalid.of("columns", f"lengths {got}", "lists of one length from 1 up")
    refuse_unknown(columns, schema)
    schema.more(columns)
    n = len(next(iter(columns.values())))
    budget.allow_rows(n)
    refusals = schema.refusals(n, budget.listed)
    read = {n_: column_of(columns[n_], schema.field(n_), refusals) for n_ in columns}
    return schema.check(read, n, refusals)
