"""A workbook's first sheet with a table, by openpyxl."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np

from kappawatt.datasets.reading.table import Column, Fact, Table
from kappawatt.errors import PayloadInvalid, SettingInvalid

__all__ = ["read_workbook"]

PREAMBLE_ROWS = 30
MOST_CELLS = 20_000_000
SECOND = timedelta(seconds=1)
DAMAGED = (
    KeyError, ValueError, TypeError, AttributeError, IndexError, OSError, EOFError, SyntaxError, zipfile.BadZipFile,
    zlib.error, NotImplementedError,
)  # fmt: skip
"""What openpyxl and the readers below it raise of what is no workbook; XML that cannot be read is a SyntaxError."""


def read_workbook(data: bytes) -> Table:
    """Read a workbook (.xlsx).

    Times that Excel kept as fractions of days are rounded to the second.

    Raises
    ------
    PayloadInvalid
        It is damaged, or no sheet has a table.
    SettingInvalid
        openpyxl is not installed.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise SettingInvalid("openpyxl is not installed: pip install 'kappawatt[cli]'") from error
    try:
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        for sheet in book.worksheets:
            rows = [tuple(row) for row in sheet.iter_rows(values_only=True)]
            found = _table(rows, sheet.title, len(book.sheetnames))
            if found is not None:
                return found
    except DAMAGED as error:
        raise PayloadInvalid.of("file", f"a damaged workbook ({error})", "a workbook (.xlsx)") from None
    raise PayloadInvalid.of("file", "a workbook without a table", "a sheet with names, then rows")


def _table(rows: Sequence[tuple[Any, ...]], sheet: str, sheets: int) -> Table | None:
    for i, row in enumerate(rows[:PREAMBLE_ROWS]):
        names = [cell for cell in row if cell is not None]
        if len(names) < 2 or not all(isinstance(cell, str) for cell in names):
            continue
        following = next((r for r in rows[i + 1 :] if any(cell is not None for cell in r)), ())
        if not any(isinstance(cell, (int, float, datetime)) for cell in following):
            continue
        width = max(j for j, cell in enumerate(row) if cell is not None) + 1
        body = [(n, r) for n, r in enumerate(rows[i + 1 :], i + 2) if any(cell is not None for cell in r)]
        columns = tuple(_column([r[j] if j < len(r) else None for _, r in body]) for j in range(width))
        header = tuple(str(cell).strip() if cell is not None else "" for cell in row[:width])
        facts = (Fact("sheet", sheet, f"the first of {sheets} with a table"),)
        return Table(header, columns, np.array([n for n, _ in body], np.int64), facts=facts)
    return None


def _column(cells: list[Any]) -> Column:
    told = [cell for cell in cells if cell is not None]
    if told and all(isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in told):
        return np.array([np.nan if cell is None else float(cell) for cell in cells])
    if told and all(isinstance(cell, datetime) for cell in told):
        return np.array([None if cell is None else _rounded(cell) for cell in cells], dtype="datetime64[ms]")
    return [_text(cell) for cell in cells]


def _rounded(moment: datetime) -> datetime:
    return (moment + SECOND / 2).replace(microsecond=0)


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return _rounded(cell).isoformat(" ")
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    return f"{cell:.15g}" if isinstance(cell, float) else str(cell)
