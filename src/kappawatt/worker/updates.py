"""Forecasts between the issue times: how often, and how far they reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import HOUR, Instant, Times, day_intervals, issue_time, local_date
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.messages.forecasts import MOST_INTERVALS

__all__ = ["NO_UPDATES", "STEP", "Updates", "updates_of"]

STEP = "step"
DAY_HOURS = 24


@dataclass(frozen=True, slots=True)
class Updates:
    """When a forecast is updated, and what each forecast then covers.

    Parameters
    ----------
    every : int or None
        Hours of the local clock between two updates, a divisor of 24; 0 is each new interval. None: there are none,
        and a forecast covers its window alone.
    days : int
        Local days after that of the issue time which forecasts cover at least.
    """

    every: int | None = None
    days: int = 1

    def due(self, before: Instant | None, clock: Instant, zone: str) -> Instant | None:
        """Return the newest time of an update that a series' clock has just reached, if there is one."""
        if self.every is None or before == clock:
            return None
        if self.every == 0:
            return clock
        today = local_date(np.array([clock]), zone)[0]
        hours = np.arange(self.every, DAY_HOURS, self.every)
        starts = [issue_time(today, np.timedelta64(0, "h"), zone)]
        starts += [issue_time(today + 1, np.timedelta64(hour, "h"), zone) for hour in hours]
        newest = max(start for start in starts if start <= clock)
        return newest if before is None or newest > before else None

    def targets(self, issue: Instant, last: Instant | None, zone: str, step: int) -> Times:
        """Return the starts of the intervals from an issue time to the end of the last local day.

        Of short intervals it is as many days as one document holds, three of five minutes.

        Parameters
        ----------
        last : datetime64[D] or None
            A local day that has to be covered.
        """
        today = local_date(np.array([issue]), zone)[0]
        end = today + self.days if last is None else max(today + self.days, last)
        days = [day_intervals(day, zone, step) for day in np.arange(today, end + 1)]
        days[0] = days[0][days[0] >= issue]
        fitting = int((np.cumsum([len(day) for day in days]) <= MOST_INTERVALS).sum())
        return np.concatenate(days[: max(fitting, 1)])


NO_UPDATES = Updates()


def updates_of(every: str, days: int, forecaster: Forecaster) -> Updates:
    """Return the updates that settings ask for; none of a model that forecasts its own window only.

    Raises
    ------
    SettingInvalid
        The days reach further than the model.
    """
    if not every or not forecaster.window.within_day:
        return NO_UPDATES
    most = int(forecaster.window.longest_lead / HOUR) // DAY_HOURS
    if days > most:
        raise SettingInvalid.of("KAPPAWATT_FORECAST_DAYS", days, f"0 to {most} for {forecaster.name}")
    return Updates(0 if every == STEP else int(every), days)
