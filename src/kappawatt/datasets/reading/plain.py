"""A table of a schema's own columns, however it is cut, as plain CSV: what rows without a clock need."""

from __future__ import annotations

import csv
import io

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.budget import Budget
from kappawatt.columns.schema import Kind, Schema
from kappawatt.datasets.reading.numbers import find_format, read_numbers
from kappawatt.datasets.reading.options import NOTHING_SAID
from kappawatt.datasets.reading.read import table_of

__all__ = ["is_cut_otherwise", "plain_csv"]


def is_cut_otherwise(head: bytes) -> bool:
    """Return whether another character than a comma stands between the cells of a text that begins so."""
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    return b"," not in first and (b";" in first or b"\t" in first)


def plain_csv(schema: Schema, data: bytes, budget: Budget | None = None) -> tuple[bytes, NDArray[np.int64]]:
    """Return a table of the stream's own columns, however cells and decimals are written, as plain CSV, and its lines.

    Raises
    ------
    PayloadInvalid
        It is no table, or its numbers can be read in two ways.
    """
    table = table_of(data, "", NOTHING_SAID, budget)
    known = schema.by_header()
    numeric = [i for i, name in enumerate(table.header) if name in known and known[name].kind is Kind.NUMBER]
    written = find_format([table.columns[i] for i in numeric], table.separator, NOTHING_SAID)
    columns = [table.texts(i) for i in range(len(table.header))]
    for i in numeric:
        numbers, bad = read_numbers(table.columns[i], written)
        refused = set(bad)
        columns[i] = [
            text if row in refused else "" if value != value else repr(value)
            for row, (text, value) in enumerate(zip(columns[i], numbers.tolist(), strict=True))
        ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue().encode(), table.lines
