"""Columns that count seconds or milliseconds since 1970 -> times in UTC, where a person says that they do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kappawatt.datasets.reading.options import EPOCHS, Options
from kappawatt.datasets.reading.table import Fact, Table, instant_texts
from kappawatt.errors import PayloadInvalid

__all__ = ["without_counts"]

DIGITS = {"s": 10, "ms": 13}  # of times from 2001 on
COUNT = re.compile(r"([0-9]{9,13})(?:\.0+)?")
MOST_NAMED = 8


def without_counts(table: Table, options: Options) -> Table:
    """Return a table with times where a column counts since 1970, as `--epoch` says; the same table if it says nothing.

    Raises
    ------
    PayloadInvalid
        No column, or several, counts so; or not all of its cells do.
    """
    if not options.epoch:
        return table
    digits = DIGITS[options.epoch]
    if options.time_column:
        place = table.place(options.time_column)
        found = [] if place is None else [place]
    else:
        found = [place for place in range(len(table.header)) if _counts(table.texts(place), digits)]
    if len(found) != 1:
        names = ", ".join(table.header[place] for place in found or range(len(table.header)))
        got = f"{'several' if found else 'no'} columns of numbers of {digits} digits: {names[:200]}"
        raise PayloadInvalid.of("--epoch", got, "one, or that named by --time-column")
    [place] = found
    name, texts = table.header[place], table.texts(place)
    for line, text in zip(table.lines.tolist(), texts, strict=True):
        match = COUNT.fullmatch(text.strip())
        if match is None or not digits - 1 <= len(match[1]) <= digits:
            allowed = f"{EPOCHS[options.epoch]} since 1970 in each row, as --epoch says"
            raise PayloadInvalid.of(f"line {line}: {name}", repr(text.strip()[:80]), allowed)
    counts = np.array([int(text.strip().partition(".")[0]) for text in texts], dtype=np.int64)
    moments = counts.astype(f"datetime64[{options.epoch}]").astype("datetime64[ms]")
    columns = tuple(instant_texts(moments) if i == place else column for i, column in enumerate(table.columns))
    fact = Fact("times", f"{EPOCHS[options.epoch]} since 1970, UTC", f"--epoch, of the column {name!r}")
    return replace(table, columns=columns, facts=(*table.facts, fact))


def _counts(texts: Sequence[str], digits: int) -> bool:
    told = [text.strip().partition(".")[0] for text in texts[:200] if text.strip()]
    return bool(told) and all(text.isdigit() and digits - 1 <= len(text) <= digits for text in told)
