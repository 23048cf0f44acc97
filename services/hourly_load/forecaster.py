"""The forecaster of load: what it is asked, how it is loaded, how far it looks back."""

from __future__ import annotations

from dataclasses import replace

from kappawatt.forecasting.calendar import DAY, HOUR, Times
from kappawatt.forecasting.fan import Fan, Warned
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import Past
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
    past = replace(past, issue_time=min(past.issue_time, past.end))
    by_step = fitted.forecast(past, targets) if past.step == STEP else forecast_within(fitted.forecast, past, targets)
    return by_step if knows_holidays(past.time_zone) else replace(by_step, warnings=(*by_step.warnings, NO_HOLIDAYS))


FORECASTER = Forecaster(
    name="hourly-load",
    request=events.READING,
    response=events.FORECAST,
    key=events.LOAD_ZONE.name,
    target=events.LOAD.name,
    covariates=(events.TEMPERATURE.name,),
    steps=events.STREAM.steps,
    usual_step=events.STREAM.usual_step,
    time_zone=TIME_ZONE,
    issue_times=("12:00", "00:00"),
    depth=HISTORY * HOUR,
    least=14 * DAY,
    feature_names=FEATURE_NAMES,
    load=load,
    forecast=forecast,
    sees_unknown_end=True,
    suspect_rules=events.STREAM.suspect_rules,
)
