"""Which way a model answers its topic."""

from __future__ import annotations

import math
from collections.abc import Callable

from kappawatt.bus.interface import Bus
from kappawatt.forecasting.model import ForecastModel
from kappawatt.models.predictor import Model
from kappawatt.serving.service import Stream
from kappawatt.worker.forecasting import Forecasting
from kappawatt.worker.interface import Answers
from kappawatt.worker.predicting import Answering

__all__ = ["answers_of"]


def answers_of(
    model: Model | ForecastModel,
    bus: Bus,
    stream: Stream,
    output: str,
    block_rows: int,
    alive: Callable[[], None] = lambda: None,
    slice_seconds: float = math.inf,
) -> Answers:
    """Return what turns polls of the stream's source into messages on the topic `output`.

    Parameters
    ----------
    alive : callable
        Told now and then while an answer takes long: histories that are read again from the log.
    slice_seconds : float
        See `Forecasting`.
    """
    if isinstance(model, Model):
        return Answering(model, output, stream.dead.name, block_rows)
    assert stream.errors is not None
    return Forecasting(
        bus,
        model,
        output=output,
        errors=stream.errors.name,
        dead=stream.dead.name,
        alive=alive,
        slice_seconds=slice_seconds,
    )
