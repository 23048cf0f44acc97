"""How the model is fitted for any lead: members up to two weeks ahead, and what the newest hours add.

Beyond tomorrow the trees bring less than 1 % (PJME 2014 and 2015 from 24 h on), so that members for longer leads are
regressions alone, which share one model of the spread: 60 kB and 4 s each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import Times
from kappawatt.forecasting.history import Past

from .boosting import boost, reference_of
from .inference import Fitted, Member
from .lifting import lifted
from .linear import HourlyRegression, fit_hourly
from .model import (
    FARTHEST,
    LEADS,
    PENALTY,
    SPREAD,
    SPREAD_ROUNDS,
    first_held_day,
    fit,
    training_rows,
)
from .newest_hours import DAYS, NOON, TERMS, NewestHours, day_of_year, due_hour, residual_terms
from .wall_clock import HOURS, WallClock, wall_clock
from .within_hour import hours_of

if TYPE_CHECKING:
    from xgboost import Booster

__all__ = ["FAR_LEADS", "fit_any_lead"]

Matrix = NDArray[np.float64]

FAR_LEADS = (*range(24, 169, 12), 240, 336)
"""h. Days up to seven ahead from midnight and from noon, each by a member of its own: one that is thrown back by twelve
hours would not join the day before it. A gap of seven days before a forecast seven days ahead is a lead of 15 days."""
SHARED = 10  # of the rows, one in so many teaches the spread that all far leads share
RIDGE = 10.0  # in rows; of scaled terms
SMALLEST = 1e-9


def fit_any_lead(
    pasts: Sequence[Past], progress: Callable[[str], None] | None = None, far_leads: Sequence[int] = FAR_LEADS
) -> Fitted:
    """Fit the default model for every lead up to two weeks.

    Parameters
    ----------
    pasts : sequence of Past
        As `fit` takes them.
    progress : callable, optional
    far_leads : sequence of int
        24, 36 and 48 h, from which newer hours are learned, and others; between them the next longer stands in.

    Raises
    ------
    SettingInvalid
        There is too little to fit.
    """
    fitted = fit(pasts, LEADS, progress)
    clocks = [wall_clock(lifted(hours_of(past))) for past in pasts]
    held_from = first_held_day(clocks)
    far: dict[int, _Far] = {}
    for number, lead in enumerate(far_leads):
        if progress:
            progress(f"lead {lead} h")
        far[lead] = _Far.fit(clocks, lead, held_from, number)
    off, rows = (np.concatenate([getattr(one, name) for one in far.values()]) for name in ("off", "sample"))
    spread = boost(rows, off, SPREAD, SPREAD_ROUNDS)
    members = [one.member(lead, spread) for lead, one in far.items()]
    if progress:
        progress("newest hours")
    regressions = {member.lead: member.regression for member in (*fitted.members, *members)}
    newest = _fit_newest_hours(clocks, regressions, held_from)
    return replace(fitted, members=(*fitted.members, *members), newest=newest)


class _Far:
    """A member for a far lead while it is being made; the spread is fitted to all of them together."""

    def __init__(self, regression: HourlyRegression, held: tuple[NDArray[np.float32], Matrix]) -> None:
        self.regression = regression
        self._held = held  # features and residuals of days kept out
        self.sample: NDArray[np.float32]
        self.off: Matrix

    @staticmethod
    def fit(clocks: Sequence[WallClock], lead: int, held_from: np.datetime64, number: int) -> _Far:
        matrix, target, date = _stacked(clocks, lead)
        usable = np.abs(target) < FARTHEST  # NaN is not
        seen, held = usable & (date < held_from), usable & (date >= held_from)
        regression = fit_hourly(matrix[seen], target[seen], PENALTY)
        tested = held if held.sum() >= HOURS else seen
        far = _Far(regression, (matrix[tested], target[tested] - regression.predict(matrix[tested])))
        some = seen & (date.astype(np.int64) % SHARED == number % SHARED)
        some = some if some.any() else seen
        far.sample = matrix[some]
        far.off = np.abs(target[some] - regression.predict(far.sample))
        return far

    def member(self, lead: int, spread: Booster) -> Member:
        bare = Member(lead, self.regression, None, spread, np.zeros(0))
        rows, residuals = self._held
        return replace(bare, reference=reference_of(residuals / bare.expected(rows)[1]))


def _stacked(clocks: Sequence[WallClock], lead: int) -> tuple[NDArray[np.float32], Matrix, Times]:
    parts = [training_rows(clock, lead) for clock in clocks]
    matrix, target, date = (np.concatenate(part) for part in zip(*parts, strict=True))
    return matrix, target, date


def _fit_newest_hours(
    clocks: Sequence[WallClock], regressions: Mapping[int, HourlyRegression], held_from: np.datetime64
) -> NewestHours:
    """Fit to what the regressions leave of the days they were fitted to: the trees would leave too little of them."""
    series = [_Residuals.of(clock, regressions) for clock in clocks]
    found = NewestHours(np.zeros((DAYS, HOURS, HOURS, TERMS)), np.ones((DAYS, HOURS, HOURS)))
    for ahead in range(DAYS):
        for hour in range(1, HOURS):
            due = due_hour(hour, ahead)
            if hour == due:
                continue
            parts = [one.rows(found, ahead, due, hour, held_from) for one in series]
            terms, left = (np.concatenate(part) for part in zip(*parts, strict=True))
            to_come = slice(hour if ahead == 0 else 0, HOURS)
            scale = np.maximum(terms.std(axis=0), SMALLEST)
            scaled = terms / scale
            square = scaled.T @ scaled + RIDGE * np.eye(TERMS)
            slopes = np.linalg.solve(square, scaled.T @ left[:, to_come])
            found.coefficients[ahead, hour, to_come] = (slopes / scale[:, None]).T
            remains = np.abs(left[:, to_come] - scaled @ slopes).mean(axis=0)
            found.narrowing[ahead, hour, to_come] = remains / np.maximum(
                np.abs(left[:, to_come]).mean(axis=0), SMALLEST
            )
    return found


class _Residuals:
    """What the regressions of a series left of each day, by lead."""

    def __init__(self, by_lead: dict[int, Matrix], dates: Times) -> None:
        self._by_lead = by_lead
        self._dates = dates
        self._day_of_year = day_of_year(dates)

    @staticmethod
    def of(clock: WallClock, regressions: Mapping[int, HourlyRegression]) -> _Residuals:
        by_lead = {}
        for lead in (0, NOON, HOURS, HOURS + NOON, 2 * HOURS):
            matrix, target, date = training_rows(clock, lead)
            target = np.where(np.abs(target) < FARTHEST, target, np.nan)
            by_lead[lead] = (target - regressions[lead].predict(matrix)).reshape(-1, HOURS)
        return _Residuals(by_lead, date.reshape(-1, HOURS)[:, 0])

    def rows(
        self, found: NewestHours, ahead: int, due: int, hour: int, held_from: np.datetime64
    ) -> tuple[Matrix, Matrix]:
        """Terms and what was left of the day to come, of days that are wholly known."""
        today = self._by_lead[0]
        newer = today
        if due:
            newer = today - found.step(0, due, residual_terms(today, 0, due, self._day_of_year))
        terms = residual_terms(newer, due, hour, self._day_of_year)
        left = self._by_lead[HOURS * ahead - due]
        n = len(today) - ahead
        usable = np.isfinite(today[:n]).all(axis=1) & np.isfinite(left[ahead:]).all(axis=1)
        usable &= self._dates[ahead:] < held_from
        return terms[:n][usable], left[ahead:][usable]
