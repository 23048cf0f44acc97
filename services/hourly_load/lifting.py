"""Net load: what is left of it after the sun may be zero or below, of which there is no logarithm.

A series with such values is lifted by a constant before the model sees it, and its forecast is lowered by the same. The
constant makes the lowest hour as small a part of the mean as it is in zones without sun, so that the logarithm bends
little and the departures are of the size that the model knows. A series that is positive throughout is left alone, to
the last bit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kappawatt.forecasting.history import Past

__all__ = ["lift_of", "lifted"]

LOWEST = 0.45
"""Of the mean, the lowest hour of a lifted series; it is 0.45 to 0.61 in PJM's zones."""


def lift_of(past: Past) -> float:
    """Return what is added to a series so that all of it is positive, in its unit; 0.0 if it is already.

    Parameters
    ----------
    past : Past
        By hours.
    """
    known = past.values[np.isfinite(past.values)]
    if not len(known) or known.min() > 0:
        return 0.0
    lowest, mean = float(known.min()), float(known.mean())
    if mean <= lowest:
        return 1.0 - lowest  # one value: nothing departs from it
    return (LOWEST * mean - lowest) / (1 - LOWEST)


def lifted(past: Past) -> Past:
    """Return a series with its lift added; the same if there is none."""
    lift = lift_of(past)
    return replace(past, values=past.values + lift) if lift else past
