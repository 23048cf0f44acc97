"""Made-up meters for the tests of the smart meter model."""

from __future__ import annotations

import numpy as np

from kappawatt.forecasting.calendar import Times, day_intervals, day_start, local_date, to_local
from kappawatt.forecasting.history import Past

ZONE = "America/Chicago"


def household(days: int = 70, *, step: int = 1800, seed: int = 1, first: str = "2022-06-01", zone: str = ZONE) -> Past:
    """Return a household with a base load, an evening, some kettles and a lazy weekend."""
    generator = np.random.default_rng(seed)
    start, end = day_start(np.array([np.datetime64(first), np.datetime64(first) + days]), zone)
    times = np.arange(start, end, np.timedelta64(step, "s"))
    wall = to_local(times, zone)
    hour = (wall - wall.astype("datetime64[D]")) / np.timedelta64(1, "h")
    weekend = (local_date(times, zone).astype(np.int64) + 3) % 7 >= 5
    level = 0.1 + 0.5 * np.exp(-(((hour - 19) / 2) ** 2)) + 0.2 * weekend * (hour > 9)
    kettles = generator.exponential(0.4, len(times)) * (generator.random(len(times)) < 0.06)
    energy = (level * generator.lognormal(0.0, 0.25, len(times)) + kettles) * step / 1800
    return Past("meter-1", zone, step, start, energy.round(3), end)


def next_day(past: Past) -> Times:
    """Return the intervals of the day that begins where the past ends."""
    return day_intervals(local_date(np.array([past.end]), past.time_zone)[0], past.time_zone, past.step)
