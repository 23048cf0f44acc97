"""Rolling-origin evaluation of a forecaster: train on what lies before, forecast day after day, score, resume.

For each day of the span the forecast is what the service would have answered at the issue time: the same
`History.until`, the same gap policy, the same fallback. Training sees what was known when the first day of its period
was issued. Every day is written to a file as it is done, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt import __version__
from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import HistoryInsufficient, SettingInvalid
from kappawatt.forecasting.calendar import Times, issue_time, local_date, parse_clock
from kappawatt.forecasting.fan import LEVELS, interval_percent, naive_fan
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.gaps import fill_inside
from kappawatt.forecasting.history import History, Past
from kappawatt.models.scores import coverage, crps, mae, mape, mean_width, pinball, rmse, smape

__all__ = ["RETRAIN", "SHIPPED", "Day", "Fit", "Plan", "Result", "run_backtest", "score_days"]

log = logging.getLogger(__name__)

Fit = Callable[[Sequence[Past], np.timedelta64, Callable[[str], None]], Any]

SHIPPED = "shipped"
RETRAIN = {  # days
    **{"daily": 1, "weekly": 7, "fortnightly": 14, "monthly": 28, "quarterly": 91},
    **{"never": None, SHIPPED: None},
}
DIGITS = 7


@dataclass(frozen=True, slots=True)
class Rolling:
    """How a service that forecasts is evaluated.

    Parameters
    ----------
    forecaster : Forecaster
    fit : callable
        (pasts, issue clock, progress) to a fitted model.
    retrain : str
        How often it trains if nothing else is asked, a key of `RETRAIN`.
    """

    forecaster: Forecaster
    fit: Fit
    retrain: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is evaluated.

    Parameters
    ----------
    first, last : datetime64[D]
        Local days that are forecast, both included.
    issue : str
        Local clock time: 00:00 is the start of the day itself, any other is on the day before.
    retrain : str
        A key of `RETRAIN`; `shipped` trains nothing and evaluates the model that comes with the service.
    known : str
        `end`: an interval is known at its end. `published`: when the file says it was published.
    """

    first: np.datetime64
    last: np.datetime64
    issue: str = "12:00"
    retrain: str = "weekly"
    known: str = "end"

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise SettingInvalid(f"--to: got {self.last}, allowed {self.first} or later")
        if self.retrain not in RETRAIN:
            raise SettingInvalid(f"--retrain: got {self.retrain!r}, allowed {', '.join(RETRAIN)}")
        parse_clock(self.issue)

    @property
    def dates(self) -> Times:
        """Every day of the span."""
        return np.arange(self.first, self.last + 1)

    def periods(self) -> Iterator[Times]:
        """Yield the days forecast by one training."""
        dates = self.dates
        length = RETRAIN[self.retrain] or len(dates)
        for start in range(0, len(dates), length):
            yield dates[start : start + length]


@dataclass(frozen=True, slots=True)
class Day:
    """One forecast of one series, that for a day: what it said, what the seasonal naive said, what was measured.

    Parameters
    ----------
    targets : ndarray of datetime64[ms], shape (n,)
    measured : ndarray of shape (n,)
        NaN where the file has none.
    quantiles, naive : ndarray of shape (n, n_levels)
        Empty where the forecast was refused.
    figures : mapping of str to ndarray of shape (n_levels,)
        Quantiles of figures of the whole day.
    fallback, refused : str or None
        Why the naive stood in, or why there is no forecast.
    """

    key: str
    date: np.datetime64
    targets: Times
    measured: NDArray[np.float64]
    quantiles: NDArray[np.float64]
    naive: NDArray[np.float64]
    figures: Mapping[str, NDArray[np.float64]]
    filled: int
    fallback: str | None
    refused: str | None
    levels: tuple[float, ...] = LEVELS

    @property
    def median(self) -> NDArray[np.float64]:
        """The point forecast, shape (n,)."""
        result: NDArray[np.float64] = self.quantiles[:, self.levels.index(0.5)]
        return result

    @property
    def naive_median(self) -> NDArray[np.float64]:
        """The seasonal naive itself, shape (n,)."""
        result: NDArray[np.float64] = self.naive[:, self.levels.index(0.5)]
        return result

    def to_json(self) -> dict[str, Any]:
        """Return the line that is kept of it."""
        return {
            "key": self.key,
            "date": str(self.date),
            "targets": self.targets.astype(np.int64).tolist(),
            "measured": _numbers(self.measured),
            "quantiles": [_numbers(row) for row in self.quantiles],
            "naive": [_numbers(row) for row in self.naive],
            "figures": {name: _numbers(figure) for name, figure in self.figures.items()},
            "filled": self.filled,
            "fallback": self.fallback,
            "refused": self.refused,
        }

    @staticmethod
    def from_json(line: Mapping[str, Any], levels: tuple[float, ...] = LEVELS) -> Day:
        """Read a kept line of a forecaster with these levels; ValueError if its quantiles are at others."""
        return Day(
            line["key"],
            np.datetime64(line["date"], "D"),
            np.array(line["targets"], dtype="datetime64[ms]"),
            np.array(line["measured"], dtype=np.float64),
            np.array(line["quantiles"], dtype=np.float64).reshape(-1, len(levels)),
            np.array(line["naive"], dtype=np.float64).reshape(-1, len(levels)),
            {name: np.array(figure, dtype=np.float64) for name, figure in line["figures"].items()},
            line["filled"],
            line["fallback"],
            line["refused"],
            levels,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """A finished evaluation."""

    plan: Plan
    days: tuple[Day, ...]
    scores: Mapping[str, Any]
    levels: tuple[float, ...] = LEVELS


def run_backtest(
    forecaster: Forecaster,
    fit: Fit,
    series: Sequence[SeriesFile],
    plan: Plan,
    *,
    folder: Path,
    fingerprint: str,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> Result:
    """Evaluate.

    Parameters
    ----------
    fit : callable
        (pasts of all series, issue clock, progress of its own) to a fitted model.
    series : sequence of SeriesFile
    folder : Path
        Where days that are done are kept.
    fingerprint : str
        Of data and code: days of another one are not taken over.
    progress : callable
        (days done, days in all, what is going on).

    Raises
    ------
    SettingInvalid
        The span has no day in the data, or nothing to train on lies before it.
    """
    clock = parse_clock(plan.issue)
    histories = [_history(one, plan) for one in series]
    _check_span(histories, plan)
    total = len(plan.dates) * len(histories)
    began = monotonic()
    with closing(_Kept(folder, fingerprint, plan, forecaster.levels)) as kept:
        for dates in plan.periods():
            left = [(h, d) for d in dates for h in histories if not kept.has(h.key, d)]
            if not left:
                progress(len(kept), total, "kept from before")
                continue
            fitted = _train(fit, histories, dates[0], clock, lambda what: progress(len(kept), total, what))
            for history, date in left:
                kept.add(_forecast_day(forecaster, fitted, history, date, clock))
                progress(len(kept), total, f"{date}")
    days = kept.days()
    scores = score_days(days, forecaster)
    about = {
        "service": forecaster.name,
        "from": str(plan.first),
        "to": str(plan.last),
        "issue": plan.issue,
        "retrain": plan.retrain,
        "known": plan.known,
        "unit": forecaster.request.field(forecaster.target).unit,
        "series": [h.key for h in histories],
        "seconds": round(monotonic() - began, 1),
        "version": __version__,
    }
    return Result(plan, days, {**about, **scores}, forecaster.levels)


def _history(one: SeriesFile, plan: Plan) -> History:
    history = History(one.key, one.time_zone, one.step)
    if plan.known == "published":
        history.add(one.starts, one.values, one.known, one.covariates)
    else:  # only the newest revision counts; it stands last
        history.add(one.starts, np.where(_is_last(one.starts), one.values, np.nan), None, one.covariates)
    return history


def _is_last(starts: Times) -> NDArray[np.bool_]:
    """Whether no later row has the same start."""
    last = np.zeros(len(starts), np.bool_)
    _, first_from_behind = np.unique(starts[::-1], return_index=True)
    last[len(starts) - 1 - first_from_behind] = True
    return last


def _check_span(histories: Sequence[History], plan: Plan) -> None:
    for history in histories:
        if history.clock is None or history.first is None:
            raise SettingInvalid(f"--data: got no value of {history.key}, allowed a file with measurements")
        first, last = local_date(np.array([history.first, history.clock]), history.time_zone)
        if plan.first > last or plan.last <= first:
            got, allowed = f"{plan.first} to {plan.last}", f"days of {history.key} after {first} and up to {last}"
            raise SettingInvalid(f"--from, --to: got {got}, allowed {allowed}")


def _train(
    fit: Fit,
    histories: Sequence[History],
    date: np.datetime64,
    clock: np.timedelta64,
    say: Callable[[str], None],
) -> Any:
    """Fit to what was known when the forecast for `date` was issued; None if there is nothing to fit to."""
    pasts = []
    for history in histories:
        past = history.until(issue_time(date, clock, history.time_zone))
        if len(past):
            pasts.append(fill_inside(past))
    if not pasts:
        return None
    say(f"training for {date}")
    try:
        return fit(pasts, clock, say)
    except (HistoryInsufficient, SettingInvalid) as error:
        log.warning("nothing to train on; the seasonal naive stands in", extra={"date": str(date), "error": str(error)})
        return None


def _forecast_day(
    forecaster: Forecaster, fitted: Any, history: History, date: np.datetime64, clock: np.timedelta64
) -> Day:
    moment = issue_time(date, clock, history.time_zone)
    targets = forecaster.window.targets(date, moment, history.time_zone, history.step)
    truth = history.measured(targets)
    measured = np.array([truth.get(t, np.nan) for t in targets])
    past = history.until(moment)
    try:
        issued = forecaster.issue(fitted, past, targets)
    except HistoryInsufficient as error:
        nothing = np.empty((0, len(forecaster.levels)))
        return Day(history.key, date, targets, measured, nothing, nothing, {}, 0, None, str(error), forecaster.levels)
    naive = naive_fan(issued.past, targets, forecaster.levels).quantiles
    return Day(
        history.key,
        date,
        targets,
        measured,
        issued.fan.quantiles,
        naive,
        issued.fan.day,
        issued.filled,
        issued.fallback,
        None,
        forecaster.levels,
    )


class _Kept:
    """Days that are done, one JSON line each."""

    def __init__(self, folder: Path, fingerprint: str, plan: Plan, levels: tuple[float, ...]) -> None:
        self._levels = levels
        text = f"{fingerprint} {plan.issue} {plan.retrain} {plan.known} {plan.first}"
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"days-{hashlib.sha256(text.encode()).hexdigest()[:12]}.ndjson"
        self._dates = {str(d) for d in plan.dates}
        self._days: dict[tuple[str, str], Day] = {}
        self._read()
        cut = self._path.exists() and not self._path.read_bytes().endswith(b"\n")
        self._file = self._path.open("a")
        if cut:
            self._file.write("\n")  # the line that was being written when the run was stopped stays one by itself

    def _read(self) -> None:
        if not self._path.exists():
            return
        for line in self._path.read_text().splitlines():
            try:
                day = Day.from_json(json.loads(line), self._levels)
            except (ValueError, KeyError):
                continue  # the line that was being written when the run was stopped, or one at other levels
            if str(day.date) in self._dates:
                self._days[day.key, str(day.date)] = day

    def __len__(self) -> int:
        return len(self._days)

    def has(self, key: str, date: np.datetime64) -> bool:
        return (key, str(date)) in self._days

    def add(self, day: Day) -> None:
        line = day.to_json()
        self._days[day.key, str(day.date)] = Day.from_json(line, self._levels)  # a resumed run scores the same digits
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def days(self) -> tuple[Day, ...]:
        return tuple(self._days[name] for name in sorted(self._days))


def score_days(days: Sequence[Day], forecaster: Forecaster) -> dict[str, Any]:
    """Return scores of all days together, by month and by series.

    `mape` and `smape` are in percent, coverage from 0 to 1, all others in the unit of the series; `coverage_90` and
    `width_90` are of a 90 % interval, and are named after what the outer levels hold. `rmae` and `rcrps` are MAE and
    CRPS over those of the seasonal naive on the same intervals; of several series, the mean of each series' own.
    """
    answered = [day for day in days if day.refused is None]
    if not any(np.isfinite(day.measured).any() for day in answered):
        raise SettingInvalid("--from, --to: got no day with both a forecast and a measurement")
    keys = list(dict.fromkeys(day.key for day in days))
    levels = forecaster.levels
    by_series = {key: _scores([day for day in answered if day.key == key], levels) for key in keys}
    months = sorted({str(day.date)[:7] for day in answered})
    scores = _scores(answered, levels)
    if len(keys) > 1:
        for ratio in ("rmae", "rcrps"):
            known = [s[ratio] for s in by_series.values() if s.get(ratio) is not None]
            scores[ratio] = float(np.mean(known)) if known else None
    return {
        **scores,
        "days": len(answered),
        "refused_days": len(days) - len(answered),
        "fallback_days": sum(day.fallback is not None for day in answered),
        "months": {month: _scores([day for day in answered if str(day.date)[:7] == month], levels) for month in months},
        "by_series": by_series if len(keys) > 1 else {},
        "day_figures": _figure_scores(answered, levels),
    }


def _scores(days: Sequence[Day], levels: tuple[float, ...]) -> dict[str, Any]:
    if not days:
        return {"n": 0}
    measured = np.concatenate([day.measured for day in days])
    known = np.isfinite(measured)
    measured = measured[known]
    quantiles = np.concatenate([day.quantiles for day in days])[known]
    naive = np.concatenate([day.naive for day in days])[known]
    if not len(measured):
        return {"n": 0}
    median, percent = levels.index(0.5), interval_percent(levels)
    point, lower, upper = quantiles[:, median], quantiles[:, 0], quantiles[:, -1]
    has_naive = np.isfinite(naive).all(axis=1)
    ratios: dict[str, float | None] = {"rmae": None, "rcrps": None}
    if has_naive.any():
        m, q, s = measured[has_naive], quantiles[has_naive], naive[has_naive]
        ratios["rmae"] = _ratio(mae(m, q[:, median]), mae(m, s[:, median]))
        ratios["rcrps"] = _ratio(crps(m, q, levels), crps(m, s, levels))
        ratios["naive_mae"] = mae(m, s[:, median])
        ratios["naive_mape"] = _finite(mape(m, s[:, median]))
    return {
        "n": len(measured),
        "mae": mae(measured, point),
        "rmse": rmse(measured, point),
        "bias": float(np.mean(point - measured)),
        "mape": _finite(mape(measured, point)),
        "smape": smape(measured, point),
        **ratios,
        "pinball": pinball(measured, quantiles, levels),
        "crps": crps(measured, quantiles, levels),
        f"coverage_{percent}": coverage(measured, lower, upper),
        f"width_{percent}": mean_width(lower, upper),
    }


FIGURES: Mapping[str, Callable[[NDArray[np.float64]], float]] = {
    "daily_consumption": lambda values: float(np.sum(values)),
    "daily_peak": lambda values: float(np.max(values)),
}


def _figure_scores(days: Sequence[Day], levels: tuple[float, ...]) -> dict[str, Any]:
    """Scores of figures of the whole day, on days that are known completely, against those of the naive day."""
    found: dict[str, Any] = {}
    median = levels.index(0.5)
    for name in dict.fromkeys(name for day in days for name in day.figures):
        figure = FIGURES[name]
        own = [d for d in days if name in d.figures and np.isfinite(d.measured).all() and np.isfinite(d.naive).all()]
        if not own:
            continue
        measured = np.array([figure(day.measured) for day in own])
        quantiles = np.array([day.figures[name] for day in own])
        naive = np.array([figure(day.naive_median) for day in own])
        ratios = []
        for key in dict.fromkeys(day.key for day in own):
            rows = np.array([day.key == key for day in own])
            ratios.append(_ratio(mae(measured[rows], quantiles[rows, median]), mae(measured[rows], naive[rows])))
        known = [ratio for ratio in ratios if ratio is not None]
        found[name] = {
            "n": len(own),
            "mae": mae(measured, quantiles[:, median]),
            "mape": _finite(mape(measured, quantiles[:, median])),
            "rmae": float(np.mean(known)) if known else None,
            "crps": crps(measured, quantiles, levels),
            f"coverage_{interval_percent(levels)}": coverage(measured, quantiles[:, 0], quantiles[:, -1]),
        }
    return found


def _ratio(own: float, naive: float) -> float | None:
    return own / naive if naive > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in values.tolist()]
