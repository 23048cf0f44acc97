"""Totals and notes below a table of text, as workbooks have them too: no rows, and no fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kappawatt.datasets.reading.dialect import is_value
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.times import is_time
from kappawatt.datasets.reading.words import WORD_TOTAL
from kappawatt.datasets.series import Problems

__all__ = ["MOST_BELOW", "left_out_below", "without_totals"]

MOST_BELOW = 20  # rows of totals and notes
SHOWN = 40


def without_totals(table: Table) -> Table:
    """Return a table without the rows of totals and notes at its end; it is said which these are.

    A row of totals has a word for one, such as `Summe`, in its first cell that is not empty, and no time. A note is one
    text alone. Both may have fewer cells than there are names.
    """
    texts = [table.texts(place) if isinstance(column, list) else [] for place, column in enumerate(table.columns)]
    if len(table) < 2 or not all(texts):
        return table
    end, told = len(table), []
    while end > 1 and len(table) - end < MOST_BELOW and _is_below([column[end - 1] for column in texts]):
        end -= 1
        told.append((int(table.lines[end]), " | ".join(filter(None, (column[end].strip() for column in texts)))))
    last = int(table.lines[end - 1])
    problems = Problems()
    for problem in table.problems:
        cells = problem.got.split(table.separator or ",")
        if problem.field == "row" and problem.line > last and _is_below(cells):
            told.append((problem.line, problem.got))
        else:
            problems.append(problem)
    if not told:
        return table
    line, text = min(told)
    lines = f"line {line}" if len(told) == 1 else f"lines {line} to {max(told)[0]}"
    fact = left_out_below(lines, text[:SHOWN])
    kept = tuple(column[:end] for column in table.columns)
    return replace(
        table, columns=kept, lines=np.asarray(table.lines[:end]), problems=problems, facts=(*table.facts, fact)
    )


def left_out_below(where: str, text: str) -> Fact:
    """Return what is said of rows of totals and notes, of which the first has this text."""
    return Fact("left out below", f"{where}: {text}", "no time: totals or notes")


def _is_below(cells: list[str]) -> bool:
    said = [text for cell in cells if (text := cell.strip())]
    if not said or any(map(is_time, said)):
        return False
    return WORD_TOTAL.fullmatch(said[0]) is not None or (len(said) == 1 and len(cells) > 1 and not is_value(said[0]))
