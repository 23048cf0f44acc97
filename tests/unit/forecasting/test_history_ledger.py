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

from kappawatt.forecasting.calendar import HOUR, Instant, Times, as_instant
from kappawatt.forecasting.history import AHEAD_INTERVALS, History
from tests.forecast_fakes import ZONE

START = as_instant("2016-01-01")
MILLISECOND = np.timedelta64(1, "ms")
MINUTE = 60_000 * MILLISECOND

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
            if min(self.values) <= place <= max(self.values) + AHEAD_INTERVALS:  # all that is kept beside values
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


def instants(places: Sequence[int | None], start: Instant = START) -> Times:
    return np.array([np.datetime64("NaT") if p is None else start + p * HOUR for p in places], "datetime64[ms]")


def by_hour(times: Times, values: NDArray[np.float64], start: Instant = START) -> dict[int, float]:
    """What is no NaN, by hours after the start."""
    pairs = zip(((times - start) // HOUR).tolist(), values.tolist(), strict=True)
    return {place: value for place, value in pairs if not math.isnan(value)}


def row(place: int, value: float, delay: int | None, temperature: float) -> Row:
    return place, value, None if delay is None else place + 1 + delay, temperature


figure = st.sampled_from([math.nan, 1.0, 2.0, 3.0])  # few, so that the same is said again
delay = st.sampled_from([None, -20, -1, 0, 0, 1, 2, 10, 40])  # hours after the interval's end
rows = st.lists(st.builds(row, st.integers(0, 12), figure, delay, figure), min_size=1, max_size=10)
hour = st.integers(0, 14) | st.integers(-2, 56)
moment = st.tuples(hour, st.sampled_from([-1, 0, 1]))  # an hour, and a millisecond before or after it


def instant(when: tuple[int, int], start: Instant) -> Instant:
    return start + when[0] * HOUR + when[1] * MILLISECOND


def hours_of(when: tuple[int, int]) -> float:
    return when[0] + when[1] / 3_600_000


@settings(max_examples=200, deadline=None)
@given(
    minutes=st.sampled_from([0, 15, 30]),  # where an hour begins, by UTC: Kathmandu's is a quarter past
    messages=st.lists(rows, min_size=1, max_size=6),
    reads=st.lists(st.tuples(moment, st.none() | moment), min_size=4, max_size=8),
)
def test_a_read_shows_exactly_the_intervals_that_ended_by_the_issue_time_as_they_were_known_when_available(
    minutes: int, messages: list[list[Row]], reads: list[tuple[tuple[int, int], tuple[int, int] | None]]
) -> None:
    start = START + minutes * MINUTE
    ledger, history = Ledger(), History("PJME", ZONE, 3600)

    for message in messages:
        places, values, known, temperatures = zip(*message, strict=True)
        news = ledger.message(message)
        changed = history.add(
            instants(places, start),
            np.array(values),
            instants(known, start),
            {"temperature": np.array(temperatures)},
        )
        assert changed.tolist() == instants(news, start).tolist()
        if ledger.values:
            assert history.first == start + min(ledger.values) * HOUR
            assert history.clock == history.known_until() == start + (max(ledger.values) + 1) * HOUR

    for issue, available in reads:
        at = hours_of(issue if available is None else available)
        past = history.until(instant(issue, start), None if available is None else instant(available, start))
        expected = as_of(ledger.values, at, hours_of(issue))
        assert by_hour(past.times, past.values, start) == expected
        assert past.issue_time == instant(issue, start)
        assert bool(len(past)) == bool(expected)
        if expected:
            assert past.start == start + min(expected) * HOUR
            assert past.end == start + (max(expected) + 1) * HOUR
            ahead = instants(range(-1, 16), start)
            assert by_hour(ahead, past.covariate("temperature", ahead), start) == {
                place: value
                for place, value in as_of(ledger.temperatures, at, math.inf).items()
                if place >= min(expected)
            }


MOST = 30  # hours a bounded history keeps
jump = st.sampled_from([0, 0, 1, 5, 24, 40, 1400, 1600, 5000])  # hours that nothing comes


@settings(max_examples=200, deadline=None)
@given(
    messages=st.lists(st.tuples(jump, rows), min_size=1, max_size=8),
    available=st.integers(-10, 60),
    at_once=st.booleans(),
)
def test_of_a_bounded_history_the_newest_hours_are_what_all_of_it_would_show(
    messages: list[tuple[int, list[Row]]], available: int, at_once: bool
) -> None:
    ledger, history = Ledger(), History("PJME", ZONE, 3600, most=MOST)
    now, sent = 0, []
    for hours_, message in messages:
        now += hours_
        sent.append([(p + now, v, None if k is None else k + now, t) for p, v, k, t in message])
    if at_once:
        sent = [[row for message in sent for row in message]]

    for message in sent:
        places, values, known, temperatures = zip(*message, strict=True)
        ledger.message(message)
        history.add(instants(places), np.array(values), instants(known), {"temperature": np.array(temperatures)})

    end = max(ledger.values, default=-1) + 1
    past = history.until(START + (end + 100) * HOUR, START + (end + available) * HOUR)
    expected = {p: v for p, v in as_of(ledger.values, end + available, end).items() if p >= end - MOST}
    assert by_hour(past.times, past.values) == expected
    if expected:
        near = instants(range(min(expected), end + 20))
        assert by_hour(near, past.covariate("temperature", near)) == {
            place: value
            for place, value in as_of(ledger.temperatures, end + available, math.inf).items()
            if min(expected) <= place < end + 20
        }


@settings(max_examples=100, deadline=None)
@given(
    message=rows,
    issue=hour,
    later=st.integers(0, 40),
    minutes=st.integers(0, 59),
)
def test_a_correction_sees_no_interval_that_its_forecast_could_not_see(
    message: list[Row], issue: int, later: int, minutes: int
) -> None:
    history = History("PJME", ZONE, 3600)
    places, values, known, _ = zip(*message, strict=True)
    history.add(instants(places), np.array(values), instants(known))
    issue_time = START + issue * HOUR + minutes * MINUTE

    forecast = history.until(issue_time)
    correction = history.until(issue_time, issue_time + later * HOUR)

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


@pytest.mark.parametrize("minutes", [0, 15])
@pytest.mark.parametrize(("milliseconds", "known"), [(-1, [1.0]), (0, [1.0, 2.0]), (1, [1.0, 2.0])])
def test_a_value_is_known_from_its_intervals_end_to_the_millisecond(
    minutes: int, milliseconds: int, known: list[float]
) -> None:
    start = START + minutes * MINUTE
    history = History("PJME", ZONE, 3600)
    history.add(instants([0, 1], start), np.array([1.0, 2.0]))
    moment = start + 2 * HOUR + milliseconds * MILLISECOND

    assert history.until(moment).values.tolist() == known
    assert history.until(start + 9 * HOUR, moment).values.tolist() == known
    assert history.until(moment, start + 9 * HOUR).values.tolist() == known
