"""Numbers that a comma between cells has cut in two, where the rows happen to be as wide as the names.

`46990,9` below `load,temp` reads as a load of 46990 and a temperature of 9. What gives it away is the second column:
digits as they stand behind a decimal comma (or a comma between thousands) are spread evenly and have nothing to do with
those of the row before; what is measured or counted goes on from row to row and has a range of its own.
"""

from __future__ import annotations

from itertools import islice

import numpy as np

from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Table
from kappawatt.errors import PayloadInvalid

__all__ = ["refuse_cut_numbers"]

ASKED = 5_000  # rows
FEWEST = 20  # rows that tell digits from measurements
MOST_DIGITS = 3
LEADING = 8  # leading digits of which there must be some, of nine or ten
MOST_SHARE = 0.25  # of rows with one leading digit; a tenth is usual
MOST_ALIKE = 0.3  # correlation with the row before, of many rows
BY_CHANCE = 2.0  # over the root of the number of rows: what chance makes of it


def refuse_cut_numbers(table: Table, options: Options) -> None:
    """Raise PayloadInvalid if a column holds what stands behind a comma of the column before it.

    Tables that are not cut by commas, or whose separator or decimal mark a person names, are let pass.
    """
    if table.separator != "," or options.sep or options.decimal == "." or len(table) < FEWEST:
        return
    before: list[str] = []
    for place, column in enumerate(table.columns):
        if not isinstance(column, list):
            return
        cells = [text.strip() for text in islice(column, ASKED)]
        if before and _are_whole(before) and _are_behind_a_comma(cells):
            row = next(i for i, text in enumerate(cells) if text)
            got = f"{before[row]!r} and {cells[row]!r} below {table.header[place - 1]!r} and {table.header[place]!r}"
            allowed = (
                "numbers that a comma does not cut in two (as of a decimal comma): save it with semicolons between "
                "columns or quotes around numbers, or say --decimal . if they are two columns"
            )
            raise PayloadInvalid.of("row", f"{got}, which look like one number {before[row]},{cells[row]}", allowed)
        before = cells


def _are_whole(cells: list[str]) -> bool:
    told = [text for text in cells if text]
    return len(told) >= FEWEST and all(text.lstrip("+-").isdigit() and len(text) <= 12 for text in told)


def _are_behind_a_comma(cells: list[str]) -> bool:
    """Whether cells are digits spread evenly, each without regard to the one before."""
    told = [text for text in cells if text]
    if len(told) < FEWEST or not all(text.isdigit() and len(text) <= MOST_DIGITS for text in told):
        return False
    longest = max(map(len, told))
    if longest > 1 and not any(len(text) == longest and text[0] == "0" for text in told):
        return False  # behind a comma, zeros stand in front: 46990,05
    values = np.array([float(f"0.{text}") for text in told])
    leading = np.bincount((values * 10 + 1e-9).astype(np.int64), minlength=10)
    if (leading > 0).sum() < LEADING or leading.max() > MOST_SHARE * len(told):
        return False
    one, other = values[:-1] - values[:-1].mean(), values[1:] - values[1:].mean()
    alike = float((one * other).mean() / (one.std() * other.std()))
    return bool(abs(alike) <= max(MOST_ALIKE, BY_CHANCE / len(told) ** 0.5))
