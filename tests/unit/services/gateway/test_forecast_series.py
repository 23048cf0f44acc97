"""One series of a live view: how long its intervals are, and how much of it is kept."""

from __future__ import annotations

import numpy as np
import pytest

from kappawatt.services.gateway.live.forecast_series import Series
from kappawatt.streams.load import STREAM as LOAD
from kappawatt.streams.meter import STREAM as METER
from kappawatt.streams.stream import Stream

FIRST = int(np.datetime64("2016-07-01T04:00", "s").astype(np.int64))


def measured(step: int, n: int, *, says: bool, stream: Stream = LOAD) -> Series:
    series = Series(stream, "a")
    for i in range(n):
        series.add_measured(np.array([FIRST + i * step]), np.ones(1, np.float32), step if says else 0, None)
    return series


@pytest.mark.parametrize("step", LOAD.steps)
@pytest.mark.parametrize("says", [True, False])
def test_before_any_forecast_readings_say_or_show_the_length(step: int, says: bool) -> None:
    series = measured(step, 5, says=says)

    assert series.step_seconds == step
    assert series.measured_until() == f"{np.datetime64(FIRST + 5 * step, 's')}Z"


def test_one_reading_that_says_nothing_is_of_the_usual_length() -> None:
    assert measured(900, 1, says=False).step_seconds == 3600
    assert measured(900, 1, says=False, stream=METER).step_seconds == 900


@pytest.mark.parametrize(("step", "kept"), [(3600, 2_000), (900, 2_000), (300, 5_760)])
def test_errors_of_ten_days_are_kept_however_short_intervals_are(step: int, kept: int) -> None:
    series = measured(step, 3, says=True)
    for i in range(7_000):
        series.add_error((FIRST, FIRST + i * step, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0, False))

    assert kept * 7 / 8 <= len(series.errors) <= kept
    assert series.errors["target_time"][-1] == FIRST + 6_999 * step
