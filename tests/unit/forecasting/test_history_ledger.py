"""History held against its definition: whatever is written and whenever it became known, a read shows what it may."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import HOUR, Times, as_instant
from kappawatt.forecasting.history import History
from tests.forecast_fakes import ZONE

START = as_instant("2016-01-01")

Row = tuple[int, float, int | None, float]  # hour of the interval's start, value, hour it became known, temperature
Versions = list[tuple[float, float]]  # (hour known from, value), oldest first


@dataclass
class Ledger:
    """A list of all that was said of each hour and when; no array, no bound, no shortcut."""

    values: dict[int, Versions] = field(default_factory=dict)
    temperatures: dict[int, Versions] = field(default_factory=dict)

    def message(self, rows: Sequence[Row]) -> list[int]:
        """Note the rows of one message; return the hours whose value is news."""
        news = {p for p, v, k, _ in rows if note(self.values, p, v, p + 1 if k is None else max(k, p + 1))}
        for place, _, known, temperature in rows if self.values else ():
            if place >= min(self.values):  # nothing is kept of what was before the first value
                note(self.temperatures, place, temperature, -math.inf if known is None else known)
        return sorted(news)


def note(kept: dict[int, Versions], place: int, value: float, known: float) -> bool:
    if math.isnan(value):
        return False
    versions = kept.setdefault(place, [])
    if versions and versions[-1][1] == value and versions[-1][0] <= known:
        return False  # the newest said once more is no news
    versions.append((known, value))
    versions.sort(key=lambda version: version[0])
    return True


def as_of(kept: dict[int, Versions], at: float, end: float) -> dict[int, float]:
    """The last of what was known at `at` of each interval that ended by `end`."""
    found = {}
    for place, versions in sorted(kept.items()):
        known = [value for known, value in versions if known <= at]
        if known and place + 1 <= end:
            found[place] = known[-1]
    return found


def instants(places: Sequence[int | None]) -> Times:
    return np.array([np.datetime64("NaT") if p is None else START + p * HOUR for p in places], "datetime64[ms]")


def by_hour(times: Times, values: NDArray[np.float64]) -> dict[int, float]:
    """What is no NaN, by hours after START."""
    pairs = zip(((times - START) // HOUR).tolist(), values.tolist(), strict=True)
    return {place: value for place, value in pairs if not math.isnan(value)}


figure = st.sampled_from([math.nan, 1.0, 2.0, 3.0])  # few, so that the same is said again
row = st.tuples(st.integers(0, 30), figure, st.none() | st.integers(-5, 60), figure)
moment = st.integers(-2, 64)


@settings(max_examples=300, deadline=None)
@given(
    messages=st.lists(st.lists(row, min_size=1, max_size=12), min_size=1, max_size=8),
    reads=st.lists(st.tuples(moment, st.none() | moment), min_size=1, max_size=8),
)
def test_a_read_shows_exactly_the_intervals_that_ended_by_the_issue_time_as_they_were_known_when_available(
    messages: list[list[Row]], reads: list[tuple[int, int | None]]
) -> None:
    ledger, history = Ledger(), History("PJME", ZONE, 3600)

    for rows in messages:
        places, values, known, temperatures = zip(*rows, strict=True)
        news = ledger.message(rows)
        changed = history.add(
            instants(places), np.array(values), instants(known), {"temperature": np.array(temperatures)}
        )
        assert changed.tolist() == instants(news).tolist()

    for issue, available in reads:
        at = issue if available is None else available
        past = history.until(START + issue * HOUR, None if available is None else START + available * HOUR)
        expected = as_of(ledger.values, at, issue)
        assert by_hour(past.times, past.values) == expected
        assert past.issue_time == START + issue * HOUR
        if expected:
            assert past.start == START + min(expected) * HOUR
            assert past.end == START + (max(expected) + 1) * HOUR
            ahead = instants(range(-1, 64))
            assert by_hour(ahead, past.covariate("temperature", ahead)) == {
                place: value
                for place, value in as_of(ledger.temperatures, at, math.inf).items()
                if place >= min(expected)
            }


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(row, min_size=1, max_size=30),
    issue=moment,
    delay=st.integers(0, 40),
    minutes=st.integers(0, 59),
)
def test_a_correction_sees_no_interval_that_its_forecast_could_not_see(
    rows: list[Row], issue: int, delay: int, minutes: int
) -> None:
    history = History("PJME", ZONE, 3600)
    places, values, known, _ = zip(*rows, strict=True)
    history.add(instants(places), np.array(values), instants(known))
    issue_time = START + issue * HOUR + np.timedelta64(minutes, "m")

    forecast = history.until(issue_time)
    correction = history.until(issue_time, issue_time + delay * HOUR)

    for past in (forecast, correction):
        assert len(past) == 0 or past.end <= issue_time
    assert by_hour(forecast.times, forecast.values).keys() <= by_hour(correction.times, correction.values).keys()


@pytest.mark.parametrize("late", [0, 1, 30], ids=["at once", "an hour late", "after the issue time"])
def test_a_value_of_the_interval_that_is_running_at_the_issue_time_is_in_no_correction(late: int) -> None:
    history = History("PJME", ZONE, 3600)
    history.add(instants([0, 1, 2]), np.array([1.0, 2.0, 3.0]))
    history.add(instants([3]), np.array([4.0]), instants([4 + late]))

    correction = history.until(START + 3 * HOUR, START + 100 * HOUR)

    assert correction.values.tolist() == [1.0, 2.0, 3.0]
    assert history.until(START + 4 * HOUR, START + 100 * HOUR).values.tolist() == [1.0, 2.0, 3.0, 4.0]
