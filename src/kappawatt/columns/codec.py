"""Bytes to columns and back: JSON, NDJSON, CSV and Arrow IPC streams, one reader for every door.

`decode` reads one body (HTTP, SageMaker, a file); `decode_many` reads many messages of one content type at
once (the bus), in bulk where all of them are plain, and one by one only to find out which of them is not.
Both return validated `Batch`es, so nothing behind them meets a value it has to doubt.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.columns import arrow
from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.schema import MAX_TIMESTAMP, MIN_TIMESTAMP, SHORTEST, Field, Kind, Schema, nothing, shorten
from kappawatt.errors import ContentTypeUnsupported, PayloadInvalid

__all__ = [
    "ARROW",
    "CSV",
    "JSON",
    "NDJSON",
    "READABLE",
    "Decoded",
    "ManyDecoded",
    "column_of",
    "content_type_of",
    "decode",
    "decode_many",
    "decode_objects",
    "load_json",
]

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
ARROW = arrow.MEDIA_TYPE
READABLE = (JSON, NDJSON, CSV, ARROW)

ALIASES = {
    "application/jsonl": NDJSON,
    "application/jsonlines": NDJSON,
    "application/ndjson": NDJSON,
    "application/x-jsonlines": NDJSON,
    "application/csv": CSV,
    "application/vnd.apache.arrow": ARROW,
    "application/x-apache-arrow-stream": ARROW,
}
NUMBER_CHARACTERS = b"0123456789+-.eE,"

Form = Literal["object", "list", "columns", "table"]
Origins = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One body as rows.

    Parameters
    ----------
    form : str
        How the rows stood in the body, so that the answer can stand the same way: `object` (one row),
        `list`, `columns` or `table` (CSV, NDJSON, Arrow).
    """

    batch: Batch
    form: Form = "table"


@dataclass(frozen=True, slots=True)
class ManyDecoded:
    """Many messages as rows of one batch.

    Parameters
    ----------
    message : ndarray of int, shape (n_rows,)
        Which message each row came from.
    row : ndarray of int, shape (n_rows,)
        Its position inside that message.
    """

    batch: Batch
    message: Origins
    row: Origins


def content_type_of(value: str | None, default: str | None = None) -> str:
    """Return the content type without parameters, aliases resolved.

    Raises
    ------
    ContentTypeUnsupported
        It is none of `READABLE`.
    """
    bare = (value or default or "").split(";", 1)[0].strip().lower()
    bare = ALIASES.get(bare, bare)
    if bare not in READABLE:
        raise ContentTypeUnsupported(f"content-type: got {bare!r}, allowed {', '.join(READABLE)}")
    return bare


def decode(body: bytes, content_type: str, schema: Schema) -> Decoded:
    """Read and validate one body.

    Parameters
    ----------
    body : bytes
    content_type : str
        One of `READABLE`.
    schema : Schema

    Raises
    ------
    PayloadInvalid
        The body as a whole cannot be read, or holds no row.
    """
    if not body.strip():
        raise PayloadInvalid(f"body: got nothing, allowed rows of {schema.name} as {content_type}")
    if content_type == JSON:
        return _decode_json(body, schema)
    if content_type == NDJSON:
        return Decoded(_decode_lines(body, schema))
    if content_type == CSV:
        return Decoded(_decode_csv(body, schema))
    return Decoded(_decode_arrow(body, schema))


def decode_many(values: Sequence[bytes], content_type: str, schema: Schema) -> ManyDecoded:
    """Read and validate many messages of one content type; an unreadable message is one rejected row."""
    if content_type in (CSV, JSON):
        bulk = _bulk_csv(values, schema) if content_type == CSV else _bulk_json(values, schema)
        if bulk is not None:
            every = np.arange(len(values), dtype=np.intp)
            return ManyDecoded(bulk, every, np.zeros(len(values), dtype=np.intp))
    batches = [_one_message(value, content_type, schema) for value in values]
    return _join(batches, schema)


def decode_objects(rows: Sequence[Any], schema: Schema) -> Batch:
    """Validate rows that are parsed JSON already."""
    return _rows_to_batch(rows, schema)


# --- JSON ---------------------------------------------------------------------------------------------------


class _Repeated(dict[str, Any]):
    """An object in which a key stood twice."""

    key: str = ""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    repeated = _Repeated(result)
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            repeated.key = key
            break
        seen.add(key)
    return repeated


def load_json(body: bytes) -> Any:
    """Parse JSON; objects with a repeated key come back as `_Repeated`.

    orjson parses and keeps the last of repeated keys. Whether there were any shows in the number of quotes:
    each key has two, and so has each text value. Only when that does not add up (repeats, or escaped quotes),
    or when orjson refuses (NaN and Infinity are not JSON, but the sender should hear which field held them),
    Python's own parser looks at pairs.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = str(error)
    else:
        if body.count(b'"') == _quotes(parsed, 0):
            return parsed
        reason = "malformed"
    try:
        return json.loads(body, object_pairs_hook=_pairs)
    except RecursionError:
        raise PayloadInvalid("body: got JSON nested too deeply, allowed rows of flat objects") from None
    except UnicodeDecodeError as error:
        raise PayloadInvalid(f"body: got bytes that are not UTF-8 at {error.start}, allowed UTF-8") from None
    except ValueError:
        raise PayloadInvalid(f"body: got malformed JSON ({reason}), allowed JSON (RFC 8259)") from None


def _quotes(value: Any, depth: int) -> int:
    """How many quotes the JSON text of `value` has if no key repeats and no text holds a quote; -1 if deep."""
    kind = type(value)
    if kind is str:
        return 2
    if depth > 8:
        return -1_000_000
    if kind is dict:
        total = 2 * len(value)
        for inner in value.values():
            if type(inner) is not float and type(inner) is not int:
                total += _quotes(inner, depth + 1)
        return total
    if kind is list:
        total = 0
        for inner in value:
            if type(inner) is not float and type(inner) is not int:
                total += _quotes(inner, depth + 1)
        return total
    return 0


def _decode_json(body: bytes, schema: Schema) -> Decoded:
    parsed = load_json(body)
    if isinstance(parsed, list):
        if not parsed:
            raise PayloadInvalid(f"body: got an empty list, allowed 1 row of {schema.name} or more")
        return Decoded(_rows_to_batch(parsed, schema), "list")
    if isinstance(parsed, dict):
        if parsed.keys() == {"columns"}:
            return Decoded(_columns_to_batch(parsed["columns"], schema), "columns")
        return Decoded(_rows_to_batch([parsed], schema), "object")
    raise PayloadInvalid(
        f"body: got {shorten(parsed)!r}, allowed an object, a list of objects or "
        f'{{"columns": {{field: list}}}} of {schema.name}'
    )


def _decode_lines(body: bytes, schema: Schema) -> Batch:
    lines = [line for line in body.splitlines() if line.strip()]
    bulk = _bulk_json(lines, schema)
    return bulk if bulk is not None else decode_many(lines, JSON, schema).batch


def _rows_to_batch(rows: Sequence[Any], schema: Schema) -> Batch:
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
    if isinstance(row, _Repeated):
        rejections.append(Rejection(i, "duplicate_field", row.key[:SHORTEST], "this field twice", "each field once"))
        return row
    if not isinstance(row, dict):
        rejections.append(Rejection(i, "malformed", None, shorten(row), f"an object of {schema.name}"))
        return {}
    return row


def _columns_to_batch(columns: Any, schema: Schema) -> Batch:
    if isinstance(columns, _Repeated):
        raise PayloadInvalid(f"columns: got {columns.key!r} twice, allowed each field once")
    if not isinstance(columns, dict) or not columns:
        raise PayloadInvalid(f"columns: got {shorten(columns)!r}, allowed an object of lists")
    lengths = {name: len(c) if isinstance(c, list) else None for name, c in columns.items()}
    if None in lengths.values() or len(set(lengths.values())) != 1 or 0 in lengths.values():
        got = {name[:SHORTEST]: length or "no list" for name, length in lengths.items()}
        raise PayloadInvalid(f"columns: got lengths {got}, allowed lists of one length from 1 up")
    _refuse_unknown(columns, schema)
    n = len(next(iter(columns.values())))
    rejections: list[Rejection] = []
    read = {n_: column_of(columns[n_], schema.field(n_), rejections) for n_ in columns}
    return schema.check(read, n, rejections)


def _refuse_unknown(names: Iterable[str], schema: Schema) -> None:
    for name in names:
        if name not in schema.names:
            raise PayloadInvalid(schema.unknown(0, name, "this column").message)


def column_of(values: list[Any], field: Field, rejections: list[Rejection]) -> NDArray[Any]:
    """One JSON column as an array; None is missing, values of a wrong type are refused."""
    if field.kind is Kind.TIMESTAMP:
        return _timestamps(values, field, rejections)
    if field.kind is Kind.TEXT:
        return _texts(values, field, rejections)
    kinds = set(map(type, values))
    if not kinds <= {float, int}:
        clean: list[Any] = []
        for row, value in enumerate(values):
            if type(value) in (float, int):
                clean.append(value)
                continue
            clean.append(math.nan)
            if value is not None:
                rejections.append(Rejection(row, "not_a_number", field.name, shorten(value), field.allowed))
        values = clean
    elif float in kinds:
        for row, value in enumerate(values):
            if value != value:  # a literal NaN: Python's parser reads it, JSON does not have it
                rejections.append(Rejection(row, "not_finite", field.name, "NaN", field.allowed))
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # an integer beyond any float
        return np.array([_as_float(value) for value in values])


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _texts(values: list[Any], field: Field, rejections: list[Rejection]) -> NDArray[Any]:
    column = np.full(len(values), None, dtype=object)
    for row, value in enumerate(values):
        if isinstance(value, str) and 0 < len(value) <= 200:
            column[row] = value
        elif value is not None:
            rejections.append(Rejection(row, "not_text", field.name, shorten(value), field.allowed))
    return column


def _timestamps(values: list[Any], field: Field, rejections: list[Rejection]) -> NDArray[Any]:
    if set(map(type, values)) == {type(None)}:
        return np.full(len(values), np.datetime64("NaT"), dtype="datetime64[ms]")
    column = np.full(len(values), np.datetime64("NaT"), dtype="datetime64[ms]")
    for row, value in enumerate(values):
        if value is None:
            continue
        moment = parse_timestamp(value)
        if moment is None:
            rejections.append(Rejection(row, "not_a_timestamp", field.name, shorten(value), field.allowed))
        else:
            column[row] = np.datetime64(moment, "ms")
    return column


def parse_timestamp(value: Any) -> int | None:
    """Return ms since the epoch of an ISO 8601 time with zone or of a number of ms; None if it is neither."""
    if isinstance(value, str):
        if value.isascii() and value.isdigit():
            value = int(value[:16])
        else:
            try:
                moment = datetime.fromisoformat(value)
                if moment.tzinfo is None:
                    return None
                return int(moment.timestamp() * 1000)
            except (ValueError, OverflowError):
                return None
    if type(value) not in (int, float) or not 0 <= value <= MAX_TIMESTAMP or value != int(value):
        return None
    return int(value)


def _bulk_json(values: Sequence[bytes], schema: Schema) -> Batch | None:
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
    if len(rows) != len(values) or joined.count(b'"') != _quotes(rows, 0):
        return None
    return _rows_to_batch(rows, schema)


# --- CSV ----------------------------------------------------------------------------------------------------


def _bulk_csv(values: Sequence[bytes], schema: Schema) -> Batch | None:
    """Many messages of one plain CSV row each; None if any holds more than digits, signs and commas."""
    joined = b"\n".join(values)
    if joined.translate(None, NUMBER_CHARACTERS) != b"\n" * (len(values) - 1):
        return None
    return _plain_rows(joined, len(values), schema.csv_fields, schema)


def _plain_rows(joined: bytes, n: int, fields: Sequence[Field], schema: Schema) -> Batch | None:
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


def _decode_csv(body: bytes, schema: Schema) -> Batch:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PayloadInvalid(f"body: got bytes that are not UTF-8 at {error.start}, allowed UTF-8") from None
    if "\x00" in text:
        raise PayloadInvalid("body: got a NUL character, allowed CSV text")
    first, _, rest = text.lstrip().partition("\n")
    headers = [cell.strip().strip('"') for cell in first.strip().split(",")]
    if _is_header(headers, schema):
        fields = _fields_of(headers, schema)
        text = rest
    else:
        fields = list(schema.csv_fields)
    lines = text.replace("\r\n", "\n").strip("\n")
    if not lines.strip():
        raise PayloadInvalid(f"body: got a header and no row, allowed 1 row of {schema.name} or more")
    encoded = lines.encode()
    n = encoded.count(b"\n") + 1
    if None not in fields and encoded.translate(None, NUMBER_CHARACTERS) == b"\n" * (n - 1):
        known = [field for field in fields if field is not None]
        plain = _plain_rows(encoded, n, known, schema)
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
            raise PayloadInvalid(schema.unknown(0, name, "this column").message)
        elif known[name] in fields:
            raise PayloadInvalid(f"{known[name].name}: got two columns of it, allowed one")
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
        raise PayloadInvalid(f"body: got malformed CSV ({error}), allowed CSV (RFC 4180)") from None
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
            columns[field.name] = _timestamps([t or None for t in texts], field, rejections)
        elif field.kind is Kind.TEXT:
            columns[field.name] = _texts([t or None for t in texts], field, rejections)
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


# --- Arrow --------------------------------------------------------------------------------------------------


def _decode_arrow(body: bytes, schema: Schema) -> Batch:
    found = arrow.read_columns(body)
    _refuse_unknown(found, schema)
    n = len(next(iter(found.values())))
    if n == 0:
        raise PayloadInvalid(f"rows: got 0, allowed 1 to {arrow.MOST_ROWS}")
    rejections: list[Rejection] = []
    columns = {name: _arrow_column(c, schema.field(name), rejections) for name, c in found.items()}
    return schema.check(columns, n, rejections)


def _arrow_column(column: NDArray[Any], field: Field, rejections: list[Rejection]) -> NDArray[Any]:
    kind = column.dtype.kind
    if kind == "O" and all(value is None for value in column):
        return nothing(field.kind, len(column))
    if field.kind is Kind.TEXT and kind == "O":
        return _texts(column.tolist(), field, rejections)
    if field.kind is Kind.TIMESTAMP and kind in "Mi":
        whole = column.astype("datetime64[ms]").astype(np.int64)
        outside = (whole < MIN_TIMESTAMP) | (whole > MAX_TIMESTAMP)
        return np.where(outside, np.datetime64("NaT"), whole.astype("datetime64[ms]"))
    if field.kind not in (Kind.TEXT, Kind.TIMESTAMP) and kind in "fiu":
        return column.astype(np.float64)
    raise PayloadInvalid(f"{field.name}: got an Arrow column of {column.dtype}, allowed {field.allowed}")


# --- many messages ------------------------------------------------------------------------------------------


def _one_message(value: bytes, content_type: str, schema: Schema) -> Batch:
    try:
        return decode(value, content_type, schema).batch
    except PayloadInvalid as error:
        allowed = f"rows of {schema.name} as {content_type} ({str(error)[:400]})"
        refused = Rejection(0, "malformed", None, shorten(value[:SHORTEST]), allowed)
        return schema.check({}, 1, [refused])


def _join(batches: Sequence[Batch], schema: Schema) -> ManyDecoded:
    lengths = [len(batch) for batch in batches]
    starts = np.concatenate(([0], np.cumsum(lengths)))
    message = np.repeat(np.arange(len(batches), dtype=np.intp), lengths)
    row = np.arange(starts[-1], dtype=np.intp) - starts[message]
    if len(batches) == 1:
        return ManyDecoded(batches[0], message, row)
    columns = {name: np.concatenate([b.columns[name] for b in batches]) for name in schema.names}
    valid = np.concatenate([b.valid for b in batches])
    rejections = tuple(
        r.at(r.row + int(start)) for start, b in zip(starts, batches, strict=False) for r in b.rejections
    )
    return ManyDecoded(Batch(columns, valid, rejections), message, row)
