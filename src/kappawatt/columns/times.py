"""Times of columns: UTC, to the microsecond at the finest, written with no more digits than they have.

A millisecond is what messages and clocks have all day, so a whole one is written as one (`.123`, Arrow's
timestamp[ms]); what is finer, as samples of 25 kHz are, is written in microseconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["finer_than_ms", "iso_texts", "unit_of"]

FINER = ("us", "ns", "ps", "fs", "as")


def finer_than_ms(column: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """Return which times are no whole millisecond."""
    if np.datetime_data(column.dtype)[0] not in FINER:
        return np.zeros(len(column), dtype=np.bool_)
    finer: NDArray[np.bool_] = (column != column.astype("datetime64[ms]")) & ~np.isnat(column)
    return finer


def unit_of(column: NDArray[np.datetime64]) -> str:
    """Return the unit a column is written in: `ms` if all its times are whole ones, else `us`."""
    return "us" if finer_than_ms(column).any() else "ms"


def iso_texts(column: NDArray[np.datetime64]) -> list[str | None]:
    """Return times as ISO 8601 in UTC, with 3 digits of a second or 6; None where there is none."""
    texts = np.datetime_as_string(column.astype("datetime64[ms]"), unit="ms").tolist()
    finer = finer_than_ms(column)
    if finer.any():
        exact = np.datetime_as_string(column[finer].astype("datetime64[us]"), unit="us").tolist()
        for row, text in zip(np.flatnonzero(finer).tolist(), exact, strict=True):
            texts[row] = text
    return [None if text == "NaT" else f"{text}Z" for text in texts]
