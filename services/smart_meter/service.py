"""Wiring of the smart meter service."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kappawatt.bus.topic import METER_ERRORS, METER_FORECASTS, METER_READINGS
from kappawatt.forecasting.calendar import DAY, Times
from kappawatt.forecasting.fan import Fan
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import Past
from kappawatt.models.artifact import Artifact
from kappawatt.models.onnx import OnnxModel
from kappawatt.serving.service import Service, Stream
from kappawatt.streams import meter

from .features import DEPTH, FEATURE_NAMES
from .inference import Fitted, unpack
from .lstm import LSTM_FILE, Tutorial
from .model import fit
from .train import shipped, train


def load(artifact: Artifact) -> Fitted | Tutorial:
    """Return the default model, or the tutorial's LSTM in the artifact of the baseline."""
    if LSTM_FILE in artifact.manifest.files:
        return Tutorial(OnnxModel(artifact.read(LSTM_FILE)))
    return unpack({name: artifact.read(name) for name in artifact.manifest.files})


def forecast(fitted: Fitted | Tutorial, past: Past, targets: Times) -> Fan:
    """Return quantiles of each interval's energy [kWh]; of the default also those of the day's total and peak."""
    return fitted.forecast(past, targets)


def fit_from_shipped(pasts: Sequence[Past], clock: np.timedelta64, progress: Callable[[str], None]) -> Fitted:
    """Train from the shipped model on, unless it knows days of these meters that lie ahead: what the backtest calls."""
    return fit(pasts, start=shipped(), progress=progress)


FORECASTER = Forecaster(
    name="smart-meter",
    request=meter.READING,
    response=meter.FORECAST,
    key=meter.METER_ID.name,
    target=meter.CONSUMPTION.name,
    covariates=(),
    steps=(900, 1800),
    time_zone="America/Chicago",
    issue_times=("00:00",),
    depth=(DEPTH + 2) * DAY,
    least=7 * DAY,
    feature_names=FEATURE_NAMES,
    load=load,
    forecast=forecast,
    sees_unknown_end=True,
)

SERVICE = Service(
    name="smart-meter",
    summary="A smart meter's next day, interval by interval, its total and its peak, in quantiles.",
    port=8084,
    predictor=FORECASTER,
    stream=Stream(source=METER_READINGS, output=METER_FORECASTS, errors=METER_ERRORS),
    train=train,
    fit=fit_from_shipped,
    retrain="weekly",
)
