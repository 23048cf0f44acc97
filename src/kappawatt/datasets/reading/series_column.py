"""Which column names the series of a table's rows, and which only looks so: a holiday's, a weekday's, a tariff's.

Rows of several series share their times. Where each time comes once in the whole file, a column that looks like one of
names cuts a single series into parts that never overlap.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.reading.meaning import LeftOut, TimeColumn
from kappawatt.datasets.reading.table import Table
from kappawatt.errors import PayloadInvalid

__all__ = ["series_column"]

FEATURE = re.compile(
    r"holi.?day|feiertag|festivo|f[ée]ri[ée]|season|saison|jahreszeit|week|woche|wochentag|(?:^|[_\W])(?:day|tag|month|"
    r"monat|hour|stunde|quarter|year|jahr|shift|schicht|event|status|quality|version|batch|record|row|type|daytype|"
    r"tariff?|tarif|period)(?:$|[_\W])",
    re.IGNORECASE,
)
PLACE = re.compile(
    r"zone|area|region|station|location|site|account|household|lclid|meter|mpan|mpr|mpn|nmi|ean|cups|cpe|pod|prm|esiid"
    r"|series|unique_id",
    re.IGNORECASE,
)
SHARED = 0.05  # of rows, at most, in an autumn's repeated hour of a single day
ROUND = 0.9  # of a name's rows that come in one distance
FEWEST = 8  # rows that tell


def series_column(table: Table, time: TimeColumn, candidates: Sequence[int], left_out: list[LeftOut]) -> int | None:
    """Return which of the columns that may name series does; None if none.

    Parameters
    ----------
    candidates : sequence of int
        Best first.
    left_out : list of LeftOut
        Where it goes what cuts one series only.

    Raises
    ------
    PayloadInvalid
        A column may as well name series as say something of one.
    """
    several = [place for place in candidates if len({text.strip() for text in table.texts(place)}) > 1]
    if len(table) < FEWEST or not several:
        return candidates[0] if candidates else None
    if not _each_time_once(table, time):
        named = [place for place in candidates if not FEATURE.search(table.header[place])]
        return (named or candidates)[0]
    kept = [place for place in candidates if _is_kept(table, place, left_out)]
    return kept[0] if kept else None


def _each_time_once(table: Table, time: TimeColumn) -> bool:
    """Whether times come once, but for a repeated hour."""
    columns = [table.texts(p) for p in (time.place, time.beside, time.flag) if p is not None]
    return len(table) - len(set(zip(*columns, strict=True))) <= SHARED * len(table)


def _is_kept(table: Table, place: int, left_out: list[LeftOut]) -> bool:
    name, texts = table.header[place], [text.strip() for text in table.texts(place)]
    codes: dict[str, int] = {}
    code = np.array([codes.setdefault(text, len(codes)) for text in texts])
    if len(codes) == 1:
        return True
    shown = " and ".join(repr(text[:40]) for text in list(codes)[:2])
    blocks = int((np.diff(code) != 0).sum()) + 1
    if not FEATURE.search(name):
        if blocks == len(codes) and PLACE.search(name):
            return True  # one meter after the other
        if blocks == len(codes) or _in_turn(code, len(codes)):
            got = f"{shown}, of which no two share a time"
            raise PayloadInvalid.of(
                name, got, "names of series at the same times: a file for each, or without the column"
            )
    left_out.append(LeftOut(name, f"each time comes once: {shown} are parts of one series"))
    return False


def _in_turn(code: NDArray[np.int64], names: int) -> bool:
    """Whether the rows of each name come in one distance, as those of devices that report one after the other."""
    for one in range(names):
        distances = np.diff(np.flatnonzero(code == one))
        if not len(distances):
            return False
        found, counts = np.unique(distances, return_counts=True)
        usual = int(np.argmax(counts))
        if found[usual] == 1 or counts[usual] < ROUND * len(distances):
            return False
    return True
