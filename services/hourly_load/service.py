"""Wiring of the hourly load service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kappawatt.columns.batch import Columns
from kappawatt.columns.schema import Schema
from kappawatt.errors import ArtifactInvalid
from kappawatt.forecasting.calendar import Times
from kappawatt.forecasting.history import Past
from kappawatt.models.artifact import Artifact
from kappawatt.models.predictor import Predictor
from kappawatt.serving.doors.classic import ClassicRows
from kappawatt.serving.kinds import forecasts
from kappawatt.streams import load as events

from .calendar_rows import CALENDAR_ROW
from .features import CALENDAR_NAMES, calendar_features
from .forecaster import FORECASTER, TIME_ZONE
from .horizon_fit import fit_any_lead
from .inference import CLASSIC_FILES, Classic, Fitted, unpack_classic
from .model import fit, lead_of
from .train import train


def load_classic(artifact: Artifact) -> Classic:
    """Return the calendar baseline in an artifact; ArtifactInvalid if there is none."""
    if not artifact.manifest.files.keys() >= set(CLASSIC_FILES):
        raise ArtifactInvalid(f"{artifact.path.name}: got no {', '.join(CLASSIC_FILES)}")
    return unpack_classic({name: artifact.read(name) for name in CLASSIC_FILES})


def fit_for_clock(pasts: Sequence[Past], clock: np.timedelta64, progress: Callable[[str], None]) -> Fitted:
    """Train for one issue clock: what the rolling backtest calls."""
    return fit(pasts, (lead_of(clock),), progress)


def fit_whole(pasts: Sequence[Past], clock: np.timedelta64, progress: Callable[[str], None]) -> Fitted:
    """Train for any hour of issue, whatever the clock, and up to seven days ahead: what the backtest by lead calls."""
    return fit_any_lead(pasts, progress)


def answer_classic(classic: Classic, columns: Columns) -> dict[str, Any]:
    """Return load [MW] for rows of calendar features."""
    matrix = np.column_stack([columns[name] for name in CALENDAR_NAMES]).astype(np.float32)
    return {events.LOAD.name: classic.predict(matrix)}


def classic_columns(labels: Times) -> Columns:
    """Return calendar features of local labels of hours' ends."""
    matrix = calendar_features(labels).astype(np.float64)
    return {name: matrix[:, i] for i, name in enumerate(CALENDAR_NAMES)}


SERVICE = forecasts(
    FORECASTER,
    summary="Load of a zone for the whole next day, at 5, 15, 30 or 60 minutes as it is metered, in quantiles.",
    port=8083,
    stream=events.STREAM,
    train=train,
    fit=fit_for_clock,
    fit_any_lead=fit_whole,
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
