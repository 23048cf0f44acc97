"""Wiring of the hourly load service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kappawatt.bus.topic import LOAD_ERRORS, LOAD_FORECASTS, LOAD_READINGS
from kappawatt.columns.batch import Columns
from kappawatt.columns.schema import Schema
from kappawatt.errors import ArtifactInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, Times
from kappawatt.forecasting.fan import Fan
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import Past
from kappawatt.models.artifact import Artifact
from kappawatt.models.predictor import Predictor
from kappawatt.serving.doors.classic import ClassicRows
from kappawatt.serving.service import Service, Stream
from kappawatt.streams import load as events

from .calendar_rows import CALENDAR_ROW
from .features import CALENDAR_NAMES, FEATURE_NAMES, calendar_features
from .inference import CLASSIC_FILES, HISTORY, Classic, Fitted, unpack, unpack_classic
from .model import fit, lead_of
from .train import train

TIME_ZONE = "America/New_York"


def load(artifact: Artifact) -> Fitted | Classic:
    """Return the default model, or the calendar baseline of an artifact that holds nothing else."""
    files = {name: artifact.read(name) for name in artifact.manifest.files}
    return unpack_classic(files) if files.keys() <= set(CLASSIC_FILES) else unpack(files)


def load_classic(artifact: Artifact) -> Classic:
    """Return the calendar baseline in an artifact; ArtifactInvalid if there is none."""
    if not artifact.manifest.files.keys() >= set(CLASSIC_FILES):
        raise ArtifactInvalid(f"{artifact.path.name}: got no {', '.join(CLASSIC_FILES)}")
    return unpack_classic({name: artifact.read(name) for name in CLASSIC_FILES})


def forecast(fitted: Fitted | Classic, past: Past, targets: Times) -> Fan:
    """Return quantiles of the load [MW] of each hour."""
    return fitted.forecast(past, targets)


def fit_for_clock(pasts: Sequence[Past], clock: np.timedelta64, progress: Callable[[str], None]) -> Fitted:
    """Train for one issue clock: what the rolling backtest calls."""
    return fit(pasts, (lead_of(clock),), progress)


def answer_classic(classic: Classic, columns: Columns) -> dict[str, Any]:
    """Return load [MW] for rows of calendar features."""
    matrix = np.column_stack([columns[name] for name in CALENDAR_NAMES]).astype(np.float32)
    return {events.LOAD.name: classic.predict(matrix)}


def classic_columns(labels: Times) -> Columns:
    """Return calendar features of local labels of hours' ends."""
    matrix = calendar_features(labels).astype(np.float64)
    return {name: matrix[:, i] for i, name in enumerate(CALENDAR_NAMES)}


FORECASTER = Forecaster(
    name="hourly-load",
    request=events.READING,
    response=events.FORECAST,
    key=events.LOAD_ZONE.name,
    target=events.LOAD.name,
    covariates=(events.TEMPERATURE.name,),
    steps=(3600,),
    time_zone=TIME_ZONE,
    issue_times=("12:00", "00:00"),
    depth=HISTORY * HOUR,
    least=14 * DAY,
    feature_names=FEATURE_NAMES,
    load=load,
    forecast=forecast,
)

SERVICE = Service(
    name="hourly-load",
    summary="Load of a zone for the whole next day, hour by hour, in quantiles.",
    port=8083,
    predictor=FORECASTER,
    stream=Stream(source=LOAD_READINGS, output=LOAD_FORECASTS, errors=LOAD_ERRORS),
    train=train,
    fit=fit_for_clock,
    retrain="monthly",
    classic=ClassicRows(
        Predictor(
            name="hourly-load",
            request=CALENDAR_ROW,
            response=Schema("Load", "Load expected from the calendar alone.", (events.LOAD,)),
            target=events.LOAD.name,
            feature_names=CALENDAR_NAMES,
            load=load_classic,
            predict=answer_classic,
        ),
        classic_columns,
        TIME_ZONE,
    ),
)
