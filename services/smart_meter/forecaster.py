"""The forecaster of smart meters: what it is asked, how it is loaded, how far it looks back."""

from __future__ import annotations

from kappawatt.forecasting.calendar import DAY, Times
from kappawatt.forecasting.fan import Fan
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import Past
from kappawatt.models.artifact import Artifact
from kappawatt.models.onnx import OnnxModel
from kappawatt.streams import meter

from .features import DEPTH, FEATURE_NAMES
from .inference import Fitted, unpack
from .lstm import LSTM_FILE, Tutorial


def load(artifact: Artifact) -> Fitted | Tutorial:
    """Return the default model, or the tutorial's LSTM in the artifact of the baseline."""
    if LSTM_FILE in artifact.manifest.files:
        return Tutorial(OnnxModel(artifact.read(LSTM_FILE)))
    return unpack({name: artifact.read(name) for name in artifact.manifest.files})


def forecast(fitted: Fitted | Tutorial, past: Past, targets: Times) -> Fan:
    """Return quantiles of each interval's energy [kWh]; of the default also those of the day's total and peak."""
    return fitted.forecast(past, targets)


FORECASTER = Forecaster(
    name="smart-meter",
    request=meter.READING,
    response=meter.FORECAST,
    key=meter.METER_ID.name,
    target=meter.CONSUMPTION.name,
    covariates=(),
    steps=meter.STREAM.steps,
    time_zone=meter.STREAM.time_zone,
    issue_times=("00:00",),
    depth=(DEPTH + 2) * DAY,
    least=7 * DAY,
    feature_names=FEATURE_NAMES,
    load=load,
    forecast=forecast,
    sees_unknown_end=True,
    suspect_rules=meter.STREAM.suspect_rules,
    adds_up="mean",  # of a home's skewed fans medians do not: docs/forecasts.md, Groups
    additive_figures=("daily_consumption",),
)
