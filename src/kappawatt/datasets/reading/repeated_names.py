"""Files of one layout appended to one another: the names of the columns stand again among the rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kappawatt.datasets.reading.table import Fact, Table

__all__ = ["without_repeated_names"]


def without_repeated_names(table: Table) -> Table:
    """Return a table without rows that say the columns' names again, as the header did; it is said where they stood."""
    texts = [column for column in table.columns if isinstance(column, list)]
    if len(texts) < len(table.columns):
        return table  # a file with types has no such rows
    first = table.header[0]
    again = [
        row
        for row, cell in enumerate(texts[0])
        if cell.strip() == first and all(c[row].strip() == name for c, name in zip(texts, table.header, strict=True))
    ]
    if not again:
        return table
    keep = np.ones(len(table), np.bool_)
    keep[again] = False
    kept = np.flatnonzero(keep).tolist()
    lines = [int(table.lines[row]) for row in again]
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    fact = Fact(
        "left out", f"line {lines[0]}{more}", "the names of the columns once more: files appended to one another"
    )
    return replace(
        table,
        columns=tuple([column[row] for row in kept] for column in texts),
        lines=table.lines[kept],
        facts=(*table.facts, fact),
    )
