"""Cells of a workbook -> columns: texts, numbers or times, and what of them nobody can tell apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from kappawatt.datasets.reading.numbers import find_format, is_number
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Column, Fact
from kappawatt.datasets.reading.times import is_time
from kappawatt.datasets.reading.words import WORD_TIME
from kappawatt.errors import PayloadInvalid

__all__ = ["cell_text", "columns_of", "is_moment", "serial_days"]

SECOND = timedelta(seconds=1)
FIRST_DAYS = datetime(1900, 1, 2)  # a time of the day of 24:00 is kept as the day after the one without a number
TEXT_SEPARATOR = ";"  # text does not say whose numbers it holds, as in files with semicolons
YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2\d{2,4}(?!\d).*", re.DOTALL)
SERIAL = (20_000.0, 80_000.0)  # days of 1954 to 2119
SERIAL_SHARE = 0.9  # of rows that are one interval apart
DAY_SECONDS = 86_400
MINUTE = 60
FEW = 3


def is_moment(cell: Any) -> bool:
    """Whether a cell holds a day or a time, as such or as text."""
    return isinstance(cell, (datetime, date)) or (isinstance(cell, str) and is_time(cell.strip()))


def cell_text(cell: Any, mark: str = ".") -> str:
    """Return what a cell shows.

    Parameters
    ----------
    mark : str
        Before decimals. Three of them get a zero more: nobody shall take the mark for one between thousands.

    Examples
    --------
    >>> cell_text(1.25, ","), cell_text(46.123), cell_text(timedelta(hours=24)), cell_text(24.0)
    ('1,25', '46.1230', '24:00:00', '24')
    """
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        whole = _rounded(cell)
        return _of_the_day(whole - datetime(1899, 12, 31)) if whole < FIRST_DAYS else whole.isoformat(" ")
    if isinstance(cell, timedelta):
        return _of_the_day(cell)
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    if isinstance(cell, float) and not cell.is_integer():
        text = f"{cell:.15g}"
        whole_part, _, fraction = text.partition(".")
        return text.replace(".", mark) if "e" in text else whole_part + mark + fraction + "0" * (len(fraction) == FEW)
    return f"{cell:.0f}" if isinstance(cell, float) else str(cell)


def _of_the_day(since: timedelta) -> str:
    """A time of the day, which may be its end."""
    seconds = round(since.total_seconds())
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _rounded(moment: datetime) -> datetime:
    return (moment + SECOND / 2).replace(microsecond=0)


def columns_of(
    header: Sequence[str], columns: Sequence[list[Any]], places: Sequence[str], options: Options
) -> tuple[tuple[Column, ...], str]:
    """Return columns of cells as texts, numbers and times, and the separator that stands for how texts are read.

    Parameters
    ----------
    header : sequence of str
    columns : sequence of list
        Cells of each.
    places : sequence of str
        Where each row stands, for messages.

    Raises
    ------
    PayloadInvalid
        Times that are dates in some cells and text in others, in which day and month were taken for each other; or
        numbers that are text in some cells, whose mark can be read in two ways.
    """
    texts = [_number_texts(cells) for cells in columns]
    mixed = [found for cells, found in zip(columns, texts, strict=True) if found and any(map(_is_number, cells))]
    mark = find_format(mixed, TEXT_SEPARATOR, options).decimal if mixed else options.decimal or "."
    for name, cells in zip(header, columns, strict=True):
        _refuse_swapped(name, cells, places)
    found = tuple(_column(cells, mark) for cells in columns)
    return found, TEXT_SEPARATOR if any(texts) else ""


def _is_number(cell: Any) -> bool:
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


def _number_texts(cells: Sequence[Any]) -> list[str]:
    return [cell for cell in cells if isinstance(cell, str) and is_number(cell)]


def _column(cells: Sequence[Any], mark: str) -> Column:
    told = [cell for cell in cells if cell is not None]
    if told and all(map(_is_number, told)):
        return np.array([np.nan if cell is None else float(cell) for cell in cells])
    if told and all(isinstance(cell, datetime) and cell >= FIRST_DAYS for cell in told):
        return np.array([None if cell is None else _rounded(cell) for cell in cells], dtype="datetime64[ms]")
    return [cell_text(cell, mark) for cell in cells]


def _refuse_swapped(name: str, cells: Sequence[Any], places: Sequence[str]) -> None:
    """Refuse a column in which a program has taken day and month for each other where it could.

    It reads 03/01/2024 as its own country does, whatever was meant, and leaves 13/01/2024 as text.
    """
    dates = [cell for cell in cells if isinstance(cell, datetime)]
    if not dates or any(moment.day > 12 for moment in dates):
        return
    for cell, place in zip(cells, places, strict=True):
        match = YEAR_LAST.fullmatch(cell.strip()) if isinstance(cell, str) else None
        if match is not None and max(int(match[1]), int(match[3])) > 12:
            got = f"{cell.strip()[:40]!r} as text where others are dates, all of them of the days 1 to 12"
            allowed = (
                "dates in all of the column: where a day could be a month, a program has read it as one; "
                "import the source again with the column as text"
            )
            raise PayloadInvalid.of(f"{place}: {name}" if name else place, got, allowed)


def serial_days(
    header: Sequence[str], columns: Sequence[list[Any]], epoch: datetime
) -> tuple[int, list[Any], Fact] | None:
    """Return which column holds times as Excel counts days, as times; None if none does.

    Only of a table without any other time: numbers one interval apart, or days under a name that says so.

    Parameters
    ----------
    epoch : datetime
        Day 0 of the workbook.
    """
    from openpyxl.utils.datetime import from_excel

    for place, (name, cells) in enumerate(zip(header, columns, strict=True)):
        days = [_serial(cell) for cell in cells]
        told = [day for day in days if day is not None]
        if len(told) < FEW or 2 * len(told) < len(cells) or sum(cell is not None for cell in cells) > len(told) + FEW:
            continue
        steps = Counter(round((after - before) * DAY_SECONDS) for before, after in pairwise(told))
        step, count = steps.most_common(1)[0]
        is_row_a_day = step in (0, DAY_SECONDS) and WORD_TIME.search(name) is not None
        if not is_row_a_day and (step < MINUTE or step >= DAY_SECONDS or DAY_SECONDS % step):
            continue
        if count < SERIAL_SHARE * (len(told) - 1):
            continue
        times = [cell if day is None else from_excel(day, epoch) for day, cell in zip(days, cells, strict=True)]
        first = next(i for i, day in enumerate(days) if day is not None)
        example = f"{cell_text(cells[first])} is {cell_text(times[first])}"
        return place, times, Fact("times", "days as Excel counts them", example)
    return None


def _serial(cell: Any) -> float | None:
    """A count of days; None if a cell holds none."""
    if isinstance(cell, str) and re.fullmatch(r"\d{5}(?:[.,]\d{1,12})?", cell.strip()):
        cell = float(cell.strip().replace(",", "."))
    if not _is_number(cell):
        return None
    return float(cell) if SERIAL[0] <= cell <= SERIAL[1] else None
