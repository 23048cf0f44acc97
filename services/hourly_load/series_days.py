"""Days of one series as the model forecasts them: by weather, by load alone, and sharpened by the newest hours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import HistoryInsufficient
from kappawatt.forecasting.fan import Warned

from .calibration import CALIBRATION_DAYS, calibrate
from .features import rows_of_cells
from .member import Member
from .newest_hours import NewestHours
from .own_weather import Covariate, covariates_of, shifts_of, with_weather
from .own_weeks import TERMS, refitted
from .sharpened import Base, Sharpened, is_sharpened, sharpened
from .skill import lean_on_naive
from .wall_clock import HOURS, Cells, WallClock, cells_of_days
from .weather_member import WeatherDays, WeatherMember

__all__ = ["SeriesDays"]

Matrix = NDArray[np.float64]

NO_WEATHER = Warned(
    "no_weather",
    "the model of this series knows weather, and the temperature of the day to forecast is not known up to its end: "
    "forecast from load and calendar alone",
)


class Models(Protocol):
    """The fitted models of all leads; see `inference.Fitted`."""

    @property
    def held_from(self) -> np.datetime64:
        """First local day that the fit has not seen."""
        ...

    @property
    def newest(self) -> NewestHours | None:
        """What newer hours add."""
        ...

    def member(self, lead: int) -> Member:
        """Return the model for a lead."""
        ...

    def weather_member(self, key: str, lead: int) -> WeatherMember | None:
        """Return the model of a series with weather for a lead."""
        ...


class SeriesDays:
    """Days of one series as the model forecasts them at a lead, each computed once."""

    def __init__(self, fitted: Models, clock: WallClock, is_lifted: bool, key: str) -> None:
        self._fitted = fitted
        self._clock = clock
        self._is_lifted = is_lifted
        self._key = key
        self._found: dict[tuple[int, int], tuple[Matrix, ...]] = {}
        self._with_weather: dict[int, WeatherDays | None] = {}

    @cached_property
    def _known_ahead(self) -> tuple[Covariate, ...]:
        return covariates_of(self._clock, but_temperature=False)

    @cached_property
    def _besides(self) -> tuple[Covariate, ...]:
        """What a model that was trained with temperature does not know."""
        return covariates_of(self._clock, but_temperature=True)

    def forecast(self, day: int, origin: int) -> tuple[Matrix, Warned | None]:
        """Return quantiles [MW] of a day's hours, shape (24, 19), issued when cells before `origin` were known.

        Beside them stands a warning, if the seasonal naive was closer lately.
        """
        actual = day * HOURS - origin
        by_weather = self._forecast_by_weather(day, actual)
        if by_weather is not None:
            return by_weather
        quantiles, warning = self._forecast_by_load(day, actual)
        if not self._is_lifted and self._fitted.weather_member(self._key, actual) is not None:
            warning = NO_WEATHER
        return quantiles, warning

    def _forecast_by_load(self, day: int, actual: int) -> tuple[Matrix, Warned | None]:
        """Return the same without weather."""
        found = self._sharpened_by_load(day, actual)
        if found is not None:
            return self._told(found, actual)
        lead, days = max(actual, 0), self._days_until(day)
        lead = max(self._fitted.member(lead).lead, lead)
        base = self._base(lead, days)
        if np.isnan(base.centre[-1]).any():
            raise HistoryInsufficient.of("load", "no value in the last week", "a history of weeks")
        return self._calibrated(base, days, lead, self._held_out), base.warning

    def _sharpened_by_load(self, day: int, actual: int) -> Sharpened | None:
        newest, origin = self._fitted.newest, day * HOURS - actual
        if newest is None or not is_sharpened(day, origin):
            return None
        return sharpened(newest, self._clock, self._base, self._held_out, CALIBRATION_DAYS, day, origin)

    def _told(self, found: Sharpened, actual: int) -> tuple[Matrix, Warned | None]:
        """Return quantiles and what is to be said of them: they stand on answers that lean on the naive already."""
        own = lean_on_naive(self._clock, found.days, found.centre, found.measured, actual, may_lean=False)
        return found.quantiles, own.warning

    def _base(self, lead: int, days: Cells) -> Base:
        """Forecasts of days, the last of them the one that is asked for, `lead` hours before they begin."""
        member = self._fitted.member(lead)
        self._compute(member, lead, days)
        centre, spread = (np.array([self._found[lead, d][i] for d in days.tolist()]) for i in (0, 1))
        if self._is_lifted and not np.isnan(centre[-1]).any():
            level, terms = (np.array([self._found[lead, d][i] for d in days.tolist()]) for i in (2, 3))
            measured = self._measured(lead, days)
            centre, spread = refitted(centre - level, terms, measured - level[:-1])
            centre = centre + level
        centre = self._moved(centre, days, lead, self._known_ahead)
        return self._leaning(Base(centre, spread, member.reference, member.reference_lead), days, lead)

    def _moved(self, centre: Matrix, days: Cells, lead: int, covariates: tuple[Covariate, ...]) -> Matrix:
        """Answers moved by what covariates change, as far as they are known."""
        if not covariates:
            return centre
        return with_weather(centre, shifts_of(covariates, days, lead), self._measured(lead, days))

    def _leaning(self, base: Base, days: Cells, lead: int) -> Base:
        """Lean on the seasonal naive where it was closer. Net load has been fitted to its own weeks already."""
        measured = self._measured(lead, days)
        found = lean_on_naive(self._clock, days, base.centre, measured, lead, may_lean=not self._is_lifted)
        return replace(base, centre=found.centre, warning=found.warning)

    def _calibrated(self, base: Base, days: Cells, lead: int, held_out: Callable[[Matrix, Cells], Matrix]) -> Matrix:
        """Quantiles [MW] of the last day's hours, by the errors of the days before."""
        residuals = held_out((self._measured(lead, days) - base.centre[:-1]) / base.spread[:-1], days[:-1])
        calibration = calibrate(residuals, lead, base.reference, base.reference_lead)
        return calibration.quantiles_around(base.centre[-1], base.spread[-1])

    def _forecast_by_weather(self, day: int, actual: int) -> tuple[Matrix, Warned | None] | None:
        """Return the same from the model with weather; None where there is none, or the day's weather is not known."""
        member = None if self._is_lifted else self._fitted.weather_member(self._key, actual)
        if member is None:
            return None
        if member.lead not in self._with_weather:
            self._with_weather[member.lead] = WeatherDays.of(member, self._clock)
        own = self._with_weather[member.lead]
        if own is None or (actual < 0 and (self._fitted.newest is None or member.lead > 0)):
            return None
        lead, days = max(member.lead, actual), self._days_until(day)
        centre, spread = own.expected(days, lead, max(actual, 0))
        if np.isnan(centre[-1]).any():
            return None
        centre = self._moved(centre, days, lead, self._besides)
        base = self._leaning(Base(centre, spread, member.reference, member.lead), days, lead)
        if actual < 0:
            return self._rest_by_weather(base, day, actual)
        return self._calibrated(base, days, lead, _as_they_are), base.warning

    def _rest_by_weather(self, as_due: Base, day: int, actual: int) -> tuple[Matrix, Warned | None]:
        """The rest of a day that has begun: as of its start, sharpened by the newest hours.

        The newest hours tell much of what weather does, and of what its forecast is off: of the two models it is the
        one that was closer on the days that calibration forecasts again.
        """
        assert self._fitted.newest is not None
        origin = day * HOURS - actual
        found = sharpened(
            self._fitted.newest, self._clock, lambda *_: as_due, _as_they_are, CALIBRATION_DAYS, day, origin
        )
        by_load = self._sharpened_by_load(day, actual)
        return self._told(by_load if by_load is not None and by_load.off < found.off else found, actual)

    @staticmethod
    def _days_until(day: int) -> Cells:
        """The days that calibration forecasts again, and the day itself."""
        return np.arange(max(day - CALIBRATION_DAYS, 0), day + 1)

    def _measured(self, lead: int, days: Cells) -> Matrix:
        """Logarithm of load of the days before the last, as far as it is known `lead` hours before that."""
        return self._clock.load_before(days[:-1], int(days[-1]) * HOURS - lead)

    def _held_out(self, residuals: Matrix, days: Cells) -> Matrix:
        """Leave out days the fit has seen, where enough others are known."""
        seen = days < int((self._fitted.held_from - self._clock.first).astype(int))
        others = (~np.isnan(residuals[~seen])).any(axis=1).sum()
        if others >= CALIBRATION_DAYS // 4:
            residuals = np.where(seen[:, None], np.nan, residuals)
        return residuals

    def _compute(self, member: Member, lead: int, days: Cells) -> None:
        new = np.array([d for d in days.tolist() if (lead, d) not in self._found], dtype=np.int64)
        if not len(new):
            return
        cells = cells_of_days(new).ravel()
        rows = rows_of_cells(self._clock, new * HOURS - lead, cells, np.repeat(np.arange(len(new)), HOURS))
        centre, spread = member.expected(rows.matrix)
        centre = (centre + rows.level).reshape(-1, HOURS)
        for i, day in enumerate(new.tolist()):
            self._found[lead, day] = centre[i], spread.reshape(-1, HOURS)[i]
            if self._is_lifted:
                own = slice(HOURS * i, HOURS * (i + 1))
                self._found[lead, day] += rows.level[own], rows.matrix[own][:, TERMS].astype(np.float64)


def _as_they_are(residuals: Matrix, days: Cells) -> Matrix:
    return residuals
