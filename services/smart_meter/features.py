"""The past of one meter -> the input matrix of its next day. No IO, clock or state; training and serving both call it.

Everything is relative to the meter's own mean of the last weeks, so that one model serves a studio and a house with
a pool. What carries most is the spread that the same quarter hour had over the last weeks, newer days counting more:
the model only corrects it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import DAY, Instant, Times, local_date, same_local_time, to_local, utc_offset
from kappawatt.forecasting.fan import LEVELS
from kappawatt.forecasting.history import Past

__all__ = [
    "DAY_FEATURE_NAMES",
    "DEPTH",
    "FEATURE_NAMES",
    "FIGURES",
    "Inputs",
    "compress",
    "expand",
    "features",
    "inputs",
    "weighted_quantiles",
]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

DEPTH = 56  # days back that are looked at
WEEK = 7
MONTH = 28  # days that make the scale
SMALLEST_SCALE = 1e-3  # kWh per interval: a meter that counts nothing is not divided by
CURVATURE = 3.0  # of `compress`: a kettle is ten times the mean, and should not be ten times as loud
SHORT_FADE, LONG_FADE = 7.0, 21.0  # days after which a day counts 1/e
OTHER_KIND = 0.5  # weight of a working day for a weekend day and the reverse
NEAR = np.timedelta64(60, "m")  # neighbours on either side that are pooled with an interval
NEAR_FADE = 0.5  # weight of a neighbour half an hour away
SMALLEST_SPREAD = 0.1  # compressed; a load that never varied yet may
SMALLEST_DAY_SPREAD = 0.03  # the same of a whole day's figures
WHOLE = 0.9  # of a day that must be known for its total and peak to count
FARTHEST = 4.0  # spreads from the middle: beyond, a value says no more than that it is far
POOLED_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
SHAPE_LEVELS = (0.05, 0.1, 0.25, 0.75, 0.9, 0.95)
FIGURES = ("daily_consumption", "daily_peak")  # [kWh], [kWh per interval]

_LAGS = (1, 2, 3, 7, 14)  # days
_HOURS = (1, 3, 6)
_MIDDLE = LEVELS.index(0.5)
_SPREAD = (LEVELS.index(0.1), LEVELS.index(0.9))
_SHAPE = [LEVELS.index(level) for level in SHAPE_LEVELS]
_STATE = (
    "last_day",
    "last_3_days",
    "last_week",
    "base",
    "peak_last_day",
    *(f"last_{hours}_hours" for hours in _HOURS),
    "roughness",
)
# Of the day's figures, of which there is one a day to learn from, a meter's general character is kept away: it would
# only tell meters apart.
_DAY_STATE = [place for place, name in enumerate(_STATE) if name not in ("last_week", "base", "roughness")]
_CALENDAR = ("weekend", "lead", "days_known")

FEATURE_NAMES = (
    *(f"quantile_{round(level * 100):02d}" for level in SHAPE_LEVELS),
    *(f"long_quantile_{round(level * 100):02d}" for level in POOLED_LEVELS),
    *(f"near_quantile_{round(level * 100):02d}" for level in POOLED_LEVELS),
    *(f"lag_{lag}_days" for lag in _LAGS),
    "near_lag_1_day",
    "near_lag_7_days",
    "mean_week",
    "mean_month",
    "mean_same_weekday",
    "median",
    "spread",
    *_STATE,
    "hour_sine",
    "hour_cosine",
    "half_day_sine",
    "half_day_cosine",
    *_CALENDAR,
)
DAY_FEATURE_NAMES = (
    *(f"quantile_{round(level * 100):02d}" for level in SHAPE_LEVELS),
    *(f"lag_{lag}_days" for lag in _LAGS),
    "mean_week",
    "mean_month",
    "mean_same_weekday",
    "spread",
    *(_STATE[place] for place in _DAY_STATE),
    *_CALENDAR,
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the model is given for one day of one meter.

    Energies are multiples of the meter's mean, `compress`ed. Features that are energies of a time of day are
    distances from `base`'s median in units of `spread`: what is learned of a kettle then holds for a heater.

    Parameters
    ----------
    scale : float
        Mean energy of an interval over the last weeks [kWh].
    base : ndarray of shape (n, 19)
        Quantiles of what the same time of day had lately, at `LEVELS`.
    spread : ndarray of shape (n,)
        Half the distance of the 10 % and 90 % quantiles of `base`, and a little.
    features : ndarray of shape (n, n_features)
        In the order of `FEATURE_NAMES`.
    day_base, day_spread, day_features : ndarray of shape (2, 19), (2,), (2, n_day_features)
        The same for `FIGURES`, the day's consumption as mean of an interval; in the order of `DAY_FEATURE_NAMES`.
    """

    scale: float
    base: Matrix
    spread: Vector
    features: Matrix
    day_base: Matrix
    day_spread: Vector
    day_features: Matrix


def compress(multiple: Matrix) -> Matrix:
    """Return a multiple of a meter's mean on the scale the model works on, where bursts do not drown the rest.

    Examples
    --------
    >>> round(float(expand(compress(np.array(2.5)))), 12)
    2.5
    """
    compressed: Matrix = np.log1p(np.maximum(multiple, 0.0) * CURVATURE)
    return compressed


def expand(compressed: Matrix) -> Matrix:
    """Return the multiple that `compress` made this of; never below zero."""
    multiple: Matrix = np.expm1(np.maximum(compressed, 0.0)) / CURVATURE
    return multiple


def features(past: Past, targets: Times) -> Matrix:
    """Return the model's input for the intervals of one local day; see `inputs`.

    Returns
    -------
    ndarray of shape (n, n_features)
        Columns in the order of `FEATURE_NAMES`.
    """
    return inputs(past, targets).features


def inputs(past: Past, targets: Times) -> Inputs:
    """Return everything the model is given. Nothing but `past` and the calendar is looked at.

    The feature `lead` is counted from the newest value that is known, in days: of readings that are published a day
    late it is 1 at midnight, if the newest values are left unknown and not made up.

    Parameters
    ----------
    past : Past
        Energies [kWh], at least a week of them; unknown ones are NaN.
    targets : ndarray of datetime64[ms], shape (n,)
        Starts of the intervals, UTC, in order, all of one local day.
    """
    per_day = 86_400 // past.step
    values = past.values[-(DEPTH + 2) * per_day :]
    first = past.start + (len(past.values) - len(values)) * past.interval
    recent = values[-MONTH * per_day :]
    scale = max(float(np.nanmean(recent)) if np.isfinite(recent).any() else 0.0, SMALLEST_SCALE)
    values = values / scale
    lags = np.arange(1, DEPTH + 1)
    weekday = int((local_date(targets[:1], past.time_zone).astype(np.int64)[0] + 3) % WEEK)  # Monday is 0
    kind = np.where(((weekday - lags) % WEEK >= 5) == (weekday >= 5), 1.0, OTHER_KIND)
    weights = kind * np.exp(-lags / SHORT_FADE)
    long_weights = kind * np.exp(-lags / LONG_FADE)
    near = _same_times(targets, past, first, values)
    around = near.shape[2] // 2
    same = near[..., around]
    common = _common_level(values)
    quantiles = _filled(weighted_quantiles(same.T, weights, LEVELS), common)
    near_weights = weights[:MONTH, None] * NEAR_FADE ** (2 * np.abs(np.arange(-around, around + 1)) * 24 / per_day)
    pooled = near[:MONTH].transpose(1, 0, 2).reshape(len(targets), -1)
    near_means = _nanmean(near[[0, WEEK - 1]], axis=2)
    base, spread, columns = _relative(
        quantiles,
        [
            *_filled(weighted_quantiles(same.T, long_weights, POOLED_LEVELS), common).T,
            *_filled(weighted_quantiles(pooled, near_weights.reshape(-1), POOLED_LEVELS), common).T,
            *(same[lag - 1] for lag in _LAGS),
            *near_means,
            *_means(same),
        ],
        SMALLEST_SPREAD,
    )
    wall = to_local(targets, past.time_zone)
    turn = 2 * np.pi * ((wall - wall.astype("datetime64[D]")) / DAY)
    state = _state(values, per_day)
    calendar = [
        float(weekday >= 5),
        float((targets[0] - _known_until(past)) / DAY),
        np.log(min(DEPTH, len(past.values) / per_day) + 1.0),
    ]
    clock = [np.sin(turn), np.cos(turn), np.sin(2 * turn), np.cos(2 * turn)]
    matrix = _matrix([*columns, *state, *clock, *calendar], len(targets))
    figures = _figures(same)
    day_quantiles = _filled(weighted_quantiles(figures, long_weights, LEVELS), np.ones(3))
    day_base, day_spread, day_columns = _relative(
        day_quantiles, [*(figures[:, lag - 1] for lag in _LAGS), *_means(figures.T)], SMALLEST_DAY_SPREAD
    )
    day_matrix = _matrix(
        [*day_columns[:-2], day_columns[-1], *(state[place] for place in _DAY_STATE), *calendar], len(FIGURES)
    )
    return Inputs(scale, base, spread, matrix, day_base, day_spread, day_matrix)


def _known_until(past: Past) -> Instant:
    """Return the end of the newest interval with a value: readings may be published a day late."""
    known = np.isfinite(past.values)
    after = int(np.argmax(known[::-1])) if known.any() else len(known)
    return past.end - after * past.interval


def _relative(quantiles: Matrix, energies: Sequence[Vector], smallest: float) -> tuple[Matrix, Vector, list[Vector]]:
    """Return base, spread and features: shape, then each of `energies` as spreads from the median, then both."""
    base = compress(quantiles)
    middle = base[:, _MIDDLE]
    spread = (base[:, _SPREAD[1]] - base[:, _SPREAD[0]]) / 2 + smallest
    levels = np.vstack([base.T[_SHAPE], compress(np.array(energies))])
    distance = np.where(np.isfinite(levels), (levels - middle) / spread, 0.0)
    return base, spread, [*np.clip(distance, -FARTHEST, FARTHEST), middle, np.log(spread)]


def _matrix(columns: Sequence[Vector | float], n: int) -> Matrix:
    matrix = np.empty((n, len(columns)))
    for position, column in enumerate(columns):
        matrix[:, position] = column
    return matrix


def _means(days: Matrix) -> list[Vector]:
    """Return the means of the last week, the last month and the same weekday, of days in rows, newest first."""
    return [_nanmean(days[:WEEK]), _nanmean(days[:MONTH]), _nanmean(days[WEEK - 1 : 4 * WEEK : WEEK])]


def _same_times(targets: Times, past: Past, first: Instant, values: Vector) -> Matrix:
    """Return what the same wall-clock time and its neighbours had 1 to DEPTH days before; NaN where unknown.

    Returns
    -------
    ndarray of shape (DEPTH, n, 2 * around + 1)
        The time itself is in the middle.
    """
    around = round(NEAR / past.interval)
    places = ((_days_before(targets, past.time_zone) - first) // past.interval).astype(np.int64)
    # NaN on both sides, so that a neighbour before the past or not known yet is one.
    padded = np.full(len(values) + 2 * around + 1, np.nan)
    padded[around : around + len(values)] = values
    places = np.clip(places, -around - 1, len(values) + around)
    window = places[..., None] + np.arange(2 * around + 1)
    window[(window < 0) | (window >= len(padded))] = len(padded) - 1
    near: Matrix = padded[window]
    return near


def _days_before(targets: Times, zone: str) -> Times:
    """Return the same wall-clock times 1 to DEPTH days before, (DEPTH, n): `same_local_time` for many days at once."""
    edges = targets[[0, -1]]
    now = utc_offset(edges, zone)
    days = np.arange(1, DEPTH + 1)[:, None] * DAY
    noon = targets[len(targets) // 2] - days
    then = utc_offset(noon, zone)
    starts: Times = targets - days - (then - now[0]).astype("timedelta64[ms]")
    # A shift is right where the clock changes neither during the target day nor during the earlier one.
    is_plain = (now[0] == now[1]) & (utc_offset(starts[:, [0, -1]], zone) == then).all(axis=1)
    for row in np.flatnonzero(~is_plain).tolist():
        starts[row] = same_local_time(targets, zone, row + 1)
    return starts


def _state(values: Vector, per_day: int) -> list[float]:
    """Return the meter's present level, against its last week where that says more."""
    week, last_day, three = values[-WEEK * per_day :], values[-per_day:], values[-3 * per_day :]
    level = [_mean(last_day), _mean(three), _mean(week)]
    known = three[np.isfinite(three)]
    base = float(np.partition(known, len(known) // 20)[len(known) // 20]) if len(known) else 1.0
    known = last_day[np.isfinite(last_day)]
    peak = float(known.max()) if len(known) else 1.0
    whole = len(week) // per_day
    days = week[len(week) - whole * per_day :].reshape(whole, per_day)
    hours = [hours * per_day // 24 for hours in _HOURS]
    now, usual = (
        [_mean(part) for part in parts] for parts in ([values[-h:] for h in hours], [days[:, -h:] for h in hours])
    )
    numbers = compress(np.array([*level, base, peak, *now, *usual])).tolist()
    last, three_days, last_week = numbers[:3]
    news = [a - b for a, b in zip(numbers[5 : 5 + len(hours)], numbers[5 + len(hours) :], strict=True)]
    roughness = _mean(np.abs(np.diff(week)))
    return [
        last - last_week,
        three_days - last_week,
        last_week,
        numbers[3] - last_week,
        numbers[4] - last_week,
        *news,
        roughness,
    ]


def _figures(same: Matrix) -> Matrix:
    """Return the mean interval and the peak of the last DEPTH days, (2, DEPTH); NaN for a day that is not whole."""
    known = np.isfinite(same)
    is_whole = known.mean(axis=1) > WHOLE
    peak = np.where(known, same, -np.inf).max(axis=1)
    return np.where(is_whole, np.stack([_nanmean(same.T), peak]), np.nan)


def weighted_quantiles(values: Matrix, weights: Vector, levels: tuple[float, ...]) -> Matrix:
    """Return quantiles of each row's values, of which some count more; NaN where a row has no value.

    Parameters
    ----------
    values : ndarray of shape (n, k)
        NaN where unknown.
    weights : ndarray of shape (k,)
        Above zero.
    levels : tuple of float, length m

    Returns
    -------
    ndarray of shape (n, m)
        Between the values, linear in the midpoints of their shares of the weight.

    Examples
    --------
    >>> weighted_quantiles(np.array([[3.0, 1.0, np.nan]]), np.ones(3), (0.25, 0.5, 0.75))
    array([[1., 2., 3.]])
    """
    order = np.argsort(values, axis=1)  # NaN last
    ordered = np.take_along_axis(values, order, axis=1)
    known = np.isfinite(ordered)
    share = np.where(known, weights[order], 0.0)
    middle = np.cumsum(share, axis=1)
    total = middle[:, -1:].copy()
    middle -= 0.5 * share
    middle = np.where(known, middle / np.where(total > 0, total, 1.0), 2.0)
    wanted = np.array(levels)
    after = (middle[:, :, None] < wanted).sum(axis=1)  # (n, m): the first value at or beyond the level
    last = np.maximum(known.sum(axis=1) - 1, 0)[:, None]
    right, left = np.minimum(after, last), np.clip(after - 1, 0, last)
    below, above = (np.take_along_axis(middle, side, axis=1) for side in (left, right))
    width = above - below
    part = np.where(width > 0, (wanted - below) / np.where(width > 0, width, 1.0), 0.0)
    low, high = (np.take_along_axis(ordered, side, axis=1) for side in (left, right))
    quantiles: Matrix = low + np.clip(part, 0.0, 1.0) * (high - low)
    return quantiles


def _common_level(values: Vector) -> Vector:
    """Return low, middle and high of everything known: what stands in for a time of day never measured."""
    known = values[np.isfinite(values)]
    return np.quantile(known, (0.05, 0.5, 0.95)) if len(known) else np.array([0.0, 1.0, 1.0])


def _filled(quantiles: Matrix, common: Vector) -> Matrix:
    """Return quantiles with rows of NaN replaced by a straight line through the common levels."""
    bad = np.isnan(quantiles[:, 0])
    if bad.any():
        quantiles[bad] = np.interp(np.linspace(0, 1, quantiles.shape[1]), (0.0, 0.5, 1.0), common)
    return quantiles


def _mean(values: Matrix) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else 1.0


def _nanmean(values: Matrix, axis: int = 0) -> Matrix:
    """Return means of what is known along an axis; NaN, without a warning, where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    result: Matrix = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result
