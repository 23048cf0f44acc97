"""What a series costs in memory, computed from what is kept of it. `python -m bench.series` measures the same."""

from __future__ import annotations

import numpy as np

from kappawatt.forecasting.calendar import DAY
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import intervals_ahead
from kappawatt.worker.histories import CORRECTABLE

__all__ = ["series_bytes"]

NUMBER = 8  # bytes of a float
ALLOCATED = 1.15  # of what is asked for: what an allocator takes of the system once arrays have come and gone
OBJECTS = 2_500  # bytes of a history beside its arrays: names, locks, tables
FORECAST_OBJECTS = 7_000  # and of the forecasts that a worker holds against their truth
FANS = 2  # of which it keeps the quantiles: of the day that runs and of the one before, or of the next


def series_bytes(forecaster: Forecaster, step: int, *, in_worker: bool) -> int:
    """Return what one series takes in the long run [bytes], if little of it is late, revised or known ahead.

    Each value that became known at another time than the end of its interval takes some 250 bytes more.

    Parameters
    ----------
    step : int
        Length of an interval [s].
    in_worker : bool
        Whether its forecasts are kept too, as `consume` does; `serve` keeps histories alone.
    """
    interval = np.timedelta64(step, "s")
    day = int(DAY / interval)
    kept = int((forecaster.depth + CORRECTABLE) / interval) + intervals_ahead(step) + day
    history = kept * NUMBER * (1 + len(forecaster.covariates)) + OBJECTS
    if not in_worker:
        return int(ALLOCATED * history)
    rows = len(forecaster.levels) + 2  # quantiles, the seasonal naive, times
    return int(ALLOCATED * (history + FANS * day * rows * NUMBER + FORECAST_OBJECTS))
