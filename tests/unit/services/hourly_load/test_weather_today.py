"""The rest of a day that has begun, of a series with weather: sharpened by the newest hours."""

from __future__ import annotations

import numpy as np
import pytest

from kappawatt.forecasting.calendar import HOUR, day_intervals, issue_time
from kappawatt.forecasting.history import History
from kappawatt.services.hourly_load.horizon_fit import fit_any_lead
from kappawatt.services.hourly_load.inference import Fitted
from tests.unit.services.hourly_load.series import ZONE
from tests.unit.services.hourly_load.test_weather import DATES, FIT_UNTIL, LOAD, NEVER, NOON, START, history


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    past = history("2013-12-01").until(issue_time(np.datetime64(FIT_UNTIL), NOON, ZONE))
    return fit_any_lead([past], far_leads=(24, 36, 48))


def error(fitted: Fitted, known: History, hour: int) -> float:
    """Mean absolute percentage error of the hours from 15:00 on, issued at an hour of the same day."""
    found = []
    for date in DATES[::2]:
        targets = day_intervals(date, ZONE, 3600)
        fan = fitted.forecast(known.until(targets[0] + hour * HOUR), targets[15:])
        assert not fan.warnings or known is not TOLD
        measured = LOAD[((targets[15:] - START) / HOUR).astype(int)]
        found.append(np.abs(fan.median / measured - 1).mean())
    return 100 * float(np.mean(found))


TOLD = history("2013-12-01")


def test_the_rest_of_a_day_is_sharpened_and_no_worse_than_without_weather(fitted: Fitted) -> None:
    at_start, at_15 = (error(fitted, TOLD, hour) for hour in (0, 15))

    without = error(fitted, history(NEVER), 15)

    assert at_15 < 0.9 * at_start
    assert at_15 < 1.05 * without  # whichever model was closer lately answers
