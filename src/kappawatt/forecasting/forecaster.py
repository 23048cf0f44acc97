"""Forecaster: a predictor of the future. It sees the past of a series, and only through `History.until`.

Rows of a request or message with a value are history, rows without one are what is to be forecast. A request
brings its history, or names a series whose history the service has from the bus. What it gets is the forecast of the
target window, by default the whole local day after the history ends, as known at the issue time.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.schema import Family, Schema, shorten
from kappawatt.errors import HistoryInsufficient, SettingInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, Instant, Times
from kappawatt.forecasting.fan import LEVELS, Fan, Warned, checked_levels, level_name, naive_fan
from kappawatt.forecasting.gaps import LATELY, MOST_FILLED, fill_gaps, fill_inside, missing_lately, name_spans
from kappawatt.forecasting.history import History, Past, Suspect
from kappawatt.forecasting.reconciliation import POINTS
from kappawatt.forecasting.registers import never_falls
from kappawatt.forecasting.suspects import SPIKY, SuspectRules, without_suspects
from kappawatt.forecasting.window import LocalDays, Window
from kappawatt.models.artifact import Artifact

__all__ = ["EVER", "LEAD_TIME", "UNNAMED", "Forecaster", "Issued", "Lookup"]

log = logging.getLogger(__name__)

EVER = np.datetime64("9999-12-31", "ms")  # as of now: whatever came late counts
NEXT_DAY = LocalDays()
MOST_SAID = 4  # spans a message names
LEAD_TIME = "lead_time_hours"  # field of answers and documents
UNNAMED = "unnamed"  # a series brought without a name

Lookup = Callable[[str], History | None]


@dataclass(frozen=True, slots=True)
class Issued:
    """One forecast of one series: the intervals of a target window.

    Parameters
    ----------
    past : Past
        What it was made from, gaps filled.
    targets : ndarray of datetime64[ms], shape (n,)
        Starts of the intervals, UTC.
    fan : Fan
    fallback : str or None
        Why it is the seasonal naive and not the model's; None if it is the model's.
    trusted_until : datetime64[ms]
        End of the newest measurement that is not suspect, UTC.
    warnings : tuple of Warned
        What whoever relies on the forecast should know.
    """

    past: Past
    targets: Times
    fan: Fan
    fallback: str | None
    trusted_until: Instant
    warnings: tuple[Warned, ...] = ()

    @property
    def filled(self) -> int:
        """Intervals of the history that were filled."""
        return self.past.filled

    @property
    def lead_time(self) -> NDArray[np.float64]:
        """Hours from the newest trusted value to the end of each interval: 1 of the next hour. Shape (n,)."""
        result: NDArray[np.float64] = (self.targets + self.past.interval - self.trusted_until) / HOUR
        return result

    @property
    def suspect(self) -> int:
        """Measurements of the last five weeks that were taken for missing."""
        return sum(suspect.count for suspect in self.past.suspects)

    @property
    def suspects(self) -> Counter[str]:
        """The same, by why."""
        found: Counter[str] = Counter()
        for suspect in self.past.suspects:
            found[suspect.why] += suspect.count
        return found


@dataclass(frozen=True, slots=True)
class Forecaster:
    """How a service forecasts: schemas and functions, no state.

    Parameters
    ----------
    name : str
        As users write it, `hourly-load`.
    request, response : Schema
        Of one interval; `kappawatt.streams.series.forecast_schema` makes the response.
    key : str
        Request field that names the series.
    target : str
        Request field that holds the measurement, and response field of the point forecast.
    covariates : tuple of str
        Optional request fields that may be known ahead; so may those of a family of the request that has the name of
        one of them (`temperature`: `temperature_1` too). Memory of a series is reckoned with these.
    steps : tuple of int
        Interval lengths it can forecast [s].
    usual_step : int or None
        The one that is supposed where a series neither says nor shows its own; the only one if there is one. None: it
        has to be said or shown.
    time_zone : str
        IANA name of the zone of series that do not say theirs.
    issue_times : tuple of str
        Local clock times at which a worker issues forecasts for the next window.
    depth, least : timedelta64
        History it looks back on; and below how much the seasonal naive answers instead.
    feature_names : tuple of str
    load : callable
        Artifact to fitted model.
    forecast : callable
        (fitted, Past, starts of the target intervals) to Fan; pure.
    sees_unknown_end : bool
        Whether the model knows what to do with a past that ends before the issue time; if not, the gap policy
        fills what is between.
    levels : tuple of float
        Quantile levels of its fans, rising, with 0.5 among them.
    window : Window
        What one forecast covers: the next whole local day if nothing else is said.
    suspect_rules : SuspectRules
        Which measurements it finds suspect; runs of days of one value other than zero if nothing else is said.
    adds_up : str
        What of its fans adds up over the members of a group, `median` or `mean`, if a request does not say. Medians
        of skewed fans are not those of their sum.
    families : tuple of str
        Names of further families of the request whose members may be known ahead.
    additive_figures : tuple of str
        Figures of its fans that add up over series, as a day's total does and its peak does not.
    """

    name: str
    request: Schema
    response: Schema
    key: str
    target: str
    covariates: tuple[str, ...]
    steps: tuple[int, ...]
    time_zone: str
    issue_times: tuple[str, ...]
    depth: np.timedelta64
    least: np.timedelta64
    feature_names: tuple[str, ...]
    load: Callable[[Artifact], Any]
    forecast: Callable[[Any, Past, Times], Fan]
    sees_unknown_end: bool = False
    levels: tuple[float, ...] = LEVELS
    window: Window = NEXT_DAY
    usual_step: int | None = None
    suspect_rules: SuspectRules = SPIKY
    adds_up: str = "median"
    additive_figures: tuple[str, ...] = ()
    families: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.adds_up not in POINTS:
            raise SettingInvalid.of(f"adds_up of {self.name}", repr(self.adds_up), " or ".join(POINTS))
        names = {self.target, *map(level_name, checked_levels(self.levels))}
        if not names <= set(self.response.names):
            missing = ", ".join(sorted(names - set(self.response.names)))
            raise SettingInvalid(f"response of {self.name}: allowed a field for the target and each level: {missing}")
        if self.usual_step not in (None, *self.steps):
            raise SettingInvalid.of(f"usual_step of {self.name}", self.usual_step, f"one of {self.steps}")

    @property
    def supposed_step(self) -> int | None:
        """Length of an interval [s] of a series that neither says nor shows its own; None if it has to."""
        return self.steps[0] if len(self.steps) == 1 else self.usual_step

    @property
    def covariate_families(self) -> tuple[Family, ...]:
        """Families of the request whose members may be known ahead."""
        return tuple(f for f in self.request.families if f.like.name in (*self.covariates, *self.families))

    def covariates_in(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of some names that are covariates of this forecaster, in order."""
        there = set(names)
        of_families = [
            name
            for family in self.covariate_families
            for name in there
            if name not in self.covariates and family.field(name) is not None
        ]
        return (*(name for name in self.covariates if name in there), *sorted(of_families))

    def issue(self, fitted: Any, past: Past, targets: Times) -> Issued:
        """Forecast the intervals of one window from what was known: suspect values, gap policy, model, fallback.

        Parameters
        ----------
        fitted : object
            What `load` or training returned; None where there was nothing to train on.

        Raises
        ------
        HistoryInsufficient
            Too much of the last week is missing, the values are a register's, or not even the seasonal naive has
            what it needs; the message names the hours.
        """
        own = int(self.depth / past.interval)
        judged = without_suspects(past.last(max(own, int(LATELY / past.interval))), self.suspect_rules)
        if judged.suspects:
            log.warning("suspect, taken for missing", extra={"series": past.key, "spans": _said(judged.suspects)})
        missing = missing_lately(judged)
        most = LATELY - past.interval if self.sees_unknown_end else MOST_FILLED
        if len(missing) * past.interval > most:
            hours = len(missing) * past.interval / HOUR
            spans = name_spans(missing, past.step)
            if judged.suspects:
                spans += f"; suspect: {_said(judged.suspects)}"
            raise HistoryInsufficient.of(
                self.target,
                f"{hours:g} hours missing in the last 7 days before {iso(past.issue_time)} ({spans})",
                f"{most / HOUR:g} at most",
            )
        if self.request.field(self.target).minimum == 0 and never_falls(past.values, int(DAY / past.interval)):
            raise HistoryInsufficient.of(
                self.target,
                f"a last day that never falls, up to {np.nanmax(past.values):g}, as a register's readings do",
                "what each interval added: the difference of two readings",
            )
        fill = fill_inside if self.sees_unknown_end else fill_gaps
        known = fill(judged.last(own))
        reason = "no model: nothing lies before to train on" if fitted is None else self._why_not(known)
        if reason is None:
            try:
                fan = self.forecast(fitted, known, targets)
                reason = _fault(fan, len(targets), self.levels)
            except MemoryError:  # says nothing about the model, and another try may do
                raise
            except Exception as error:
                log.error("model failed, the seasonal naive stands in", exc_info=error, extra={"series": past.key})
                reason = f"the model failed: {shorten(str(error))}"
        if reason is not None:
            fan = naive_fan(known, targets, self.levels)
            unknown = targets[np.isnan(fan.median)]
            if len(unknown):
                raise HistoryInsufficient(
                    f"{self.target}: {reason}, and the seasonal naive needs the same hours of one of the four weeks "
                    f"before {name_spans(unknown, past.step)}"
                )
        return Issued(known, targets, fan, reason, judged.end, (*_warnings(judged), *fan.warnings))

    def _why_not(self, past: Past) -> str | None:
        have = len(past) * past.interval
        if have >= self.least:
            return None
        return f"history: got {have / DAY:.1f} days, the model needs {self.least / DAY:.0f}"


def _fault(fan: Fan, n: int, levels: tuple[float, ...]) -> str | None:
    if fan.quantiles.shape != (n, len(levels)):
        return f"the model gave quantiles of shape {fan.quantiles.shape}"
    if fan.levels != levels or any(figure.shape != (len(levels),) for figure in fan.day.values()):
        return "the model gave quantiles at other levels than it says"
    if not np.isfinite(fan.quantiles).all() or not all(np.isfinite(f).all() for f in fan.day.values()):
        return "the model gave a value that is no number"
    return None


def _warnings(judged: Past) -> Iterator[Warned]:
    """What to say of values that are not trusted, or not there."""
    if judged.suspects:
        count = sum(suspect.count for suspect in judged.suspects)
        values = "value" if count == 1 else "values"
        yield Warned("suspect", f"{count:,} suspect {values}, taken for missing: {_said(judged.suspects)}")
    missing = judged.issue_time - judged.end
    if missing >= judged.interval:
        detail = f"no value of the last {missing / HOUR:g} h is known and trusted: forecast from {iso(judged.end)}"
        yield Warned("late", detail)


def _said(suspects: tuple[Suspect, ...]) -> str:
    """Return for a person what is suspect, the newest first: `stuck 2024-05-11T22:00:00Z, 72 in a row`."""
    newest = [f"{suspect.why} {iso(suspect.start)}, {suspect.count} in a row" for suspect in suspects[::-1]]
    more = len(newest) - MOST_SAID
    return "; ".join(newest[:MOST_SAID]) + (f"; and {more} more" if more > 0 else "")


def iso(moment: np.datetime64) -> str:
    """Return an instant as people read it: UTC, to the second."""
    return f"{np.datetime_as_string(moment, unit='s')}Z"
