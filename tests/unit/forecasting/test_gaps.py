"""The gap policy: three hours are interpolated, more is taken from other weeks, and what was filled is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kappawatt.forecasting.calendar import DAY, HOUR, as_instant
from kappawatt.forecasting.fan import LEVELS, MEDIAN, naive_fan
from kappawatt.forecasting.gaps import fill_gaps, fill_inside, missing_lately, name_spans
from kappawatt.forecasting.history import History, Past
from tests.forecast_fakes import ZONE, hours, loads

START = as_instant("2016-06-01")
END = START + 40 * DAY


def past_without(*missing: tuple[int, int], until: np.datetime64 = END) -> Past:
    """Forty days of hours but for the places [first, last)."""
    times = hours("2016-06-01", 40 * 24)
    keep = np.ones(len(times), np.bool_)
    for first, last in missing:
        keep[first:last] = False
    known = History("PJME", ZONE, 3600)
    known.add(times[keep], loads(times[keep]))
    return known.until(until)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_up_to_three_hours_are_a_straight_line(length: int) -> None:
    filled = fill_gaps(past_without((500, 500 + length)))

    line = np.interp(
        np.arange(499, 501 + length), [499, 500 + length], loads(hours("2016-06-01", 40 * 24))[[499, 500 + length]]
    )
    assert np.allclose(filled.values[499 : 501 + length], line)
    assert filled.filled == length


def test_a_longer_gap_takes_the_same_local_time_of_the_week_before() -> None:
    filled = fill_gaps(past_without((500, 510)))

    assert np.array_equal(filled.values[500:510], loads(hours("2016-06-01", 40 * 24))[500 - 168 : 510 - 168])
    assert filled.filled == 10


def test_a_gap_two_weeks_long_reaches_further_back() -> None:
    filled = fill_gaps(past_without((400, 400 + 14 * 24)))

    expected = loads(hours("2016-06-01", 40 * 24))[400 - 168 : 400]
    assert np.array_equal(filled.values[400 : 400 + 168], expected)
    assert np.array_equal(filled.values[400 + 168 : 400 + 336], expected)


def test_a_gap_at_the_beginning_takes_the_week_after() -> None:
    filled = fill_gaps(past_without((1, 20)))

    assert np.array_equal(filled.values[1:20], loads(hours("2016-06-01", 40 * 24))[169:188])


def test_hours_between_the_newest_value_and_the_issue_time_are_filled_and_counted() -> None:
    late = past_without((40 * 24 - 6, 40 * 24))

    filled = fill_gaps(late)

    assert len(late) == 40 * 24 - 6
    assert len(filled) == 40 * 24
    assert filled.filled == 6
    assert fill_inside(late).filled == 0  # training is not taught what was made up


def test_a_gap_of_four_hours_is_no_straight_line() -> None:
    filled = fill_gaps(past_without((500, 504)))

    assert np.array_equal(filled.values[500:504], loads(hours("2016-06-01", 40 * 24))[500 - 168 : 504 - 168])


def test_a_gap_after_the_first_hour_is_a_straight_line() -> None:
    filled = fill_gaps(past_without((1, 3)))

    ends = loads(hours("2016-06-01", 4))
    assert np.allclose(filled.values[:4], np.linspace(ends[0], ends[3], 4))


@pytest.mark.parametrize("length", [1, 2])
def test_the_newest_hours_go_on_from_the_one_before_as_they_did_a_week_ago(length: int) -> None:
    past = past_without((960 - length, 960))
    higher = replace(past, values=np.where(past.times >= past.end - 3 * DAY, 1.3 * past.values, past.values))

    filled = fill_gaps(higher)

    before = higher.values[-169:][: length + 1]
    assert len(filled) == 960
    assert np.allclose(filled.values[-length:], higher.values[-1] * before[1:] / before[0])
    assert filled.filled == length


def test_the_newest_hours_of_net_load_go_on_by_difference() -> None:
    past = past_without((958, 960))
    around_zero = replace(past, values=past.values - 28_000.0)
    assert np.nanmin(around_zero.values) < 0

    filled = fill_gaps(around_zero)

    before = around_zero.values[-169:][:3]
    assert np.allclose(filled.values[-2:], around_zero.values[-1] + before[1:] - before[0])


def test_four_newest_hours_take_the_week_before_and_so_do_hours_without_one_to_go_on_from() -> None:
    four = fill_gaps(past_without((956, 960)))
    three = fill_gaps(past_without((957, 960), (956 - 168, 958 - 168)))

    known = loads(hours("2016-06-01", 960))
    assert np.array_equal(four.values[-4:], known[-172:-168])
    assert np.allclose(three.values[-3:], known[956] * known[-339:-336] / known[-340])


def test_a_gap_that_the_past_begins_with_takes_the_week_after() -> None:
    past = past_without((478, 482)).last(480)  # a model's depth cuts where it likes
    assert np.isnan(past.values[:2]).all()

    filled = fill_gaps(past)

    assert np.array_equal(filled.values[:2], loads(hours("2016-06-01", 960))[[480 + 168, 481 + 168]])


@pytest.mark.parametrize("weeks", [1, 2, 3, 4])
def test_the_newest_week_that_has_the_hour_is_taken_up_to_four_back(weeks: int) -> None:
    begin = 38 * 24
    filled = fill_gaps(past_without(*((begin - 168 * w, begin - 168 * w + 10) for w in range(weeks))))

    known = loads(hours("2016-06-01", 960))
    assert np.array_equal(filled.values[begin : begin + 10], known[begin - 168 * weeks :][:10])


def test_what_no_week_of_four_has_stays_unknown() -> None:
    begin = 38 * 24
    filled = fill_gaps(past_without(*((begin - 168 * w, begin - 168 * w + 10) for w in range(5))))

    assert np.isnan(filled.values[begin : begin + 10]).all()


def test_what_was_filled_is_counted_for_thirty_five_days_and_no_hour_longer() -> None:
    oldest = 960 - 35 * 24

    assert fill_gaps(past_without((oldest, oldest + 1))).filled == 1
    assert fill_gaps(past_without((oldest - 1, oldest))).filled == 0


def test_of_a_series_without_a_value_nothing_is_made_up() -> None:
    nothing = History("PJME", ZONE, 3600).until(END)

    assert len(fill_gaps(nothing)) == 0


@pytest.mark.parametrize("ahead", [-3, 0, 24])
def test_covariates_reach_as_far_as_the_values_or_as_far_as_they_were_known(ahead: int) -> None:
    past = past_without((940, 960))
    column = np.arange(960.0 + ahead)

    filled = fill_gaps(replace(past, covariates={"temperature": column}))

    expected = np.concatenate([column, np.full(max(0, -ahead), np.nan)])
    assert np.array_equal(filled.covariates["temperature"], expected, equal_nan=True)


def test_what_is_known_is_never_touched() -> None:
    past = past_without((100, 130), (500, 502), (700, 900))

    filled = fill_gaps(past)

    known = ~np.isnan(past.values)
    assert np.array_equal(filled.values[: len(past)][known], past.values[known])


def test_missing_hours_of_the_last_week_are_listed_and_older_ones_are_not() -> None:
    past = past_without((100, 130), (40 * 24 - 30, 40 * 24 - 20), (40 * 24 - 2, 40 * 24))

    missing = missing_lately(past)

    expected = [*range(40 * 24 - 30, 40 * 24 - 20), *range(40 * 24 - 2, 40 * 24)]
    assert missing.tolist() == hours("2016-06-01", 40 * 24)[expected].tolist()
    assert name_spans(missing, 3600) == (
        "2016-07-09T18:00Z to 2016-07-10T04:00Z (10 h), 2016-07-10T22:00Z to 2016-07-11T00:00Z (2 h)"
    )


def test_missing_hours_are_those_of_seven_days_and_no_hour_longer() -> None:
    oldest = 960 - 7 * 24

    assert len(missing_lately(past_without((oldest, oldest + 1)))) == 1
    assert len(missing_lately(past_without((oldest - 1, oldest)))) == 0


def test_eight_spans_are_all_listed_and_the_ninth_is_counted() -> None:
    times = hours("2016-06-01", 25)[::3]

    assert "more" not in name_spans(times[:8], 3600)
    assert name_spans(times[:8], 3600).count("(1 h)") == 8
    assert name_spans(times, 3600).endswith("(1 h) and 1 more")


def test_many_spans_are_counted_rather_than_listed() -> None:
    times = hours("2016-06-01", 100)[::3]

    assert name_spans(times, 3600).endswith(f"and {len(times) - 8} more")


def test_the_naive_fan_has_the_naive_as_median_and_the_spread_of_its_own_errors() -> None:
    past = past_without()
    targets = END + np.arange(24) * HOUR

    fan = naive_fan(past, targets)

    assert np.array_equal(fan.median, loads(targets - 7 * DAY))
    errors = past.values[168:] - past.values[:-168]
    spread = np.quantile(errors, LEVELS)
    assert np.allclose(fan.quantiles[3] - fan.median[3], np.maximum.accumulate(spread - spread[MEDIAN]))
