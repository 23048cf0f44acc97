"""Small plots of block characters: a few lines of text that need no colours, no terminal and no library.

Libraries that plot in a terminal (plotext, uniplot) draw in colours and ask the terminal for its size, and what they
add to three kinds of bars is not needed here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["ASCII", "BLOCKS", "WIDTH", "bars", "binned"]

WIDTH = 72
BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII = " ...ooo##"
LABEL = 9
AXIS, ASCII_AXIS = "┤", "|"


def binned(places: NDArray[np.float64], values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Return the mean of the values in each of `bins` equal parts of their span; NaN where there is none.

    Examples
    --------
    >>> binned(np.array([0.0, 1.0, 3.0]), np.array([2.0, 4.0, 6.0]), 2).tolist()
    [3.0, 6.0]
    """
    span = places.max() - places.min()
    place = np.minimum(((places - places.min()) / (span or 1) * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    means: NDArray[np.float64] = np.where(
        counts > 0, np.bincount(place, weights=values, minlength=bins) / np.maximum(counts, 1), np.nan
    )
    return means


def bars(values: Sequence[float] | NDArray[np.float64], height: int, marks: str = BLOCKS) -> list[str]:
    """Return lines of a bar a value, from the lowest to the highest of them, which stand at the left.

    Parameters
    ----------
    values : sequence of float
        NaN leaves a blank.
    height : int
        Lines.
    marks : str
        From nothing to a full block.
    """
    told = np.asarray(values, dtype=np.float64)
    known = told[np.isfinite(told)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    full = len(marks) - 1
    share = (told - low) / (high - low) if high > low else np.where(np.isfinite(told), 0.5, np.nan)
    parts = np.where(np.isfinite(told), 1 + np.round(np.nan_to_num(share) * (height * full - 1)), 0).astype(int)
    digits = next((d for d in (3, 5) if _number(low, d) != _number(high, d)), 3)
    bottom, top = _number(low, digits), _number(high, digits)
    axis = AXIS if marks == BLOCKS else ASCII_AXIS
    lines = []
    for row in range(height - 1, -1, -1):
        label = top if row == height - 1 else bottom if row == 0 else ""
        cells = "".join(marks[min(max(part - row * full, 0), full)] for part in parts.tolist())
        lines.append(f"{label:>{LABEL}} {axis}{cells}".rstrip())
    return lines


def _number(value: float, digits: int) -> str:
    """A number of at most nine characters, of so many digits if it has a fraction."""
    whole = len(f"{abs(value):.0f}")
    return f"{value:,.{max(0, digits - whole)}f}" if 3 <= whole < 7 else f"{value:.{digits}g}"
