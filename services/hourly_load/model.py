"""How the models are fitted, and why they are built so.

Default: for each lead, the average of two models of the logarithm of load over the last week's level.

- A ridge regression for each hour of the day. Load tomorrow is nearly linear in the newest hours, the same weekdays
  before and the drift against them, once day kind and season may bend the slopes.
- XGBoost on the features as they are. It finds holidays, cold snaps and what else is not linear.

Their errors differ, so that the average is better than either (numbers in the model card). A small third model
predicts the spread of the errors by hour, season and day kind; widths come from `calibration`, out of the errors of the
last sixteen weeks. These weeks are therefore kept out of the fit: errors on days it had seen would be too small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import Times
from kappawatt.forecasting.fan import LEVELS
from kappawatt.forecasting.history import Past

from .boosting import SEED, TREES, boost, reference_of
from .features import calendar_features, rows_of_cells
from .inference import CALIBRATION_DAYS, Classic, Fitted, Member
from .lifting import lifted
from .linear import fit_hourly
from .wall_clock import HOURS, WallClock, cells_of_days, wall_clock
from .weather_fit import fit_weather
from .within_hour import hours_of

__all__ = ["LEADS", "first_held_day", "fit", "fit_classic", "lead_of", "training_rows"]

Progress = Callable[[str], None]
Matrix = NDArray[np.float64]

LEADS = (0, 12)  # h before the target day begins: at its start, and at noon of the day before
FIRST_DAYS = 21  # of a series, of which too little is known before them
LEAST_DAYS = 60  # to fit
HELD_SHARE = 0.15  # of the days kept out of the fit at most
FARTHEST = 1.5  # of the logarithm of load over level: e**1.5 is an error of the data
PENALTY = 50.0  # 2015 at noon, fitted to 1, 3.5 and 13 years: MAPE 6.7, 5.11, 4.75 %; with 3: above 8, 5.15, 4.75 %

DEEP = {**TREES, "max_depth": 7, "eta": 0.06, "colsample_bytree": 0.3, "min_child_weight": 30}
DEEP_ROUNDS = 200
SPREAD = {**DEEP, "max_depth": 4, "min_child_weight": 200, "reg_lambda": 10.0}
SPREAD_ROUNDS = 100

# As published (see `fit_classic`): learning rate 0.01, depth 3, a start from 0.5.
CLASSIC = {
    "objective": "reg:squarederror",
    "eta": 0.01,
    "max_depth": 3,
    "base_score": 0.5,
    "nthread": 1,
    "seed": SEED,
}
CLASSIC_ROUNDS = 1000
CLASSIC_PATIENCE = 50
CLASSIC_HELD_SHARE = 0.1


def lead_of(clock: np.timedelta64) -> int:
    """Return the hours from an issue clock (time since midnight) to the start of the next target day.

    Examples
    --------
    >>> lead_of(np.timedelta64(0, "h")), lead_of(np.timedelta64(12, "h"))
    (0, 12)
    """
    hour = int(np.timedelta64(clock, "ms").astype(np.int64) // 3_600_000)
    return (HOURS - hour) % HOURS


def fit(pasts: Sequence[Past], leads: Sequence[int] = LEADS, progress: Progress | None = None) -> Fitted:
    """Fit the default model.

    Parameters
    ----------
    pasts : sequence of Past
        What is known of each series, of any step that divides an hour, gaps filled. What is learned is of hours.
    leads : sequence of int
        Hours from the issue time to the start of the target day, one model each.
    progress : callable, optional

    Raises
    ------
    SettingInvalid
        There is too little to fit.
    """
    clocks = [wall_clock(lifted(hours_of(past))) for past in pasts]
    held_from = first_held_day(clocks)
    members, weather = [], []
    for lead in sorted(set(leads)):
        if progress:
            progress(f"lead {lead} h")
        members.append(_fit_member(clocks, lead, held_from))
    for past, clock in zip(pasts, clocks, strict=True):
        if clock.stations and progress:
            progress(f"weather of {past.key}")
        weather += fit_weather(past.key, clock, sorted(set(leads)), held_from)
    return Fitted(tuple(members), held_from, tuple(sorted(weather, key=lambda member: member.lead)))


def first_held_day(clocks: Sequence[WallClock]) -> np.datetime64:
    """Return the first local day that is kept out of the fit; SettingInvalid if there are too few days."""
    first = min(clock.first for clock in clocks)
    last = max(clock.first + len(clock.log_load) // HOURS for clock in clocks)
    days = int((last - first).astype(int))
    if days < LEAST_DAYS:
        raise SettingInvalid.of("history", f"{days} days", f"{LEAST_DAYS} or more to fit")
    held: np.datetime64 = last - min(CALIBRATION_DAYS, int(HELD_SHARE * days))
    return held


def _fit_member(clocks: Sequence[WallClock], lead: int, held_from: np.datetime64) -> Member:
    parts = [training_rows(clock, lead) for clock in clocks]
    matrix = np.concatenate([part[0] for part in parts])
    target = np.concatenate([part[1] for part in parts])
    date = np.concatenate([part[2] for part in parts])
    usable = np.abs(target) < FARTHEST  # NaN is not
    seen = usable & (date < held_from)
    held = usable & (date >= held_from)
    if seen.sum() < LEAST_DAYS // 2 * HOURS:
        raise SettingInvalid.of("history", f"{int(seen.sum())} hours to fit", f"{LEAST_DAYS // 2 * HOURS} or more")
    regression = fit_hourly(matrix[seen], target[seen], PENALTY)
    trees = boost(matrix[seen], target[seen], DEEP, DEEP_ROUNDS)
    off = np.abs(target[seen] - regression.predict(matrix[seen]))
    spread = boost(matrix[seen], off, SPREAD, SPREAD_ROUNDS)
    unscaled = Member(lead, regression, trees, spread, np.zeros(0))
    tested = held if held.sum() >= HOURS else seen
    centre, width = unscaled.expected(matrix[tested])
    return Member(lead, regression, trees, spread, reference_of((target[tested] - centre) / width))


def training_rows(clock: WallClock, lead: int) -> tuple[NDArray[np.float32], Matrix, Times]:
    """Return features, logarithm of load over level, and local day, of every hour of every whole day of a series."""
    days = np.arange(FIRST_DAYS, len(clock.log_load) // HOURS)
    cells = cells_of_days(days).ravel()
    issue = np.repeat(np.arange(len(days)), HOURS)
    rows = rows_of_cells(clock, days * HOURS - lead, cells, issue)
    return rows.matrix, clock.log_load[cells] - rows.level, clock.first + cells // HOURS


def fit_classic(
    labels: Times, load: Matrix, stop_labels: Times | None = None, stop_load: Matrix | None = None
) -> Classic:
    """Fit the published baseline: 1,000 trees on the calendar, stopped early.

    Parameters
    ----------
    labels : ndarray of datetime64, shape (n,)
        Local labels of the hours' ends, as the file has them.
    load : ndarray of shape (n,)
        [MW].
    stop_labels, stop_load : ndarray of shape (m,), optional
        Where the error is watched. The publication watches its test data, which flatters it; without them it is the
        last tenth of the training span, which is then not trained on.

    References
    ----------
    R. Mulla (robikscube), "Time Series Forecasting with XGBoost", Kaggle 2022: RMSE 3,721.75 MW on PJME from 2015-01-01
    to 2018-08-03. It makes the eight features and trains on six of them; here it is all eight.
    """
    import xgboost

    order = np.argsort(labels, kind="stable")
    labels, load = labels[order], load[order]
    if stop_labels is None or stop_load is None:
        cut = int(len(labels) * (1 - CLASSIC_HELD_SHARE))
        labels, stop_labels, load, stop_load = labels[:cut], labels[cut:], load[:cut], load[cut:]
    training, stopping = (
        xgboost.DMatrix(calendar_features(when), values, nthread=1)
        for when, values in ((labels, load), (stop_labels, stop_load))
    )
    trees = xgboost.train(
        CLASSIC,
        training,
        CLASSIC_ROUNDS,
        evals=[(training, "training"), (stopping, "stopping")],
        early_stopping_rounds=CLASSIC_PATIENCE,
        verbose_eval=False,
    )
    best = trees[: trees.best_iteration + 1]
    errors = stop_load - Classic(best, np.zeros(len(LEVELS))).predict(calendar_features(stop_labels))
    spread = np.quantile(errors, LEVELS)
    return Classic(best, spread - np.quantile(errors, 0.5))
