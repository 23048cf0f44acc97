"""A file of any layout -> its series, and how it was read."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from kappawatt.columns.arrow import read_columns
from kappawatt.columns.budget import FILES, Budget
from kappawatt.datasets.jumps import unit_jumps
from kappawatt.datasets.reading.assemble import Found, assemble
from kappawatt.datasets.reading.cell_units import without_units, without_units_row
from kappawatt.datasets.reading.commas import refuse_cut_numbers
from kappawatt.datasets.reading.content import ARROWS, Content, text_of, unpack
from kappawatt.datasets.reading.epochs import without_counts
from kappawatt.datasets.reading.generic import generic_meaning
from kappawatt.datasets.reading.meaning import Layout, Meaning
from kappawatt.datasets.reading.options import NOTHING_SAID, Options
from kappawatt.datasets.reading.preamble import with_preamble
from kappawatt.datasets.reading.repeated_names import without_repeated_names
from kappawatt.datasets.reading.table import Column, Fact, Table, instant_texts
from kappawatt.datasets.reading.texts import dialect_of, read_with_csv
from kappawatt.datasets.reading.totals import without_totals
from kappawatt.datasets.series import MOST_BYTES
from kappawatt.errors import PayloadInvalid, PayloadTooLarge, SettingInvalid
from kappawatt.forecasting.registers import daily_resets, looks_like_a_register
from kappawatt.streams.stream import Stream, resolve
from kappawatt.streams.table import STREAMS

__all__ = ["is_of_unknown_layout", "layouts", "read_bytes", "read_file", "table_of"]

SHOWN = 80
ARROW_MARK = 8  # bytes before the stream in a file of Arrow, two of them to fill up
BYTES_A_PART = 480  # that an element of XML, or a value of NEM12 with its time, takes
RECORDS = re.compile(rb"\s*[12]00,")
BYTES_A_ROW, BYTES_A_CELL, BYTES_A_COLUMN = 30, 65, 4_096  # that a table takes, each cell different
BYTES_A_VALUE, BYTES_A_SERIES = 330, 3_300  # that a series takes while it is made
TIMES = 6  # of the largest body, for these; the rest is the body itself and what is made of its rows


def layouts() -> tuple[Layout, ...]:
    """Return all layouts known by name, each once."""
    found = [layout for stream in STREAMS if stream.files for layout in resolve(stream.files)]
    return tuple(dict.fromkeys(found))


def read_file(path: Path, options: Options = NOTHING_SAID, stream: Stream | None = None) -> Found:
    """Read a file; see `read_bytes`. Messages begin with its path.

    Raises
    ------
    PayloadInvalid, PayloadTooLarge
        As there; and PayloadInvalid for readings of a register, which the ingestor's door refuses as well.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise PayloadTooLarge.of("file", f"{size} bytes", f"up to {MOST_BYTES}")
        found = read_bytes(path.read_bytes(), options, stream, name=path.name)
        return _with_jumps(found if options.register else _without_registers(found))
    except OSError as error:
        raise PayloadInvalid(f"{path}: {error.strerror}") from error
    except PayloadTooLarge as error:
        raise PayloadTooLarge(f"{path}: {error}") from None
    except PayloadInvalid as error:
        raise PayloadInvalid(f"{path}: {error}") from None


def read_bytes(
    data: bytes,
    options: Options = NOTHING_SAID,
    stream: Stream | None = None,
    *,
    name: str = "",
    budget: Budget | None = None,
    told: list[Fact] | None = None,
) -> Found:
    """Read a file's bytes.

    Parameters
    ----------
    stream : Stream or None
        Whose readings are wanted; None is what the file holds.
    name : str
        The file's, for a key that nothing else tells.
    budget : Budget or None
        What it may become, if it comes from a stranger.
    told : list of Fact or None
        Where facts go as they are found, so that they stay if the file is refused.

    Raises
    ------
    PayloadInvalid
        It cannot be read, or can be in two ways; the message says what settles it.
    PayloadTooLarge
        It is too large.
    """
    table = table_of(data, name, options, budget)
    meaning = _meaning(table, options, name)
    if budget is not None:
        _require_series_within(table if meaning.table is None else meaning.table, meaning, budget)
    if told is not None:
        told.append(Fact("layout", meaning.layout))
    return assemble(table, meaning, options, stream, told)


def _without_registers(found: Found) -> Found:
    """What a file holds, unless it is a meter's register; of a load, which may rise for days, it is said only."""
    facts = list(found.facts)
    for one in found.series:
        resets = daily_resets(one.starts, one.values, one.step, one.time_zone)
        if len(resets):
            at = str(one.starts[resets[0]])[:16]
            got = (
                f"values that rise all day and fall at midnight only, first at {at}Z, as those of a counter of each day"
            )
            raise PayloadInvalid.of(one.key, got, "what each interval added: --register takes their differences")
        if not looks_like_a_register(one.starts, one.values, one.step):
            continue
        if one.stream.schema.field(one.stream.target).minimum == 0:
            got = f"values that never fall, up to {np.nanmax(one.values):g}, as the readings of a counter"
            raise PayloadInvalid.of(one.key, got, "what each interval added: --register takes their differences")
        why = f"of {one.key}; --register takes the differences of a counter's readings"
        facts.append(Fact("values", "never fall, as a counter's readings do", why))
    return replace(found, facts=facts)


def _with_jumps(found: Found) -> Found:
    """What a file holds, and that a series' unit may change within it."""
    facts = list(found.facts)
    for one in found.series:
        jumps = unit_jumps(one.starts, one.values, one.step)
        if jumps:
            first = jumps[0]
            why = f"of {one.key} at {str(first.start)[:16]}Z; as if its unit changed"
            facts.append(Fact("values", f"jump from {first.before:g} to {first.after:g} and stay", why))
    return replace(found, facts=facts)


def _meaning(table: Table, options: Options, name: str) -> Meaning:
    for layout in layouts():
        found = layout.meaning(table, options, name)
        if found is not None:
            return _as_said(found, table if found.table is None else found.table, options)
    try:
        plain = without_units(without_counts(without_units_row(table), options), options)
        found = with_preamble(generic_meaning(plain, options, name), plain, options)
        return found if plain is table else replace(found, table=plain)
    except PayloadInvalid as error:
        if not is_of_unknown_layout(error):
            raise
        names = ", ".join(layout.name for layout in layouts())
        raise PayloadInvalid(f"{error}. Known by name: {names}; `kappawatt inspect` says more") from None


def is_of_unknown_layout(error: PayloadInvalid) -> bool:
    """Return whether a file is refused for being of a layout that nobody knows, not for what it leaves open."""
    if error.field == "header":
        return (error.got or "").startswith("no column") or error.allowed.startswith("a table:")
    return error.field == "file" and ("not known" in (error.got or "") or "no table" in (error.got or ""))


def _as_said(meaning: Meaning, table: Table, options: Options) -> Meaning:
    """A layout's meaning of the columns that a person names; others are refused, since a layout's cannot be mixed."""
    time = table.header[meaning.time.place]
    if options.time_column and options.time_column.lower() != time.lower():
        allowed = f"{time!r}, or nothing: the file is of the layout {meaning.layout}"
        raise PayloadInvalid.of("--time-column", repr(options.time_column[:SHOWN]), allowed)
    if options.covariate_column:
        allowed = f"none of one's own: the file is of the layout {meaning.layout}"
        raise PayloadInvalid.of("--covariate-column", repr(options.covariate_column[0][:SHOWN]), allowed)
    if not options.value_column:
        return meaning
    names = {table.header[value.place].lower(): value for value in meaning.values if not value.field}
    for wanted in options.value_column:
        if wanted.lower() not in names:
            allowed = f"{', '.join(names)[: 2 * SHOWN]}: the file is of the layout {meaning.layout}"
            raise PayloadInvalid.of("--value-column", repr(wanted[:SHOWN]), allowed)
    chosen = {wanted.lower() for wanted in options.value_column}
    kept = tuple(v for v in meaning.values if v.field or table.header[v.place].lower() in chosen)
    return replace(meaning, values=kept)


def table_of(data: bytes, name: str, options: Options, budget: Budget | None = None) -> Table:
    """Return a file's table.

    Text from strangers is read by Python's own reader of CSV, which is small and keeps to the budget; files on disk by
    DuckDB, where it is installed. Both give the same.
    """
    content = unpack(data, name, budget.body if budget else MOST_BYTES)
    if options.sheet and content.kind != "workbook":
        raise PayloadInvalid.of("--sheet", repr(options.sheet[0][:SHOWN]), f"none: the file holds {content.kind}")
    if content.kind == "text":
        table = _of_text(content.data, options, budget)
    elif budget is not None:
        kind = {"workbook": "a workbook", "parquet": "Parquet", "arrow": "Arrow"}[content.kind]
        raise PayloadInvalid.of(
            "body", kind, "text such as CSV, also as gzip or zip; `kappawatt ingest` reads this one"
        )
    else:
        table = _of_kind(content, options)
    if not table.header:
        raise PayloadInvalid.of("file", "no column", "a table")
    return replace(table, facts=(*content.facts, *table.facts))


def _of_kind(content: Content, options: Options) -> Table:
    if content.kind == "workbook":
        try:
            from kappawatt.datasets.reading.workbook import read_workbook
        except ImportError as error:
            raise SettingInvalid("openpyxl is not installed: pip install 'kappawatt[cli]'") from error
        return read_workbook(content.data, options)
    if content.kind == "parquet":
        from kappawatt.datasets.reading.with_duckdb import read_parquet

        return read_parquet(content.data)
    return _of_arrow(content.data)


def _of_text(data: bytes, options: Options, budget: Budget | None) -> Table:
    text, encoding = text_of(data)
    if budget is not None:
        _require_parts_within(text, budget)
    for layout in layouts():
        if layout.reshape is not None:
            table = layout.reshape(text)
            if table is not None:
                return table
    start = text.lstrip()[:1_000].lower()
    if start[:1] in (b"{", b"["):
        return _of_json(text)
    if start[:1] == b"<":
        is_page = b"<html" in start or b"<table" in start
        what = "an HTML page, whatever its name says" if is_page else "XML of a kind that is not known"
        raise PayloadInvalid.of("file", what, "a table: open it in Excel or LibreOffice and save it as .xlsx or CSV")
    dialect = dialect_of(text, options.sep)
    if budget is not None:
        _require_lines_within(text, len(dialect.names), budget)
    if budget is None and _has_duckdb():
        from kappawatt.datasets.reading.with_duckdb import read_with_duckdb

        table = read_with_duckdb(text, dialect)
    else:
        table = read_with_csv(text, dialect)
    table = without_totals(without_repeated_names(table))
    refuse_cut_numbers(table, options)
    return replace(table, facts=(encoding, *table.facts)) if encoding.because else table


def _require_lines_within(text: bytes, columns: int, budget: Budget) -> None:
    """Raise PayloadTooLarge if the cells of so many lines would take more than the budget has."""
    room = max(0, TIMES * budget.body - BYTES_A_COLUMN * columns)
    most = min(budget.rows, room // (BYTES_A_ROW + BYTES_A_CELL * columns))
    if text.count(b"\n") > most:
        raise PayloadTooLarge.of("body", f"more than {most:,} rows of {columns} columns", f"up to {most:,} in one body")


def _require_series_within(table: Table, meaning: Meaning, budget: Budget) -> None:
    """Raise PayloadTooLarge if the series of a table would take more than the budget has."""
    values = sum(not value.field for value in meaning.values)
    keys = max(1, len({tuple(cells) for cells in zip(*(table.texts(place) for place in meaning.key), strict=True)}))
    room = TIMES * budget.body // max(values, 1) - BYTES_A_SERIES * keys
    most = max(0, room) // BYTES_A_VALUE
    if len(table) > most:
        got = f"{len(table):,} rows of {values * keys:,} series"
        raise PayloadTooLarge.of("body", got, f"up to {most:,} rows of so many series in one body")


def _require_parts_within(text: bytes, budget: Budget) -> None:
    """Raise PayloadTooLarge for too many elements of XML or values of NEM12, PayloadInvalid for JSON."""
    start = text.lstrip()[:1]
    if start in (b"{", b"["):
        raise PayloadInvalid.of("body", "JSON", "text/csv, or its own content type")
    most = budget.unpacked // BYTES_A_PART
    parts = text.count(b"<") if start == b"<" else text.count(b",") if RECORDS.match(text) else 0
    if parts > most:
        raise PayloadTooLarge.of("body", f"{parts:,} elements", f"up to {most:,} in one body")


def _has_duckdb() -> bool:
    from importlib.util import find_spec

    return find_spec("duckdb") is not None


def _of_json(text: bytes) -> Table:
    """Rows as JSON objects: an array of them, one a line, or columns of them as the doors take them."""
    allowed = 'an array of objects, one a line, {"columns": {...}}, or a forecast request with its history'
    try:
        rows = orjson.loads(text)
    except orjson.JSONDecodeError as whole:
        try:
            rows = [orjson.loads(line) for line in text.splitlines() if line.strip()]
        except orjson.JSONDecodeError as line:
            reason = whole if text.lstrip()[:1] == b"[" else line
            raise PayloadInvalid.of("file", f"JSON that cannot be read ({reason})", allowed) from None
    if isinstance(rows, dict):
        columns = rows.get("columns")
        if isinstance(columns, dict) and all(isinstance(column, list) for column in columns.values()):
            return _of_columns(columns)
        rows = rows["instances"] if isinstance(rows.get("instances"), list) else [rows]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PayloadInvalid.of("file", "JSON that is no table", allowed)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [[_json_text(row.get(name)) for row in rows] for name in names]
    return Table(tuple(names), tuple(columns), np.arange(1, len(rows) + 1), facts=(Fact("format", "JSON"),))


def _of_columns(given: dict[str, list[Any]]) -> Table:
    lengths = {name: len(column) for name, column in given.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} of {n}" for name, n in list(lengths.items())[:4])
        raise PayloadInvalid.of("columns", f"lists of different lengths ({told})", "lists of one length")
    columns = tuple([_json_text(value) for value in column] for column in given.values())
    n = max(lengths.values(), default=0)
    return Table(tuple(given), columns, np.arange(1, n + 1), facts=(Fact("format", "JSON columns"),))


def _json_text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()


def _of_arrow(data: bytes) -> Table:
    if data.startswith(ARROWS[0]):  # a file: its mark, a whole stream, and where the parts of it stand
        data = data[ARROW_MARK:]
    found = read_columns(data, FILES)
    columns = [_arrow_column(column) for column in found.values()]
    n = len(columns[0]) if columns else 0
    return Table(
        tuple(name.strip() for name in found), tuple(columns), np.arange(1, n + 1), facts=(Fact("format", "Arrow"),)
    )


def _arrow_column(column: Any) -> Column:
    values = np.asarray(column)
    if values.dtype.kind == "M":
        return instant_texts(values)
    if values.dtype.kind in "fiu":
        return values.astype(np.float64)
    return ["" if value is None else str(value) for value in values.tolist()]
