"""The streams of forecasts that the gateway follows: one row each, and all else is the same for them."""

from __future__ import annotations

from dataclasses import dataclass

from kappawatt.bus.topic import (
    LOAD_ERRORS,
    LOAD_FORECASTS,
    LOAD_READINGS,
    METER_ERRORS,
    METER_FORECASTS,
    METER_READINGS,
    Topic,
    dead_letter,
)
from kappawatt.columns.schema import Field, Schema
from kappawatt.streams import load, meter

__all__ = ["FORECAST_STREAMS", "ForecastStream"]


@dataclass(frozen=True, slots=True)
class ForecastStream:
    """One stream: its topics, what it forecasts, and how much of it is kept.

    Parameters
    ----------
    service : str
        Whose workers write it.
    forecasts, errors, readings : Topic
    key, target : Field
        What names a series, and what is measured and forecast.
    schema : Schema
        Of a reading.
    step : int
        Length of an interval [s] of series that have no forecast yet and do not show it.
    percent : bool
        Whether percentage errors mean something: not where the quantity is often next to zero.
    day_figures : tuple of (str, str)
        Figures of the day, and which of `sum` and `max` of the intervals they are.
    most_keys, kept_fans, kept_errors : int
        Series; forecasts and intervals with an error of each.
    """

    service: str
    forecasts: Topic
    errors: Topic
    readings: Topic
    key: Field
    target: Field
    schema: Schema
    step: int
    percent: bool
    day_figures: tuple[tuple[str, str], ...]
    most_keys: int
    kept_fans: int
    kept_errors: int

    @property
    def dead(self) -> str:
        """Topic of refused readings."""
        return dead_letter(self.readings).name


FORECAST_STREAMS = (
    ForecastStream(
        "hourly-load",
        LOAD_FORECASTS,
        LOAD_ERRORS,
        LOAD_READINGS,
        load.LOAD_ZONE,
        load.LOAD,
        load.READING,
        3600,
        percent=True,
        day_figures=(),
        most_keys=500,
        kept_fans=20,  # ten days, noon and midnight
        kept_errors=2_000,
    ),
    ForecastStream(
        "smart-meter",
        METER_FORECASTS,
        METER_ERRORS,
        METER_READINGS,
        meter.METER_ID,
        meter.CONSUMPTION,
        meter.READING,
        900,
        percent=False,
        day_figures=(("daily_consumption", "sum"), ("daily_peak", "max")),
        most_keys=2_000,
        kept_fans=10,
        kept_errors=1_000,
    ),
)
