"""A made-up hourly load with day, week, year and weather in it, for tests of the hourly load service."""

from __future__ import annotations

import numpy as np

from kappawatt.forecasting.calendar import HOUR, to_local
from kappawatt.forecasting.history import Past

ZONE = "America/New_York"


def made_up_load(days: int, *, start: str = "2013-01-01T05:00", seed: int = 7, mean: float = 30_000.0) -> Past:
    """Return a past of `days` days [MW] from `start` (UTC) on."""
    begin = np.datetime64(start, "ms")
    n = 24 * days
    times = begin + np.arange(n) * HOUR
    local = to_local(times, ZONE)
    hour = (local - local.astype("datetime64[D]").astype("datetime64[ms]")) / HOUR
    date = local.astype("datetime64[D]")
    weekend = (date.astype(np.int64) + 3) % 7 >= 5
    season = 2 * np.pi * (date - date.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) / 365.25
    rng = np.random.default_rng(seed)
    weather = np.zeros(n)
    for i, shock in enumerate(rng.normal(0, 0.01, n)):
        weather[i] = 0.97 * weather[i - 1] + shock if i else shock
    shape = 1 + 0.2 * np.sin(2 * np.pi * (hour - 9) / 24) - 0.1 * weekend + 0.1 * np.cos(2 * season)
    values = mean * shape * np.exp(weather)
    return Past("made-up", ZONE, 3600, begin, values, begin + n * HOUR)
