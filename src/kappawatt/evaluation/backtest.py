"""Rolling-origin evaluation of a forecaster: train on what lies before, forecast day after day, score, resume.

For each day of the span the forecast is what the service would have answered at the issue time: the same
`History.until`, the same gap policy, the same fallback. Training sees what was known when the first day of its period
was issued. Every day is written to a file as it is done, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt import __version__
from kappawatt.datasets.series import FORECAST, SeriesFile
from kappawatt.errors import HistoryInsufficient, SettingInvalid
from kappawatt.evaluation.days import Day, score_days
from kappawatt.evaluation.sums import score_sum
from kappawatt.forecasting.calendar import Times, issue_time, local_date, parse_clock
from kappawatt.forecasting.fan import LEVELS, naive_fan
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.gaps import fill_inside
from kappawatt.forecasting.group import SumHistory
from kappawatt.forecasting.history import History, Past
from kappawatt.forecasting.suspects import SuspectRules, without_suspects

__all__ = [
    "RETRAIN",
    "SHIPPED",
    "WEATHER",
    "Fit",
    "Kept",
    "Plan",
    "Result",
    "Rolling",
    "check_span",
    "forecast_day",
    "history_of_file",
    "run_backtest",
    "said_of_run",
    "train_for",
]

log = logging.getLogger(__name__)

Fit = Callable[[Sequence[Past], np.timedelta64, Callable[[str], None]], Any]

SHIPPED = "shipped"
RETRAIN = {  # days
    **{"daily": 1, "weekly": 7, "fortnightly": 14, "monthly": 28, "quarterly": 91},
    **{"never": None, SHIPPED: None},
}
WEATHER = ("none", "forecast", "perfect")
FORECAST_BY = np.timedelta64(12, "h")  # local clock of the day before, at which such forecasts were there


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
    fit_any_lead : callable, optional
        As `fit`, to a model that forecasts at any hour and up to seven days ahead.
    """

    forecaster: Forecaster
    fit: Fit
    retrain: str
    fit_any_lead: Fit | None = None


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
    weather : str
        One of `WEATHER`. `none` leaves it out. `forecast` knows measured weather at the end of each interval, and its
        forecast from noon of the day before on. `perfect` knows measured weather always.
    """

    first: np.datetime64
    last: np.datetime64
    issue: str = "12:00"
    retrain: str = "weekly"
    known: str = "end"
    weather: str = "none"

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise SettingInvalid(f"--to: got {self.last}, allowed {self.first} or later")
        if self.weather not in WEATHER:
            raise SettingInvalid(f"--weather: got {self.weather!r}, allowed {', '.join(WEATHER)}")
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
    sum_name: str = "",
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
    sum_name : str
        Name of the series' sum, which is then one series more: trained on, forecast and kept as they are.
    progress : callable
        (days done, days in all, what is going on).

    Raises
    ------
    SettingInvalid
        The span has no day in the data, or nothing to train on lies before it.
    """
    clock = parse_clock(plan.issue)
    histories = [history_of_file(one, plan) for one in series]
    if sum_name:
        fingerprint += f" {sum_name}"
        histories.append(SumHistory(sum_name, histories.copy(), forecaster))
    check_span(histories, plan)
    total = len(plan.dates) * len(histories)
    began = monotonic()
    with closing(Kept(folder, fingerprint, plan, forecaster.levels)) as kept:
        for dates in plan.periods():
            left = [(h, d) for d in dates for h in histories if not kept.has(h.key, d)]
            if not left:
                progress(len(kept), total, "kept from before")
                continue
            say = partial(progress, len(kept), total)
            fitted = train_for(fit, histories, dates[0], clock, forecaster.suspect_rules, say)
            for history, date in left:
                kept.add(forecast_day(forecaster, fitted, history, date, issue_time(date, clock, history.time_zone)))
                progress(len(kept), total, f"{date}")
    days = kept.days()
    own = tuple(day for day in days if day.key != sum_name)
    about = said_of_run(forecaster, plan, histories[: len(series)], monotonic() - began)
    scores = {**about, **score_days(own, forecaster)}
    if sum_name:
        scores["sum"] = score_sum(days, sum_name, forecaster)
    return Result(plan, own, scores, forecaster.levels)


def said_of_run(forecaster: Forecaster, plan: Plan, histories: Sequence[History], seconds: float) -> dict[str, Any]:
    """Return what scores say of the run they are from."""
    return {
        "service": forecaster.name,
        "from": str(plan.first),
        "to": str(plan.last),
        "issue": plan.issue,
        "retrain": plan.retrain,
        "known": plan.known,
        "weather": plan.weather,
        "unit": forecaster.request.field(forecaster.target).unit,
        "series": [h.key for h in histories],
        "seconds": round(seconds, 1),
        "version": __version__,
    }


def history_of_file(one: SeriesFile, plan: Plan) -> History:
    """Return a file's series with what was known when, as the plan has it."""
    history = History(one.key, one.time_zone, one.step, holidays=one.holidays)
    if plan.known == "published":
        history.add(one.starts, one.values, one.known)
    else:  # only the newest revision counts; it stands last
        history.add(one.starts, np.where(_is_last(one.starts), one.values, np.nan))
    if plan.weather == "none":
        return history
    measured = one.measured_covariates
    nothing = np.full(len(one), np.nan)
    if plan.weather == "perfect":
        history.add(one.starts, nothing, None, measured)
        return history
    forecast = {name: one.covariates[name + FORECAST] for name in measured if name + FORECAST in one.covariates}
    if not any(np.isfinite(column).any() for column in forecast.values()):
        got = f"{one.key} without a column such as temperature{FORECAST}"
        raise SettingInvalid(f"--weather: got forecast, and {got}, allowed perfect or none")
    days, at = np.unique(local_date(one.starts, one.time_zone), return_inverse=True)
    issued = np.array([issue_time(day, FORECAST_BY, one.time_zone) for day in days], "datetime64[ms]")
    history.add(one.starts, nothing, issued[at], forecast)
    history.add(one.starts, nothing, one.starts + np.timedelta64(one.step * 1000, "ms"), measured)
    return history


def _is_last(starts: Times) -> NDArray[np.bool_]:
    """Whether no later row has the same start."""
    last = np.zeros(len(starts), np.bool_)
    _, first_from_behind = np.unique(starts[::-1], return_index=True)
    last[len(starts) - 1 - first_from_behind] = True
    return last


def check_span(histories: Sequence[History], plan: Plan) -> None:
    """Raise SettingInvalid if the span has no day in the data."""
    for history in histories:
        if history.clock is None or history.first is None:
            raise SettingInvalid(f"--data: got no value of {history.key}, allowed a file with measurements")
        first, last = local_date(np.array([history.first, history.clock]), history.time_zone)
        if plan.first > last or plan.last <= first:
            got, allowed = f"{plan.first} to {plan.last}", f"days of {history.key} after {first} and up to {last}"
            raise SettingInvalid(f"--from, --to: got {got}, allowed {allowed}")


def train_for(
    fit: Fit,
    histories: Sequence[History],
    date: np.datetime64,
    clock: np.timedelta64,
    suspect_rules: SuspectRules,
    say: Callable[[str], None],
) -> Any:
    """Fit to what was known when the forecast for `date` was issued; None if there is nothing to fit to."""
    pasts = []
    for history in histories:
        past = history.until(issue_time(date, clock, history.time_zone))
        if len(past):
            pasts.append(fill_inside(without_suspects(past, suspect_rules)))
    if not pasts:
        return None
    say(f"training for {date}")
    try:
        return fit(pasts, clock, say)
    except (HistoryInsufficient, SettingInvalid) as error:
        log.warning("nothing to train on; the seasonal naive stands in", extra={"date": str(date), "error": str(error)})
        return None


def forecast_day(
    forecaster: Forecaster, fitted: Any, history: History, date: np.datetime64, moment: np.datetime64
) -> Day:
    """Return the forecast for a local day as the service would have answered at an issue time."""
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
    without_weather = np.empty((0, len(forecaster.levels)))
    if past.covariates and issued.fallback is None:
        without_weather = forecaster.issue(fitted, replace(past, covariates={}, ahead={}), targets).fan.quantiles
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
        without_weather,
    )


class Kept:
    """Days that are done, one JSON line each, in a file named after all they depend on."""

    def __init__(self, folder: Path, fingerprint: str, plan: Plan, levels: tuple[float, ...]) -> None:
        self._levels = levels
        text = f"{fingerprint} {plan.issue} {plan.retrain} {plan.known} {plan.first} {plan.weather}"
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
        """Return whether a series' day is done."""
        return (key, str(date)) in self._days

    def add(self, day: Day) -> None:
        """Note a day that is done."""
        line = day.to_json()
        self._days[day.key, str(day.date)] = Day.from_json(line, self._levels)  # a resumed run scores the same digits
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def days(self) -> tuple[Day, ...]:
        """Return all days that are done, by series and date."""
        return tuple(self._days[name] for name in sorted(self._days))
