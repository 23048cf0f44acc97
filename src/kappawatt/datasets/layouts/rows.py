"""Rows of a table chosen, and columns of it exchanged, by layouts whose cells say more than a number or a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.reading.meaning import SOMEBODYS_FORECAST, LeftOut
from kappawatt.datasets.reading.table import Column, Fact, Table
from kappawatt.datasets.reading.words import FORECAST

__all__ = ["SURPLUS", "chosen", "exchanged", "others", "without"]

SURPLUS = ":surplus"  # appended to a meter's key for the energy it gave to the grid


def chosen(table: Table, keep: NDArray[np.bool_] | Sequence[bool]) -> Table:
    """Return the rows of a table that a mask names."""
    places = np.flatnonzero(np.asarray(keep, dtype=np.bool_))
    if len(places) == len(table):
        return table
    columns: list[Column] = []
    for column in table.columns:
        columns.append([column[i] for i in places.tolist()] if isinstance(column, list) else column[places])
    return replace(table, columns=tuple(columns), lines=table.lines[places])


def without(table: Table, place: int | None, words: Iterable[str], why: str) -> tuple[Table, tuple[Fact, ...]]:
    """Return a table without the rows whose cell is one of some words, and how many those were."""
    if place is None:
        return table, ()
    refused = {word.upper() for word in words}
    keep = [text.strip().upper() not in refused for text in table.texts(place)]
    gone = len(keep) - sum(keep)
    if not gone:
        return table, ()
    return chosen(table, keep), (Fact("rows", f"{gone} left out", f"{table.header[place]}: {why}"),)


def exchanged(table: Table, columns: Mapping[int, Column], more: Mapping[str, Column] | None = None) -> Table:
    """Return a table with other columns at some places, and more columns at its end."""
    found = [columns.get(place, column) for place, column in enumerate(table.columns)]
    extra = more or {}
    return replace(table, header=(*table.header, *extra), columns=(*found, *extra.values()))


def others(table: Table, read: Iterable[int | None], why: str = "says more of a row") -> tuple[LeftOut, ...]:
    """Return the columns that are not read; those that by their name are somebody's forecast say so."""
    places = set(read)
    return tuple(
        LeftOut(name, SOMEBODYS_FORECAST if FORECAST.search(name) else why)
        for place, name in enumerate(table.header)
        if place not in places and name
    )
