"""What one forecast covers: whole local days, or so many intervals from its issue time on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, Instant, Times, day_intervals, day_start, local_date, to_local

__all__ = ["LocalDays", "NextIntervals", "Window", "intervals_from"]

MOST = 62  # windows in a request; each is a forecast of its own


class Window(Protocol):
    """The target window of a forecaster. A forecast is told by the local day it is for and its issue time."""

    @property
    def says(self) -> str:
        """What it covers, for a person: `one local day`."""
        ...

    @property
    def noun(self) -> str:
        """What several of them are called: `days`."""
        ...

    @property
    def most(self) -> int:
        """How many a request may ask for."""
        ...

    @property
    def names_day(self) -> bool:
        """Whether a request may choose the local day it begins on."""
        ...

    @property
    def longest_lead(self) -> np.timedelta64:
        """Most time from the issue time to the first interval."""
        ...

    @property
    def within_day(self) -> bool:
        """Whether the rest of a day that has begun may be asked for, and windows of so many hours from now on."""
        ...

    def first(self, issue: Instant, zone: str) -> Instant:
        """Return the local day of the first window that begins at an issue time or later."""
        ...

    def targets(self, date: Instant, issue: Instant, zone: str, step: int) -> Times:
        """Return the starts of the intervals that the forecast for a local day covers; empty if there is no such day.

        Parameters
        ----------
        date : datetime64[D]
        issue : datetime64[ms]
        zone : str
            IANA name.
        step : int
            Length of an interval [s].
        """
        ...

    def split(self, starts: Times, issue: Instant, zone: str) -> tuple[Times, NDArray[np.intp]]:
        """Return the local days of the windows that hold the intervals asked for, and each interval's place in them."""
        ...


@dataclass(frozen=True, slots=True)
class LocalDays:
    """Whole local days, the first of which begins at the issue time or later: 23, 24 or 25 hours each.

    Parameters
    ----------
    days : int
    longest_lead : timedelta64
        Most time from the issue time to the start of the first day.
    most : int
        How many a request may ask for.
    within_day : bool
        Whether of a day that has begun what is left at the issue time is forecast.
    """

    days: int = 1
    longest_lead: np.timedelta64 = 36 * HOUR
    most: int = MOST
    names_day: bool = True
    within_day: bool = False

    def __post_init__(self) -> None:
        if self.days < 1:
            raise SettingInvalid.of("days", self.days, "1 or more")

    @property
    def says(self) -> str:
        """`one local day`, `2 local days`."""
        return "one local day" if self.days == 1 else f"{self.days} local days"

    @property
    def noun(self) -> str:
        """`days`, if each is one."""
        return "days" if self.days == 1 else "windows"

    def first(self, issue: Instant, zone: str) -> Instant:
        """Return the local day that begins at an issue time, or the next."""
        today = local_date(np.array([issue]), zone)
        date: Instant = today[0] if day_start(today, zone)[0] == issue else today[0] + 1
        return date

    def targets(self, date: Instant, issue: Instant, zone: str, step: int) -> Times:
        """Return the starts of all intervals of the days, or of what is left of them; see `Window.targets`."""
        whole = np.concatenate([day_intervals(date + i, zone, step) for i in range(self.days)])
        return whole[whole >= issue] if self.within_day else whole

    def split(self, starts: Times, issue: Instant, zone: str) -> tuple[Times, NDArray[np.intp]]:
        """Return the first day of each window: the earliest day asked for begins one, and what it leaves the next."""
        dates, member = np.unique(local_date(starts, zone), return_inverse=True)
        if self.days == 1:
            return dates, member
        first: list[Instant] = []
        place = np.zeros(len(dates), np.intp)
        for i, date in enumerate(dates):
            if not first or date >= first[-1] + self.days:
                first.append(date)
            place[i] = len(first) - 1
        return np.array(first, "datetime64[D]"), place[member]


@dataclass(frozen=True, slots=True)
class NextIntervals:
    """The next so many intervals by the local clock, from the issue time on.

    Parameters
    ----------
    count : int
    most : int
        How many windows, each of an issue time, a request may ask for.
    """

    count: int
    most: int = MOST
    names_day: bool = False
    within_day: bool = False
    noun: str = "windows"
    longest_lead: np.timedelta64 = DAY  # the first interval begins at the issue time, or within one step of it

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SettingInvalid.of("count", self.count, "1 or more")

    @property
    def says(self) -> str:
        """`the next 6 intervals`."""
        return f"the next {self.count} intervals"

    def first(self, issue: Instant, zone: str) -> Instant:
        """Return the local day of the issue time."""
        date: Instant = local_date(np.array([issue]), zone)[0]
        return date

    def targets(self, date: Instant, issue: Instant, zone: str, step: int) -> Times:
        """Return the starts of the intervals after the issue time, whatever day it is."""
        return intervals_from(issue, self.count, zone, step)

    def split(self, starts: Times, issue: Instant, zone: str) -> tuple[Times, NDArray[np.intp]]:
        """Return the one window there is for an issue time."""
        return np.array([self.first(issue, zone)]), np.zeros(len(starts), np.intp)


def intervals_from(issue: Instant, count: int, zone: str, step: int) -> Times:
    """Return the starts of the next intervals by the local clock, the first at an issue time or soon after."""
    interval = np.timedelta64(step * 1000, "ms")
    after = to_local(np.array([issue]), zone).astype(np.int64)[0] % (step * 1000)
    begin = issue + (interval - np.timedelta64(int(after), "ms") if after else np.timedelta64(0, "ms"))
    return begin + np.arange(count) * interval
