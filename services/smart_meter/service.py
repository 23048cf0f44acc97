"""Wiring of the smart meter service."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kappawatt.bus.topic import METER_ERRORS, METER_FORECASTS, METER_READINGS
from kappawatt.forecasting.history import Past
from kappawatt.serving.service import Service, Stream

from .forecaster import FORECASTER
from .inference import Fitted
from .model import fit
from .train import shipped, train


def fit_from_shipped(pasts: Sequence[Past], clock: np.timedelta64, progress: Callable[[str], None]) -> Fitted:
    """Train from the shipped model on, unless it knows days of these meters that lie ahead: what the backtest calls."""
    return fit(pasts, start=shipped(), progress=progress)


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
