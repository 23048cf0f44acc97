"""What a publisher's file says of a series, and the rows that are in none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import Times
from kappawatt.forecasting.gaps import fill_inside
from kappawatt.forecasting.history import History, Past
from kappawatt.forecasting.holidays import OF_THE_ZONE
from kappawatt.forecasting.suspects import without_suspects
from kappawatt.streams.stream import Stream

__all__ = [
    "FORECAST",
    "MOST_BYTES",
    "Problem",
    "Problems",
    "SeriesFile",
    "past_of",
]

FORECAST = "_forecast"  # behind a covariate's name: as it was forecast the day before
MOST_PROBLEMS = 10_000  # rows of one file that cannot be read
MOST_BYTES = 128 * 2**20  # of one file, unpacked: 46 years of one meter


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that is in no series, and why.

    Parameters
    ----------
    line : int
        In the file, from 1; the header is line 1.
    field : str
        Column at fault.
    got : str
        Its value, shortened.
    allowed : str
        What would have been read.
    sheet : str
        Of a workbook of which several are read.
    """

    line: int
    field: str
    got: str
    allowed: str
    sheet: str = ""

    @property
    def message(self) -> str:
        """One sentence: line, field, value got, values allowed."""
        where = f"sheet {self.sheet!r}, row {self.line}" if self.sheet else f"line {self.line}"
        return f"{where}: {self.field}: got {self.got!r}, allowed {self.allowed}"


@dataclass(frozen=True, slots=True)
class SeriesFile:
    """What a file says of one series, in order of time.

    Parameters
    ----------
    key : str
        Name of the zone or meter.
    time_zone : str
        IANA name of the clock its days follow.
    step : int
        Length of an interval [s].
    starts : ndarray of datetime64[ms], shape (n,)
        Start of each interval, UTC. An interval that was revised comes once for each revision, newest last.
    values : ndarray of shape (n,)
        Mean load [MW] or energy [kWh] of the interval; NaN where the file has none.
    known : ndarray of datetime64[ms], shape (n,)
        When the value was published, UTC; NaT where the file does not say.
    covariates : mapping of str to ndarray of shape (n,)
        By name, NaN where unknown: of load files that have it `temperature` [degC], `temperature_2` of another station,
        and `temperature_forecast` as it was forecast by noon of the day before.
    forecasts : mapping of str to ndarray of shape (n,)
        What somebody else forecast of the values, by the column's name; NaN where unknown. No model reads it.
    problems : tuple of Problem
        Rows that are in no series. A file's problems stand with its first series, so that each counts once.
    holidays : str
        Whose public holidays it has, as whoever reads the file says; empty are those of the time zone's country.
    stream : Stream
        Whose readings these are.
    """

    key: str
    time_zone: str
    step: int
    starts: Times
    values: NDArray[np.float64]
    known: Times
    covariates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    forecasts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    holidays: str = OF_THE_ZONE
    stream: Stream = field(kw_only=True)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def measured_covariates(self) -> dict[str, NDArray[np.float64]]:
        """Covariates as they were measured, without what was forecast of them."""
        return {name: column for name, column in self.covariates.items() if not name.endswith(FORECAST)}


class Problems(list[Problem]):
    """The rows of a file that cannot be read; a file of very many is none of the kind it looks like."""

    def append(self, problem: Problem) -> None:
        """Note one; PayloadInvalid says the first if there are too many."""
        if len(self) >= MOST_PROBLEMS:
            raise PayloadInvalid(f"{self[0].message} (and {MOST_PROBLEMS:,} rows more that cannot be read)")
        super().append(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note several."""
        for problem in problems:
            self.append(problem)


def past_of(series: SeriesFile) -> Past:
    """Return everything a file knows of a series, to train on: filled where it is missing or cannot be right.

    Its weather is as measured, which is what a model learns from.
    """
    history = History(series.key, series.time_zone, series.step, holidays=series.holidays)
    history.add(series.starts, series.values, None, series.measured_covariates)
    return fill_inside(without_suspects(history.until(history.known_until()), series.stream.suspect_rules))
