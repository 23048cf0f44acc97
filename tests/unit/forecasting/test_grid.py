"""What rows of a series say and show of how long their intervals are, and where they begin by the local clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.grid import (
    length_of,
    listed,
    off_clock,
    said_length,
    shown_length,
    shown_most,
    spaced_otherwise,
    usual_or_fitting,
)

LOAD = (300, 900, 1800, 3600)
METER = (900, 1800, 3600)
FIRST = np.datetime64("2016-07-01T04:00", "ms")


def every(seconds: int, n: int, first: np.datetime64 = FIRST) -> Any:
    return first + np.arange(n) * np.timedelta64(seconds * 1000, "ms")


def at(*minutes: float) -> Any:
    return FIRST + (np.array(minutes) * 60_000).astype("timedelta64[ms]")


@pytest.mark.parametrize("step", LOAD)
@pytest.mark.parametrize("n", [2, 5, 300])
def test_rows_show_the_length_they_are_apart(step: int, n: int) -> None:
    assert shown_length(every(step, n), LOAD) == step
    assert shown_length(every(step, n)[::-1], LOAD) == step


@given(st.sampled_from(LOAD), st.integers(20, 200), st.randoms(use_true_random=False))
def test_gaps_twins_and_order_hide_no_length(step: int, n: int, random: Any) -> None:
    starts = list(every(step, n))
    kept = [start for i, start in enumerate(starts) if i < 12 or random.random() > 0.2]
    kept += random.choices(kept, k=3)
    random.shuffle(kept)

    assert shown_length(np.array(kept), LOAD) == step


@pytest.mark.parametrize(("seconds", "steps"), [(600, LOAD), (60, LOAD), (1200, LOAD), (300, METER), (2700, METER)])
@pytest.mark.parametrize("n", [2, 50])
def test_rows_at_another_distance_are_refused_by_name_with_distance_and_lengths(
    seconds: int, steps: tuple[int, ...], n: int
) -> None:
    with pytest.raises(PayloadInvalid) as refused:
        shown_length(every(seconds, n), steps)

    assert refused.value.field == "interval_start"
    assert f"got rows {seconds} s apart, allowed {listed(steps)}" in str(refused.value)


@pytest.mark.parametrize("seconds", [7_200, 86_400])
def test_a_few_rows_far_apart_show_nothing_and_a_day_of_them_a_length_of_their_own(seconds: int) -> None:
    assert shown_length(every(seconds, 20), LOAD) is None
    with pytest.raises(PayloadInvalid, match=f"rows {seconds} s apart"):
        shown_length(every(seconds, 40), LOAD)


def test_a_row_where_no_interval_begins_is_left_to_itself_unless_half_of_them_are_so() -> None:
    assert shown_length(at(0, 1, 15), METER) == 900
    assert shown_length(at(0, 31, 0), METER) is None
    with pytest.raises(PayloadInvalid, match="rows 60 s apart"):
        shown_length(at(0, 1), METER)
    with pytest.raises(PayloadInvalid, match="rows 450 s apart"):
        shown_length(every(450, 5), METER)


def test_one_row_shows_nothing() -> None:
    assert shown_length(at(0), LOAD) is None
    assert shown_length(at(0, 0), LOAD) is None
    assert shown_most(at(0), LOAD) is None


@pytest.mark.parametrize("stray", [10, 15, 30, 45])
def test_a_row_beside_the_grid_changes_nothing_about_the_others(stray: int) -> None:
    starts = np.concatenate([every(3600, 24), at(5 * 60 + stray)])

    assert shown_length(starts, LOAD) == 3600
    assert spaced_otherwise(starts, 3600, LOAD) is None


@pytest.mark.parametrize(("first", "then"), [(3600, 900), (900, 3600), (3600, 300), (1800, 900)])
def test_a_series_that_changes_its_length_is_refused_whole(first: int, then: int) -> None:
    before = every(first, 40)
    starts = np.concatenate([before, every(then, 40, before[-1] + np.timedelta64(then, "s"))])

    with pytest.raises(PayloadInvalid, match="one length of interval for all rows of a series"):
        shown_length(starts, LOAD)


@pytest.mark.parametrize(("step", "other"), [(3600, 900), (3600, 600), (900, 3600), (900, 300)])
def test_what_is_said_is_held_against_what_is_shown(step: int, other: int) -> None:
    starts = every(other, 40)
    said = np.full(40, float(step))

    with pytest.raises(PayloadInvalid, match=f"got rows {other} s apart, allowed {step} s, as interval_seconds says"):
        length_of(starts, said, np.ones(40, np.bool_), LOAD)


def test_one_row_that_says_its_length_says_it_for_all() -> None:
    said = np.array([np.nan, 900.0, np.nan])

    assert length_of(at(0, 60, 120), said, np.ones(3, np.bool_), LOAD) == (900, True)
    assert length_of(at(0), None, np.ones(1, np.bool_), LOAD) == (None, False)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([900.0, 3600.0], "interval_seconds: got 900 and 3600, allowed one length for all rows"),
        ([600.0], "interval_seconds: got 600, allowed 300, 900, 1800 or 3600 s"),
    ],
)
def test_two_lengths_or_a_wrong_one_are_refused(said: list[float], message: str) -> None:
    with pytest.raises(PayloadInvalid, match=message):
        said_length(np.array(said), LOAD)


def test_weather_of_any_spacing_is_no_fault_and_shows_nothing_beside_measurements() -> None:
    starts = np.concatenate([every(900, 8), every(10_800, 40)])
    is_measured = np.arange(48) < 8

    assert length_of(starts, None, is_measured, LOAD) == (900, False)
    assert length_of(every(10_800, 40), None, np.zeros(40, np.bool_), LOAD) == (None, False)


@pytest.mark.parametrize(
    ("zone", "utc"),
    [("Asia/Kolkata", "18:30"), ("Asia/Kathmandu", "18:15"), ("America/St_Johns", "02:30"), ("Europe/Berlin", "22:00")],
)
def test_hours_begin_by_the_local_clock(zone: str, utc: str) -> None:
    start = np.array([f"2026-07-01T{utc}"], "datetime64[ms]")

    assert not off_clock(start, 3600, zone).any()
    for other in (5, 15, 30, 45):
        assert off_clock(start + np.timedelta64(other, "m"), 3600, zone).all()
    assert not off_clock(start, 3600, None).any()  # of a zone nobody has named
    assert off_clock(start + np.timedelta64(7, "m"), 3600, None).all()


def test_a_series_of_one_row_is_taken_for_the_usual_one_unless_that_cannot_begin_there() -> None:
    assert usual_or_fitting(at(0), LOAD, 3600, "UTC") == 3600
    assert usual_or_fitting(at(30), LOAD, 3600, "UTC") == 1800
    assert usual_or_fitting(at(45), LOAD, 3600, "UTC") == 900
    assert usual_or_fitting(at(5), LOAD, 3600, "UTC") == 300
    assert usual_or_fitting(at(0, 150), LOAD, 3600, "UTC") == 1800
    assert usual_or_fitting(at(0), METER, None, "UTC") == 900
