"""A workbook's tables, by openpyxl: which sheets are read, together or alone, and what of them is not."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import openpyxl

from kappawatt.datasets.reading.cells import cell_text, columns_of, serial_days
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.sheet import Rows, SheetTable, table_in
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.texts import MOST_COLUMNS
from kappawatt.datasets.reading.times import MONTHS
from kappawatt.errors import PayloadInvalid, PayloadTooLarge

__all__ = ["read_workbook"]

MOST_ROWS = 1_048_576  # of a sheet, by Excel's own limit
MOST_CELLS = 20_000_000
SHOWN = 12
NAMES_SHOWN = 4
# What openpyxl keeps at a time: of a row, of a shared text, and of what is neither, such as styles.
PART = re.compile(rb"<(?:\w+:)?(?:row|si)[\s/>]")
MOST_ELEMENTS = 1_000_000
MOST_PARTS = 4 * MOST_ROWS
MOST_IN_A_PART = 20 * 16_384
FORMULA = re.compile(rb"<(?:\w+:)?f[\s/>]")
YEAR_OR_MONTH = re.compile(rf"\b(?:(?:19|20)\d\d|{'|'.join(sorted(MONTHS, key=len, reverse=True))})\b")
SHARED_LABELS = 2  # that two sheets of one series may have: the end of a month is the beginning of the next
DAMAGED = (
    KeyError, ValueError, TypeError, AttributeError, IndexError, OSError, EOFError, SyntaxError, zipfile.BadZipFile,
    zlib.error, NotImplementedError, RuntimeError,
)  # fmt: skip
"""What openpyxl and the readers below it raise of what is no workbook; XML that cannot be read is a SyntaxError."""


def read_workbook(data: bytes, options: Options) -> Table:
    """Read a workbook (.xlsx, .xlsm): its one table, or those of several sheets that have the same names.

    Times that Excel kept as fractions of days are rounded to the second.

    Raises
    ------
    PayloadInvalid
        It is damaged, no sheet has a table, several have different ones, or formulas have no values.
    PayloadTooLarge
        It has more rows, cells or elements than a table may.
    """
    try:
        _require_within_bounds(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what openpyxl does not keep: pictures, validations, styles
            return _read(data, options)
    except (PayloadInvalid, PayloadTooLarge):
        raise
    except DAMAGED as error:
        reason = str(error).partition("\n")[0][:200]
        raise PayloadInvalid.of("file", f"a damaged workbook ({reason})", "a workbook (.xlsx)") from None


def _require_within_bounds(data: bytes) -> None:
    """Raise PayloadTooLarge for parts of which openpyxl would keep very many elements at a time."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            if member.filename.startswith("xl/media/"):
                continue
            part = archive.read(member)
            count = part.count(b"<")
            if count > MOST_ELEMENTS and not _is_in_parts(part):
                got = f"{count:,} elements in {member.filename[:80]!r}"
                raise PayloadTooLarge.of("file", got, "a workbook of fewer rows and cells")


def _is_in_parts(part: bytes) -> bool:
    """Whether many elements stand in rows or shared texts of a few each, which openpyxl forgets one by one."""
    last = 0
    for number, match in enumerate(PART.finditer(part)):
        if number > MOST_PARTS or part.count(b"<", last, match.start()) > MOST_IN_A_PART:
            return False
        last = match.start()
    return part.count(b"<", last) <= MOST_IN_A_PART


def _read(data: bytes, options: Options) -> Table:
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    hidden = [sheet.title for sheet in book.worksheets if sheet.sheet_state != "visible"]
    wanted = _wanted(options.sheet, [sheet.title for sheet in book.worksheets])
    found: list[SheetTable] = []
    without: list[str] = []
    for sheet in book.worksheets:
        if sheet.title not in wanted if wanted else sheet.title in hidden:
            continue
        table = table_in(sheet.title, _rows(sheet))
        if table is not None:
            found.append(table)
        else:
            without.append(sheet.title)
    if not found or (wanted and without):
        _refuse_without_table(wanted, without, hidden)
    facts = []
    chosen = found if wanted else _chosen(found)
    _require_alike(chosen)
    _require_apart(chosen)
    if len(chosen) > 1:
        same = len({one.header for one in chosen}) == 1
        why = f"read together: the same names{'' if same else ' but for year or month'}, other times"
        facts.append(Fact("sheets", _listed(one.name for one in chosen), why))
    else:
        why = "--sheet" if wanted else "the only one with a table" if len(found) == 1 else "the only one with times"
        facts.append(Fact("sheet", chosen[0].name, why))
    others = [one.name for one in found if one not in chosen]
    if others:
        facts.append(Fact("left out sheets", _listed(others), "a table without times; --sheet reads one"))
    if without:
        facts.append(Fact("left out sheets", _listed(without), "no table"))
    if hidden and not wanted:
        facts.append(Fact("left out sheets", _listed(hidden), "hidden; --sheet reads one"))
    several = len(chosen) > 1
    for one in chosen:
        facts.extend(Fact(f.name, f"{one.name}: {f.value}" if several else f.value, f.because) for f in one.facts)
    _require_values(data, chosen)
    return _joined(chosen, options, facts, book.epoch)


def _rows(sheet: Any) -> Rows:
    """A sheet's rows with something in them, each up to its last cell that has."""
    sheet.reset_dimensions()  # what the file says of them may be anything
    rows: dict[int, Sequence[Any]] = {}
    taken = 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        if number > MOST_ROWS:
            raise PayloadTooLarge.of(f"sheet {sheet.title!r}", f"more than {MOST_ROWS:,} rows", "fewer")
        width = len(row)
        while width and (row[width - 1] is None or row[width - 1] == ""):
            width -= 1
        if not width:
            continue
        if width > MOST_COLUMNS:
            raise PayloadInvalid.of(
                f"sheet {sheet.title!r}, row {number}", f"{width} columns", f"up to {MOST_COLUMNS:,}"
            )
        taken += width
        if taken > MOST_CELLS:
            raise PayloadTooLarge.of(f"sheet {sheet.title!r}", f"more than {MOST_CELLS:,} cells", "fewer")
        rows[number] = row[:width]
    return rows


# ---- which sheets


def _listed(names: Iterable[str]) -> str:
    every = [repr(name) for name in names]
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def _wanted(said: Sequence[str], there: Sequence[str]) -> set[str]:
    wanted: set[str] = set()
    for pattern in said:
        found = {name for name in there if fnmatchcase(name.strip().lower(), pattern.strip().lower())}
        if not found:
            raise PayloadInvalid.of("--sheet", repr(pattern[:80]), f"one of the workbook's: {_listed(there)}")
        wanted |= found
    return wanted


def _refuse_without_table(wanted: set[str], without: Sequence[str], hidden: Sequence[str]) -> None:
    allowed = "a row of names right above rows of times and numbers"
    if not wanted and hidden:
        allowed += f"; --sheet reads a hidden one: {_listed(hidden)}"
    raise PayloadInvalid.of("file", f"no table in the sheets {_listed(without)}" if without else "no sheet", allowed)


def _chosen(found: Sequence[SheetTable]) -> list[SheetTable]:
    """The sheets to read if nobody says: those with times, which have to have the same names."""
    timed = [one for one in found if one.times] or list(found)
    if len({_alike(one) for one in timed}) > 1:
        kinds: dict[tuple[str, ...], list[SheetTable]] = {}
        for one in timed:
            kinds.setdefault(_alike(one), []).append(one)
        told = "; ".join(
            f"{_listed(one.name for one in group)} ({', '.join(group[0].header[:NAMES_SHOWN])})"
            for group in list(kinds.values())[:NAMES_SHOWN]
        )
        got = f"tables of different columns in its sheets: {told}"
        raise PayloadInvalid.of("file", got, "those named by --sheet, also as --sheet '2024*'")
    return timed


def _alike(table: SheetTable) -> tuple[str, ...]:
    """Names without the year or month that is the sheet's."""
    return tuple(" ".join(YEAR_OR_MONTH.sub(" ", name.lower()).split()) for name in table.header)


def _require_alike(chosen: Sequence[SheetTable]) -> None:
    first = chosen[0]
    for one in chosen[1:]:
        if _alike(one) != _alike(first):
            got = f"{first.name!r} with {', '.join(first.header[:NAMES_SHOWN])} and {one.name!r} with "
            raise PayloadInvalid.of("--sheet", got + ", ".join(one.header[:NAMES_SHOWN]), "sheets with the same names")


def _require_apart(chosen: Sequence[SheetTable]) -> None:
    """Refuse sheets that hold the same times: they are series of several things, of which only their names tell."""
    if len(chosen) < 2:
        return
    seen: dict[tuple[str, ...], str] = {}
    for one in chosen:
        times = [i for i, place in enumerate(one.places) if place in one.times] or [0]
        labels = set(zip(*(map(cell_text, one.column(i)) for i in times), strict=True))
        shared = [seen[label] for label in labels if label in seen]
        if len(shared) > SHARED_LABELS or len(shared) == len(labels):
            got = f"the sheets {shared[0]!r} and {one.name!r}, which hold {len(shared)} times that are the same"
            raise PayloadInvalid.of("file", got, "one series: the sheet named by --sheet, its name by --key")
        seen.update(dict.fromkeys(labels, one.name))


# ---- cells


def _require_values(data: bytes, chosen: Sequence[SheetTable]) -> None:
    """Refuse formulas that nobody has computed: a program wrote them, and Excel never saved the workbook.

    Excel saves the value of each, which may be an empty text; so one with a value tells that all have theirs.
    """
    empty = any(cell is None for one in chosen for i in range(len(one.header)) for cell in one.column(i))
    if not empty or not _has_formulas(data):
        return
    first: tuple[SheetTable, Any, str] | None = None
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True)
    for one in chosen:
        sheet = book[one.name]
        sheet.reset_dimensions()
        values = dict(one.rows)
        last = one.rows[-1][0]
        for number, cells in enumerate(sheet.iter_rows(max_row=last), 1):
            row = values.get(number, ())
            for place, name in zip(one.places, one.header, strict=True) if row else ():
                cell = cells[place] if place < len(cells) else None
                if cell is None or cell.data_type != "f":
                    continue
                if place < len(row) and row[place] is not None:
                    return
                first = first or (one, cell, name)
    if first is not None:
        table, cell, name = first
        where = f"sheet {table.name!r}, cell {cell.coordinate} ({name})"
        allowed = "values: open the workbook in Excel or LibreOffice, which compute it, and save it"
        raise PayloadInvalid.of(where, f"the formula {_formula(cell.value)[:60]!r} without its value", allowed)


def _formula(value: Any) -> str:
    return str(getattr(value, "text", value))


def _has_formulas(data: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".xml") and "sheet" in name.lower()]
        return any(FORMULA.search(archive.read(name)) for name in names)


def _joined(chosen: Sequence[SheetTable], options: Options, facts: list[Fact], epoch: Any) -> Table:
    header = chosen[0].header
    columns = [[cell for one in chosen for cell in one.column(i)] for i in range(len(header))]
    sheets, last = [], 0
    for one in chosen:
        sheets.append((one.name, last))
        last += one.rows[-1][0]
    numbers = [offset + n for one, (_, offset) in zip(chosen, sheets, strict=True) for n, _ in one.rows]
    several = len(chosen) > 1
    where = [f"sheet {one.name!r}, row {n}" if several else f"row {n}" for one in chosen for n, _ in one.rows]
    if not any(one.times for one in chosen):
        serial = serial_days(header, columns, epoch)
        if serial is not None:
            columns[serial[0]] = serial[1]
            facts.append(serial[2])
    made, separator = columns_of(header, columns, where, options)
    placed = tuple(sheets) if several else ()
    above = [
        replace(line, where=f"sheet {one.name!r}, {line.where}") if several else line
        for one in chosen
        for line in one.above
    ]
    below = next((one.below for one in chosen if one.below), ())
    return Table(
        header, made, np.array(numbers, np.int64), separator, facts=tuple(facts), sheets=placed, above=tuple(above),
        below=below,
    )  # fmt: skip
