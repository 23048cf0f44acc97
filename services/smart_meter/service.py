"""Wiring of the smart meter service."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kappawatt.forecasting.history import Past
from kappawatt.serving.kinds import forecasts
from kappawatt.streams.meter import STREAM

from .forecaster import FORECASTER
from .inference import Fitted
from .model import fit
from .train import shipped, train


def fit_from_shipped(pasts: Sequence[Past], clock: np.timedelta64, progress: Callable[[str], None]) -> Fitted:
    """Train from the shipped model on, unless it knows days of these meters that lie ahead: what the backtest calls."""
    return fit(pasts, start=shipped(), progress=progress)


SERVICE = forecasts(
    FORECASTER,
    summary="A smart meter's next day, interval by interval, its total and its peak, in quantiles.",
    port=8084,
    stream=STREAM,
    train=train,
    fit=fit_from_shipped,
    retrain="weekly",
)
