"""Columns as plain values: what JSON and CSV can hold, the same at every door."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.columns.times import iso_texts

__all__ = ["csv_cells", "json_bytes", "plain_values", "texts_column"]


def json_bytes(document: Any) -> bytes:
    """Return a small document as JSON in as many bytes as it has.

    orjson writes into a buffer of 4 kB and leaves it behind its text: a hundred thousand messages that wait together
    would hold 400 MB.
    """
    return bytes(memoryview(orjson.dumps(document)))


def plain_values(column: NDArray[Any]) -> list[Any]:
    """Return a column as a list: times as ISO 8601 text, everything else as Python's own (NaN stays NaN)."""
    if column.dtype.kind == "M":
        return iso_texts(column)
    values: list[Any] = column.tolist()
    return values


def csv_cells(column: NDArray[Any]) -> list[str]:
    """Return a column as cells of CSV (RFC 4180).

    Text is always in quotes, so that an empty text differs from none at all, which is an empty cell (as in
    PostgreSQL's COPY; Python's `csv` writes both alike).
    """
    if column.dtype == object:
        return ["" if value is None else '"' + value.replace('"', '""') + '"' for value in column.tolist()]
    if column.dtype == np.bool_:
        return ["true" if value else "false" for value in column.tolist()]
    if column.dtype.kind == "M":
        return [text or "" for text in iso_texts(column)]
    return [repr(value) for value in column.tolist()]


def texts_column(values: Iterable[Any]) -> NDArray[np.object_]:
    """Return texts, of whatever string type, as an object column of `str` and None; ValueError if one is neither."""
    texts = list(values)
    column = np.full(len(texts), None, dtype=object)
    for row, text in enumerate(texts):
        if isinstance(text, str):
            column[row] = str(text)
        elif text is not None:
            raise ValueError(f"got {type(text).__name__}, allowed text or None")
    return column
