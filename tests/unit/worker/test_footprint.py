"""What a series is said to take in memory is what it takes."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from kappawatt.forecasting.calendar import DAY
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import AHEAD_INTERVALS, History
from kappawatt.serving.service import find_service
from kappawatt.worker.footprint import series_bytes
from kappawatt.worker.histories import CORRECTABLE

FIRST = np.datetime64("2015-01-01", "ms")


def forecaster_of(service: str) -> Forecaster:
    forecaster = find_service(service).modelled().predictor
    assert isinstance(forecaster, Forecaster)
    return forecaster


def lived(forecaster: Forecaster, number: int, step: int) -> History:
    """A history that has forgotten its first days, as any has after a while."""
    interval = np.timedelta64(step, "s")
    most = int((forecaster.depth + CORRECTABLE) / interval)
    history = History(f"series-{number}", forecaster.time_zone, step, most=most)
    day = int(DAY / interval)
    for begin in (0, *range(most, most + AHEAD_INTERVALS + 2 * day, day)):
        numbers = np.arange(begin, begin + (most if begin == 0 else day))
        values = np.random.default_rng(number).uniform(size=len(numbers))
        given = dict.fromkeys(forecaster.covariates, values)
        starts = FIRST + numbers * interval
        history.add(starts, values, starts + interval, given)
    return history


@pytest.mark.parametrize(("service", "step"), [("smart-meter", 900), ("smart-meter", 1800), ("hourly-load", 3600)])
def test_a_history_takes_what_is_said_and_hardly_less(service: str, step: int) -> None:
    forecaster = forecaster_of(service)
    forecaster = replace(forecaster, depth=min(forecaster.depth, 100 * DAY))  # so that this takes no minute
    lived(forecaster_of("smart-meter"), 0, 1800)  # whatever is made once for all
    tracemalloc.start()

    kept = [lived(forecaster, number, step) for number in range(2)]
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    said = series_bytes(forecaster, step, in_worker=False)
    assert 0.7 * said < used / len(kept) <= said


def test_a_worker_keeps_the_fans_of_two_days_more() -> None:
    forecaster = forecaster_of("smart-meter")

    more = series_bytes(forecaster, 900, in_worker=True) - series_bytes(forecaster, 900, in_worker=False)

    assert 2 * 96 * 19 * 8 < more < 1.6 * 2 * 96 * 19 * 8
