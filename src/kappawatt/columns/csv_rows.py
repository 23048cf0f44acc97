"""Rows as CSV, with a header or in the order of the schema."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.bulk_rows import NUMBER_CHARACTERS, plain_rows
from kappawatt.columns.schema import Field, Kind, Schema, shorten
from kappawatt.columns.values import texts_of, timestamps_of
from kappawatt.errors import PayloadInvalid


def decode_csv(body: bytes, schema: Schema) -> Batch:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PayloadInvalid.of("body", f"bytes that are not UTF-8 at {error.start}", "UTF-8") from None
    if "\x00" in text:
        raise PayloadInvalid.of("body", "a NUL character", "CSV text")
    first, _, rest = text.lstrip().partition("\n")
    headers = [cell.strip().strip('"') for cell in first.strip().split(",")]
    if _is_header(headers, schema):
        fields = _fields_of(headers, schema)
        text = rest
    else:
        fields = list(schema.csv_fields)
    lines = text.replace("\r\n", "\n").strip("\n")
    if not lines.strip():
        raise PayloadInvalid.of("body", "a header and no row", f"1 row of {schema.name} or more")
    encoded = lines.encode()
    n = encoded.count(b"\n") + 1
    if None not in fields and encoded.translate(None, NUMBER_CHARACTERS) == b"\n" * (n - 1):
        known = [field for field in fields if field is not None]
        plain = plain_rows(encoded, n, known, schema)
        if plain is not None:
            return plain
    return _csv_cells(lines, fields, schema)


def _is_header(cells: Sequence[str], schema: Schema) -> bool:
    """A first line is a header when a cell names a field, or none of its cells starts like a number."""
    known = schema.by_header()
    if any(cell in known for cell in cells):
        return True
    return all(cell == "" or re.match(r"[A-Za-z_]{2}", cell) is not None for cell in cells) and not any(
        cell.lower() in ("nan", "inf", "infinity", "null", "none", "") for cell in cells
    )


def _fields_of(headers: Sequence[str], schema: Schema) -> list[Field | None]:
    """The field of each column; a first column without a name is a running number and is left out."""
    known = schema.by_header()
    fields: list[Field | None] = []
    for place, name in enumerate(headers):
        if place == 0 and name == "" and len(headers) > 1:
            fields.append(None)
        elif name not in known:
            raise schema.unknown(0, name, "this column").error
        elif known[name] in fields:
            raise PayloadInvalid.of(known[name].name, "two columns of it", "one")
        else:
            fields.append(known[name])
    return fields


def _csv_cells(text: str, fields: Sequence[Field | None], schema: Schema) -> Batch:
    """The careful way, cell by cell, which knows quotes, blanks and what exactly is wrong."""
    rejections: list[Rejection] = []
    cells: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text), strict=True):
            if row:
                cells.append(row)
    except csv.Error as error:
        raise PayloadInvalid.of("body", f"malformed CSV ({error})", "CSV (RFC 4180)") from None
    required = sum(field is None or field.required for field in fields)
    for i, row in enumerate(cells):
        if not required <= len(row) <= len(fields):
            rejections.append(Rejection(i, "malformed", None, f"{len(row)} values", _order(fields)))
            cells[i] = []
    columns: dict[str, NDArray[Any]] = {}
    for place, field in enumerate(fields):
        if field is None:
            continue
        texts = [row[place].strip() if place < len(row) else "" for row in cells]
        if field.kind is Kind.TIMESTAMP:
            columns[field.name] = timestamps_of([t or None for t in texts], field, rejections)
        elif field.kind is Kind.TEXT:
            columns[field.name] = texts_of([t or None for t in texts], field, rejections)
        else:
            columns[field.name] = _numbers(texts, field, rejections)
    return schema.check(columns, len(cells), rejections)


def _order(fields: Sequence[Field | None]) -> str:
    """The columns of a row, those at the end that may be left out in brackets: `AT,V,AP,RH[,PE]`."""
    names = ["" if f is None else (f.column or f.name) for f in fields]
    least = max((i + 1 for i, f in enumerate(fields) if f is None or f.required), default=0)
    return ",".join(names[:least]) + "".join(f"[,{name}]" for name in names[least:])


def _numbers(texts: Sequence[str], field: Field, rejections: list[Rejection]) -> NDArray[np.float64]:
    column = np.full(len(texts), np.nan)
    for row, text in enumerate(texts):
        if text == "":
            continue
        try:
            value = float(text) if "_" not in text and text.isascii() else None
        except ValueError:
            value = None
        if value is None:
            rejections.append(Rejection(row, "not_a_number", field.name, shorten(text), field.allowed))
        elif value != value:
            rejections.append(Rejection(row, "not_finite", field.name, text, field.allowed))
        else:
            column[row] = value
    return column
