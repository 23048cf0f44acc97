"""What load a series has at a weather: one linear regression for each hour of the day, without any load of before.

Heating and cooling bend the load, so that temperature enters as linear splines: of the hour, of means over some hours
and days (buildings and people respond late), bent otherwise on days off and with the season. The calendar enters with
kinds of days, harmonics of the year and a trend.

Each month of training is also predicted by a fit that has not seen it. What is learned from the residuals
(`correction`), and how wide the interval is, come from residuals of the size to come.

References
----------
P. Wang, B. Liu, T. Hong, Electric load forecasting with recency effect: a big data approach, Int. J. Forecasting 32
(2016) 585-597.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import Times, to_utc, utc_offset

from .day_kinds import ORDINARY, DayKinds
from .temperature import DAYS, average, smoothed
from .wall_clock import HOURS

__all__ = ["Days", "Response", "days_of", "fit_apart", "fit_response", "response_terms", "small_error", "which_fit"]

Matrix = NDArray[np.float64]

KNOTS = (-6.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)  # degC
FEW_KNOTS = (0.0, 10.0, 15.0, 20.0, 25.0)  # of the hour, on days off
SEASON_KNOTS = (10.0, 18.0, 26.0)
LAG_KNOTS = (7.0, 15.0, 24.0)
LAGS = (2, 4, 8, 12, 24, 36, 48)  # h
HALF_LIVES = (6.0, 24.0, 72.0)  # h
HEATING, COOLING = 13.0, 18.0  # degC below and above which buildings are heated and cooled
PENALTY = 5.0  # of the squared slopes of scaled terms
SMALLEST_SCALE = 1e-3
FARTHEST = 8.0  # standard deviations
CALENDAR_TERMS = 7 + 9 + 6 + 2 + 4 * 7  # of a day, beside those of special days
KEPT_MONTHS = 7  # whose own fits serve: the days that calibration forecasts again, and what they look back on


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """The calendar of target days.

    Parameters
    ----------
    month : ndarray of int, shape (n,)
        Counted from 1970.
    terms : ndarray of shape (n, n_terms)
    off : ndarray of shape (n,)
    season : ndarray of shape (n, 4)
        Sine and cosine of the year and half year.
    """

    month: NDArray[np.int64]
    terms: Matrix
    off: Matrix
    season: Matrix

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> Days:
        return Days(self.month[rows], self.terms[rows], self.off[rows], self.season[rows])


def days_of(dates: Times, kinds: DayKinds, names: tuple[str, ...], zone: str) -> Days:
    """Return the calendar of dates.

    Parameters
    ----------
    dates : ndarray of datetime64[D], shape (n,)
    kinds : DayKinds
        Of a span that holds them and their neighbours.
    names : tuple of str
        Special days that have a term of their own.
    zone : str
        IANA name.
    """
    at = (dates - kinds.first).astype(np.int64)
    off = kinds.off.astype(np.float64)
    number = {name: i for i, name in enumerate(names)}
    column = np.array([number.get(name, -1) for name in kinds.names] + [-1])  # the last is of ordinary days
    named = column[np.where(kinds.special[at] == ORDINARY, -1, kinds.special[at])]
    is_special = kinds.special[at] != ORDINARY
    weekday = np.eye(7)[kinds.weekday[at]]
    year = dates.astype("datetime64[Y]")
    angle = 2 * np.pi * (dates - year.astype("datetime64[D]")).astype(np.int64) / 365.25
    waves = np.column_stack([f(k * angle) for k in (1, 2, 3) for f in (np.sin, np.cos)])
    on = 1 - off
    noon = to_utc(np.asarray(dates + np.timedelta64(12, "h"), "datetime64[ms]"), zone)
    january = to_utc(np.asarray(year.astype("datetime64[D]") + np.timedelta64(12, "h"), "datetime64[ms]"), zone)
    summer = (utc_offset(noon, zone) != utc_offset(january, zone)).astype(np.float64)
    terms = [
        weekday,
        np.eye(len(names) + 1)[named][:, : len(names)],
        np.column_stack([
            off[at], on[at] * off[at - 1], on[at] * off[at + 1], off[at] * off[at - 1], off[at] * on[at + 1],
            is_special * off[at], is_special * on[at], summer, (dates.astype(np.int64) - 16_000) / 365.25,
        ]),
        waves,
        waves[:, :2] * off[at][:, None],
        *(waves[:, [k]] * weekday for k in range(4)),
    ]  # fmt: skip
    month = dates.astype("datetime64[M]").astype(np.int64)
    return Days(month, np.column_stack(terms), off[at], np.ascontiguousarray(waves[:, :4]))


def _splines(values: Matrix, knots: tuple[float, ...]) -> Matrix:
    """Linear splines: the value, and how far it is above each knot; shape (..., 1 + n_knots)."""
    return np.stack([values, *(np.maximum(values - knot, 0.0) for knot in knots)], axis=-1)


def _terms(paths: Matrix, days: Days) -> Matrix:
    """Return the terms of each hour of each day, shape (n_days, 24, n_terms)."""
    n, width = paths.shape
    now = paths[:, -HOURS:]
    late = {half_life: smoothed(paths, half_life) for half_life in HALF_LIVES}
    of_three = average(paths, 3)
    parts = [_splines(x, KNOTS) for x in (now, of_three, average(paths, 6), average(paths, 24), *late.values())]
    parts.append(np.broadcast_to(days.terms[:, None, :], (n, HOURS, days.terms.shape[1])))
    parts.append(_splines(now, FEW_KNOTS) * days.off[:, None, None])
    slow = _splines(late[24.0], SEASON_KNOTS)
    parts += [slow * days.season[:, k, None, None] for k in range(4)]
    parts.append(_splines(of_three, SEASON_KNOTS) * days.season[:, 1, None, None])
    cold, hot = np.maximum(HEATING - now, 0.0), np.maximum(now - COOLING, 0.0)
    cold_day, hot_day = np.maximum(HEATING - late[24.0], 0.0), np.maximum(late[24.0] - COOLING, 0.0)
    cold_days, hot_days = np.maximum(HEATING - late[72.0], 0.0), np.maximum(late[72.0] - COOLING, 0.0)
    products = (
        hot * hot_day, cold * cold_day, hot * hot, cold * cold, hot_day * hot_days, hot * hot_days, cold * cold_days
    )  # fmt: skip
    parts.append(np.stack(products, axis=-1))
    parts += [_splines(paths[:, width - HOURS - lag : width - lag], LAG_KNOTS) for lag in LAGS]
    return np.concatenate(parts, axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """The fitted regressions.

    Parameters
    ----------
    names : tuple of str
        Special days with a term of their own.
    centre, scale : ndarray of shape (24, n_terms)
    months : ndarray of int, shape (m,)
        Counted from 1970, that have a fit without them.
    coefficients : ndarray of shape (1 + m, 24, 1 + n_terms)
        Intercept and slopes of the scaled terms: of the whole, and without each of `months`.
    """

    names: tuple[str, ...]
    centre: Matrix
    scale: Matrix
    months: NDArray[np.int64]
    coefficients: Matrix

    def predict(self, paths: Matrix, days: Days) -> Matrix:
        """Return the logarithm of load, shape (n_days, 24); of days of a month in `months` without that month."""
        scaled = _scaled(_terms(paths, days), self.centre, self.scale)
        own = self.coefficients[which_fit(self.months, days.month)]
        scaled *= own[:, :, 1:]
        found: Matrix = scaled.sum(axis=-1) + own[:, :, 0]
        return found


def which_fit(months: NDArray[np.int64], month: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the place of the fit that has not seen each month: 0, the whole, if it was not trained on or long ago."""
    place = np.zeros(len(month), np.intp)
    for i, one in enumerate(months.tolist()):
        place[month == one] = i + 1
    return place


def response_terms(n_names: int) -> int:
    """Return the number of terms with so many special days."""
    day = np.zeros(1, np.int64)
    some = Days(day, np.zeros((1, CALENDAR_TERMS + n_names)), np.zeros(1), np.zeros((1, 4)))
    return int(_terms(np.zeros((1, HOURS * DAYS)), some).shape[2])


def fit_response(
    paths: Matrix, days: Days, target: Matrix, names: tuple[str, ...], penalty: float = PENALTY
) -> tuple[Response, Matrix]:
    """Fit, and return what each day's load was expected to be by the fit without its month, shape (n_days, 24).

    Parameters
    ----------
    paths : ndarray of shape (n_days, 24 * DAYS)
    days : Days
    target : ndarray of shape (n_days, 24)
        Logarithm of load; no NaN.
    """
    terms = _terms(paths, days)
    centre, scale = terms.mean(axis=0), terms.std(axis=0) + SMALLEST_SCALE
    months = np.unique(days.month)
    kept = months[-KEPT_MONTHS:]
    n_terms = terms.shape[2]
    coefficients = np.zeros((1 + len(kept), HOURS, 1 + n_terms))
    expected = np.empty_like(target)
    for hour in range(HOURS):
        rows = np.clip((terms[:, hour] - centre[hour]) / scale[hour], -FARTHEST, FARTHEST)
        whole, apart, blocks = fit_apart(rows, target[:, [hour]], days.month, penalty)
        coefficients[0, hour] = whole[:, 0]
        coefficients[1:, hour] = apart[-len(kept) :, :, 0]
        expected[:, hour] = apart[blocks, 0, 0] + (rows * apart[blocks, 1:, 0]).sum(axis=1)
    return Response(names, centre, scale, kept, coefficients), expected


def fit_apart(
    rows: Matrix, target: Matrix, month: NDArray[np.int64], penalty: float
) -> tuple[Matrix, Matrix, NDArray[np.intp]]:
    """Ridge regression on all rows, and without each month.

    Returns
    -------
    whole : ndarray of shape (1 + n_terms, n_targets)
        Intercept and slopes.
    apart : ndarray of shape (n_months, 1 + n_terms, n_targets)
    blocks : ndarray of int, shape (n,)
        Which of the months each row is in.
    """
    months, blocks = np.unique(month, return_inverse=True)
    design = np.column_stack([np.ones(len(rows)), rows])
    usual = target.mean(axis=0)
    off = target - usual
    squares = np.array([design[blocks == i].T @ design[blocks == i] for i in range(len(months))])
    products = np.array([design[blocks == i].T @ off[blocks == i] for i in range(len(months))])
    ridge = np.full(design.shape[1], penalty)
    ridge[0] = 0.0  # the intercept is free
    square, product = squares.sum(axis=0) + np.diag(ridge), products.sum(axis=0)
    whole = np.linalg.solve(square, product)
    apart = np.linalg.solve(square - squares, product - products) if len(months) > 1 else whole[None].copy()
    whole[0] += usual
    apart[:, 0] += usual
    return whole, apart, blocks


def small_error(paths: Matrix, days: Days, target: Matrix, hours: tuple[int, ...], blocks: int) -> float:
    """Return the mean absolute error of a smaller regression, at some hours, in months it has not seen.

    It tells which of two temperatures a series follows. Every `blocks`-th month is left out together.
    """
    late = smoothed(paths, 24.0)
    error = 0.0
    for hour in hours:
        splines = [_splines(x[:, hour], KNOTS) for x in (paths[:, -HOURS:], average(paths, 3), late)]
        terms = np.concatenate([*splines, days.terms], axis=1)
        scale = terms.std(axis=0) + SMALLEST_SCALE
        rows = np.clip((terms - terms.mean(axis=0)) / scale, -FARTHEST, FARTHEST)
        _, apart, block = fit_apart(rows, target[:, [hour]], days.month % blocks, PENALTY)
        expected = apart[block, 0, 0] + (rows * apart[block, 1:, 0]).sum(axis=1)
        error += float(np.abs(target[:, hour] - expected).mean())
    return error / len(hours)


def _scaled(terms: Matrix, centre: Matrix, scale: Matrix) -> Matrix:
    terms -= centre
    terms /= scale
    return np.clip(terms, -FARTHEST, FARTHEST, out=terms)
