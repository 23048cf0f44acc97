"""The forecaster of load: what it is asked, how it is loaded, how far it looks back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kappawatt.forecasting.calendar import DAY, HOUR, Instant, Times, day_intervals, local_date
from kappawatt.forecasting.fan import Fan, Warned
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import Past
from kappawatt.forecasting.window import LocalDays
from kappawatt.models.artifact import Artifact
from kappawatt.streams import load as events

from .day_kinds import knows_holidays
from .features import FEATURE_NAMES
from .inference import CLASSIC_FILES, HISTORY, Classic, Fitted, unpack, unpack_classic
from .wall_clock import STEP
from .within_hour import forecast_within

NO_HOLIDAYS = Warned("no_holidays", "no holidays known: the time zone names no country that they are known of")
TIME_ZONE = events.STREAM.time_zone


def load(artifact: Artifact) -> Fitted | Classic:
    """Return the default model, or the calendar baseline of an artifact that holds nothing else."""
    files = {name: artifact.read(name) for name in artifact.manifest.files}
    return unpack_classic(files) if files.keys() <= set(CLASSIC_FILES) else unpack(files)


def forecast(fitted: Fitted | Classic, past: Past, targets: Times) -> Fan:
    """Return quantiles of the load [MW] of each interval.

    Where the newest values are missing, it is the forecast that was due when the last one came: the model knows how far
    off it is at that lead, and no value that was made up passes for news.
    """
    asked_at, past = past.issue_time, replace(past, issue_time=min(past.issue_time, past.end))
    fan = fitted.forecast(past, targets) if past.step == STEP else _within(fitted, past, targets, asked_at)
    return fan if knows_holidays(past.time_zone, past.holidays) else replace(fan, warnings=(*fan.warnings, NO_HOLIDAYS))


def _within(fitted: Fitted | Classic, past: Past, targets: Times, issue_time: Instant) -> Fan:
    """Quantiles of intervals that are parts of hours, local day by local day.

    The course inside an hour depends on the hours around it. It is that of all that is left of a day at the issue time,
    whatever of it is asked, so that the same interval has the same number in each answer.
    """
    dates = local_date(targets, past.time_zone)
    quantiles = []
    warnings: dict[str, Warned] = {}
    for date in np.unique(dates):
        own = targets[dates == date]
        day = day_intervals(date, past.time_zone, past.step)
        left = day[day >= min(issue_time, own[0])]
        fan = forecast_within(fitted.forecast, past, left)
        quantiles.append(fan.quantiles[np.searchsorted(left, own)])
        warnings |= {warning.code: warning for warning in fan.warnings if warning.code not in warnings}
    return Fan(np.concatenate(quantiles), warnings=tuple(warnings.values()))


FORECASTER = Forecaster(
    name="hourly-load",
    request=events.READING,
    response=events.FORECAST,
    key=events.LOAD_ZONE.name,
    target=events.LOAD.name,
    covariates=(events.TEMPERATURE.name,),
    families=tuple(family.like.name for family in events.WEATHER),
    steps=events.STREAM.steps,
    usual_step=events.STREAM.usual_step,
    time_zone=TIME_ZONE,
    issue_times=("12:00", "00:00"),
    window=LocalDays(longest_lead=7 * DAY, within_day=True),
    depth=HISTORY * HOUR,
    least=14 * DAY,
    feature_names=FEATURE_NAMES,
    load=load,
    forecast=forecast,
    sees_unknown_end=True,
    suspect_rules=events.STREAM.suspect_rules,
)
