"""Rows as CSV, with a header or in the order of the schema."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch
from kappawatt.columns.blocks import BLOCK_BYTES, joined, lines_of
from kappawatt.columns.budget import STANDARD, Budget
from kappawatt.columns.bulk_rows import NUMBER_CHARACTERS, plain_rows
from kappawatt.columns.refusals import Refusals
from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.columns.values import texts_of, timestamps_of
from kappawatt.errors import PayloadInvalid

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLANKS = re.compile(rb"\s*")
LONGEST_ROW = 256 * 1024  # bytes; a quote that is never closed would make all the rest one row


def decode_csv(body: bytes, schema: Schema, budget: Budget = STANDARD) -> Batch:
    if b"\x00" in body:
        raise PayloadInvalid.of("body", "a NUL character", "CSV text")
    start = len(BYTE_ORDER_MARK) if body.startswith(BYTE_ORDER_MARK) else 0
    start = BLANKS.match(body, start).end()  # type: ignore[union-attr]
    end = body.find(b"\n", start) + 1 or len(body)
    _require_short(end - start)
    first = _text(body[start:end], start)
    headers = [cell.strip().strip('"') for cell in first.strip().split(",")]
    _refuse_other_separators(first.strip(), headers)
    fields: list[Field | None] = list(schema.csv_fields)
    if _is_header(headers, schema):
        fields, start = _fields_of(headers, schema), end
    batches, count = [], 0
    for batch in _batches(body, start, fields, schema, budget):
        count += len(batch)
        budget.allow_rows(count)
        batches.append(batch)
    if not batches:
        raise PayloadInvalid.of("body", "a header and no row", f"1 row of {schema.name} or more")
    return joined(batches, schema, budget.listed)


def _refuse_other_separators(first: str, cells: Sequence[str]) -> None:
    """Name the character that cuts a line into cells where it is no comma."""
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if mark in first and (len(cells) == 1 or first.count(mark) >= len(cells) - 1):
            raise PayloadInvalid.of("header", f"{first[:80]!r}, separated by {name}", "columns separated by commas")


def _batches(body: bytes, start: int, fields: list[Field | None], schema: Schema, budget: Budget) -> Iterator[Batch]:
    """The rows of a body from `start` on, a block of lines at a time; quoted text may hold ends of lines."""
    known = None if None in fields else [field for field in fields if field is not None]
    for block in lines_of(body, start):
        if len(block) > BLOCK_BYTES:  # a single line
            _require_short(len(block))
        lines = block.replace(b"\r\n", b"\n").strip(b"\n")
        if not lines.strip():
            start += len(block)
            continue
        n = lines.count(b"\n") + 1
        budget.allow_rows(n)
        if known and lines.translate(None, NUMBER_CHARACTERS) == b"\n" * (n - 1):
            plain = plain_rows(lines, n, known, schema, budget.listed)
            if plain is not None:
                yield plain
                start += len(block)
                continue
        if b'"' in block:
            yield from _quoted(body, start, fields, schema, budget)
            return
        cells = _rows_of(io.StringIO(_text(lines, start)))
        yield _csv_cells([row for row in cells if row], fields, schema, budget)
        start += len(block)


def _quoted(body: bytes, start: int, fields: list[Field | None], schema: Schema, budget: Budget) -> Iterator[Batch]:
    lines = _Lines(body, start)
    cells: list[list[str]] = []
    size = 0
    for row in _rows_of(lines):
        size += lines.take()
        if row:
            cells.append(row)
        if size >= BLOCK_BYTES:
            yield _csv_cells(cells, fields, schema, budget)
            cells, size = [], 0
    if cells:
        yield _csv_cells(cells, fields, schema, budget)


class _Lines:
    """The lines of a body, as a reader of CSV takes them; no row may have too many of them."""

    def __init__(self, body: bytes, start: int) -> None:
        self._body = body
        self._at = start
        self._size = 0  # bytes since the last row

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._at >= len(self._body):
            raise StopIteration
        end = self._body.find(b"\n", self._at) + 1 or len(self._body)
        self._size += end - self._at
        _require_short(self._size)
        line = _text(self._body[self._at : end], self._at)
        self._at = end
        return line.replace("\r\n", "\n")

    def take(self) -> int:
        """The bytes of the row that was just read."""
        size, self._size = self._size, 0
        return size


def _require_short(size: int) -> None:
    if size > LONGEST_ROW:
        raise PayloadInvalid.of("body", f"a row of {size:,} bytes or more", f"rows of up to {LONGEST_ROW:,} bytes")


def _text(part: bytes, start: int) -> str:
    try:
        return part.decode()
    except UnicodeDecodeError as error:
        raise PayloadInvalid.of("body", f"bytes that are not UTF-8 at {start + error.start}", "UTF-8") from None


def _rows_of(lines: Iterable[str]) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, strict=True)
    except csv.Error as error:
        raise PayloadInvalid.of("body", f"malformed CSV ({error})", "CSV (RFC 4180)") from None


def _is_header(cells: Sequence[str], schema: Schema) -> bool:
    """A first line is a header when a cell names a field, or none of its cells starts like a number."""
    known = schema.by_header()
    if any(cell in known or schema.knows(cell) for cell in cells):
        return True
    return all(cell == "" or re.match(r"[A-Za-z_]{2}", cell) is not None for cell in cells) and not any(
        cell.lower() in ("nan", "inf", "infinity", "null", "none", "") for cell in cells
    )


def _fields_of(headers: Sequence[str], schema: Schema) -> list[Field | None]:
    """The field of each column; a first column without a name is a running number and is left out."""
    known = schema.by_header() | {name: schema.field(name) for name in schema.more(headers)}
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


def _csv_cells(cells: list[list[str]], fields: Sequence[Field | None], schema: Schema, budget: Budget) -> Batch:
    """The careful way, cell by cell, which knows quotes, blanks and what exactly is wrong."""
    refusals = schema.refusals(len(cells), budget.listed)
    required = sum(field is None or field.required for field in fields)
    order = _order(fields)
    for i, row in enumerate(cells):
        if not required <= len(row) <= len(fields):
            refusals.refuse(i, "malformed", None, f"{len(row)} values", order)
            cells[i] = []
    columns: dict[str, NDArray[Any]] = {}
    for place, field in enumerate(fields):
        if field is None:
            continue
        texts = [row[place].strip() if place < len(row) else "" for row in cells]
        if field.kind is Kind.TIMESTAMP:
            columns[field.name] = timestamps_of([t or None for t in texts], field, refusals)
        elif field.kind is Kind.TEXT:
            columns[field.name] = texts_of([t or None for t in texts], field, refusals)
        else:
            columns[field.name] = _numbers(texts, field, refusals)
    return schema.check(columns, len(cells), refusals)


def _order(fields: Sequence[Field | None]) -> str:
    """The columns of a row, those at the end that may be left out in brackets: `AT,V,AP,RH[,PE]`."""
    names = ["" if f is None else (f.column or f.name) for f in fields]
    least = max((i + 1 for i, f in enumerate(fields) if f is None or f.required), default=0)
    return ",".join(names[:least]) + "".join(f"[,{name}]" for name in names[least:])


def _numbers(texts: Sequence[str], field: Field, refusals: Refusals) -> NDArray[np.float64]:
    column = np.full(len(texts), np.nan)
    for row, text in enumerate(texts):
        if text == "":
            continue
        try:
            value = float(text) if "_" not in text and text.isascii() else None
        except ValueError:
            value = None
        if value is None:
            refusals.refuse_value(row, "not_a_number", field, text)
        elif value != value:
            refusals.refuse_value(row, "not_finite", field, text)
        else:
            column[row] = value
    return column
