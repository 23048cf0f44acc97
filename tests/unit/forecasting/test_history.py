"""History: what was known when, and nothing else."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kappawatt.errors import HistoryInsufficient, PayloadInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, as_instant
from kappawatt.forecasting.history import AHEAD_INTERVALS, History
from tests.forecast_fakes import ZONE, hours, loads

START = as_instant("2016-01-01")


def history(n: int = 48, most: int = 500_000) -> History:
    known = History("PJME", ZONE, 3600, most=most)
    times = hours("2016-01-01", n)
    known.add(times, loads(times))
    return known


def test_until_ends_with_the_last_interval_that_ended_by_then() -> None:
    past = history().until(START + 10 * HOUR + HOUR / 2)

    assert (len(past), past.filled) == (10, 0)
    assert past.end == START + 10 * HOUR
    assert np.array_equal(past.values, loads(past.times))


@settings(max_examples=60, deadline=None)
@given(
    issue=st.integers(1, 90),
    late=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 200), st.floats(1, 9)), max_size=30),
)
def test_nothing_that_ends_or_becomes_known_after_the_issue_time_changes_the_past(
    issue: int, late: list[tuple[int, int, float]]
) -> None:
    issue_time = START + issue * HOUR
    before = history(issue)
    after = history(issue)

    for place, delay, value in late:
        known = START + (place + 1 + delay) * HOUR
        if known > issue_time:
            after.add(
                np.array([START + place * HOUR]),
                np.array([value]),
                np.array([known]),
                {"temperature": np.array([value])},
            )

    past, disturbed = before.until(issue_time), after.until(issue_time)
    assert past.start == disturbed.start
    assert np.array_equal(past.values, disturbed.values)
    assert np.isnan(disturbed.covariate("temperature", past.times)).all()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40), st.floats(1, 9)), min_size=1, max_size=40),
    cut=st.integers(0, 39),
    at=st.integers(0, 100),
)
def test_however_rows_are_cut_into_messages_the_same_is_known(
    rows: list[tuple[int, int, float]], cut: int, at: int
) -> None:
    starts = np.array([START + place * HOUR for place, _, _ in rows])
    values = np.array([value for _, _, value in rows])
    known = np.array([START + (place + 1 + delay) * HOUR for place, delay, _ in rows])
    whole, parts = History("a", ZONE, 3600), History("a", ZONE, 3600)

    whole.add(starts, values, known)
    for part in (slice(0, cut), slice(cut, None)):
        if len(starts[part]):
            parts.add(starts[part], values[part], known[part])

    moment = START + at * HOUR
    one, two = whole.until(moment), parts.until(moment)
    assert np.array_equal(one.values, two.values, equal_nan=True)
    if len(one):
        assert one.start == two.start


def test_a_late_value_is_unknown_until_it_came_and_known_in_a_correction() -> None:
    known = history(10)
    gap, arrived = START + 12 * HOUR, START + 20 * HOUR
    known.add(np.array([gap]), np.array([5.0]), np.array([arrived]))

    assert len(known.until(START + 15 * HOUR)) == 10
    assert known.until(START + 15 * HOUR, arrived).values[-1] == 5.0
    assert known.until(arrived).at(np.array([gap]))[0] == 5.0


def test_a_revision_leaves_what_was_known_before_it() -> None:
    known = history(10)
    place, revised = START + 3 * HOUR, START + 30 * HOUR
    first = loads(np.array([place]))[0]

    changed = known.add(np.array([place]), np.array([7.0]), np.array([revised]))

    assert changed.tolist() == np.array([place]).tolist()
    assert known.until(START + 10 * HOUR).at(np.array([place]))[0] == first
    assert known.until(revised).at(np.array([place]))[0] == 7.0
    assert known.measured([place]) == {place: 7.0}


@pytest.mark.parametrize("minutes", [0, 15, 45])
def test_the_truth_of_intervals_is_their_newest_value_and_nothing_where_there_is_none(minutes: int) -> None:
    starts = START + np.arange(-1, 5) * HOUR + minutes * np.timedelta64(60_000, "ms")
    before, first, unknown, third, last, after = starts
    known = History("PJME", ZONE, 3600)
    known.add(starts[[1, 3, 4]], np.array([1.0, 3.0, 4.0]))
    known.add(starts[[3]], np.array([5.0]), starts[[5]] + DAY)

    assert known.measured(starts) == {first: 1.0, third: 5.0, last: 4.0}
    assert known.measured([before, unknown, after, last + 30 * DAY]) == {}


def test_the_same_value_again_changes_nothing() -> None:
    known = history(10)
    times = hours("2016-01-01", 10)

    assert len(known.add(times, loads(times))) == 0
    assert len(known.add(times[3:4], loads(times[3:4]), np.array([START + 90 * HOUR]))) == 0


def test_of_a_message_that_holds_old_and_new_hours_only_the_new_ones_change() -> None:
    known = history(10)
    times = hours("2016-01-01", 12)

    assert known.add(times, loads(times)).tolist() == times[10:].tolist()
    revised = known.add(times[8:], np.where(times[8:] == times[9], 7.0, loads(times[8:])))
    assert revised.tolist() == times[9:10].tolist()


def test_it_is_bounded_and_forgets_the_oldest() -> None:
    known = history(24 * 100, most=24 * 10)

    past = known.until(START + 100 * DAY)

    assert len(past) == 24 * 10
    assert past.end == START + 100 * DAY
    known.add(np.array([START + 400 * DAY]), np.array([1.0]))  # far ahead: no million of empty hours
    assert known.until(START + 401 * DAY).values.tolist() == [1.0]


def test_of_more_rows_than_it_keeps_the_newest_are_kept() -> None:
    known = history(24 * 100, most=24 * 10)

    assert known.first == START + 90 * DAY
    assert len(known.until(START + 95 * DAY)) == 24 * 5


@pytest.mark.parametrize("more", [0, 24])
def test_rows_older_than_the_bound_do_not_extend_it_backwards(more: int) -> None:
    known = history(24 * 10, most=24 * 10)
    for hour in range(24 * 10, 24 * 10 + more):
        known.add(np.array([START + hour * HOUR]), np.array([1.0]))
    oldest = known.first

    old = hours("2015-12-01", 24)
    assert len(known.add(old, loads(old))) == 0
    assert known.first == oldest


def memory_of(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes that are held after it, and that were held at most."""
    tracemalloc.start()
    try:
        kept = work()
        held = tracemalloc.get_traced_memory()
        del kept
        return held
    finally:
        tracemalloc.stop()


def test_a_value_far_ahead_takes_no_memory_for_the_hours_between() -> None:
    known = history(24 * 10, most=24 * 10)
    far = START + 3_000_000 * HOUR

    _, peak = memory_of(lambda: known.add(np.array([far]), np.array([1.0])))

    assert peak < 1_000_000
    assert known.until(far + HOUR).values.tolist() == [1.0]
    known.add(np.array([far - 9 * DAY]), np.array([2.0]))
    assert known.until(far + HOUR).values[[0, -1]].tolist() == [2.0, 1.0]


def test_a_young_series_takes_little_memory() -> None:
    _, peak = memory_of(lambda: history(24))

    assert peak < 100_000


def test_what_was_late_is_forgotten_with_its_hour() -> None:
    known = History("PJME", ZONE, 3600, most=24)
    nothing = np.full(200, np.nan)

    def write() -> None:
        for batch in range(20):
            times = hours("2016-01-01", 200) + batch * 5_000 * HOUR
            known.add(times, loads(times), times + 3 * HOUR, {"temperature": loads(times)})
            known.add(times, nothing, times + 5 * HOUR, {"temperature": loads(times) + 1})

    held, _ = memory_of(write)

    assert held < 1_000_000  # all of 4,000 late hours would be 3 MB


@pytest.mark.parametrize(("ahead", "kept"), [(1_499, 1.0), (1_500, np.nan)])
def test_covariates_are_kept_so_many_intervals_ahead(ahead: int, kept: float) -> None:
    known = history(24)
    at = np.array([START + (24 + ahead) * HOUR])
    known.add(at, np.array([np.nan]), None, {"temperature": np.array([1.0])})

    assert np.array_equal(known.until(START + DAY).covariate("temperature", at), [kept], equal_nan=True)


def test_rows_one_by_one_are_the_rows_at_once() -> None:
    times = hours("2016-01-01", 200)
    single = History("a", ZONE, 3600, most=100)
    for time, value in zip(times, loads(times), strict=True):
        single.add(np.array([time]), np.array([value]))
    bulk = History("a", ZONE, 3600, most=100)
    bulk.add(times, loads(times))

    for moment in times[-60::7]:
        assert np.array_equal(single.until(moment).last(40).values, bulk.until(moment).last(40).values)


def test_older_rows_in_a_later_message_extend_it_backwards() -> None:
    known = History("a", ZONE, 3600)
    times = hours("2016-01-01", 48)
    known.add(times[24:], loads(times[24:]))
    known.add(times[:24], loads(times[:24]))

    assert np.array_equal(known.until(times[-1] + HOUR).values, loads(times))


def test_a_weather_forecast_is_known_ahead_and_the_newest_issue_counts() -> None:
    known = history(24)
    ahead = hours("2016-01-02", 24)
    nothing = np.full(24, np.nan)
    morning, evening = START + 6 * HOUR, START + 18 * HOUR
    known.add(ahead, nothing, np.full(24, morning), {"temperature": np.full(24, 1.0)})
    known.add(ahead, nothing, np.full(24, evening), {"temperature": np.full(24, 2.0)})

    assert np.isnan(known.until(START + 5 * HOUR).covariate("temperature", ahead)).all()
    assert known.until(START + 12 * HOUR).covariate("temperature", ahead).tolist() == [1.0] * 24
    assert known.until(START + 24 * HOUR).covariate("temperature", ahead).tolist() == [2.0] * 24


def test_what_weather_was_forecast_the_day_before_is_kept_beside_what_it_became() -> None:
    known = history(24)
    next_day = hours("2016-01-02", 24)
    nothing = np.full(24, np.nan)
    known.add(next_day, nothing, np.full(24, next_day[0] - 12 * HOUR), {"temperature": np.full(24, 1.0)})
    known.add(next_day, nothing, np.full(24, next_day[0] - HOUR), {"temperature": np.full(24, 2.0)})
    known.add(next_day, np.full(24, 30_000.0), None, {})
    known.add(next_day, nothing, next_day + HOUR, {"temperature": np.full(24, 3.0)})

    past = known.until(START + 48 * HOUR)

    assert past.covariate("temperature", next_day).tolist() == [3.0] * 24
    assert past.ahead["temperature"][24:48].tolist() == [1.0] * 11 + [2.0] * 13


def test_a_weather_forecast_read_after_the_weather_it_foretold_right_was_still_known_ahead() -> None:
    known = history(24)
    noon = np.array([START + 12 * HOUR])
    nothing = np.array([np.nan])
    known.add(noon, nothing, noon + HOUR, {"temperature": np.array([1.0])})
    known.add(noon, nothing, noon - 6 * HOUR, {"temperature": np.array([1.0])})

    assert known.until(START + 10 * HOUR).covariate("temperature", noon).tolist() == [1.0]
    assert np.isnan(known.until(START + 5 * HOUR).covariate("temperature", noon)).all()


@pytest.mark.parametrize("minutes", [0, 30])
@pytest.mark.parametrize(
    "before", [2 * HOUR, HOUR, HOUR / 2, np.timedelta64(1, "ms"), 0 * HOUR, np.timedelta64(-1, "ms"), -HOUR / 2, -HOUR]
)
def test_weather_is_known_from_the_millisecond_it_became_known_wherever_its_interval_ends(
    minutes: int, before: np.timedelta64
) -> None:
    """Half an hour after the hour is where hours begin in a zone of UTC+5:30."""
    history, begin = History("Delhi", "Asia/Kolkata", 3600), START + np.timedelta64(minutes, "m")
    times = begin + np.arange(24) * HOUR
    history.add(times, loads(times))
    known = times[12:13] + HOUR - before

    history.add(times[12:13], np.array([np.nan]), known, {"temperature": np.array([7.0])})

    def read(at: np.datetime64) -> float:
        return float(history.until(begin + DAY, at).covariate("temperature", times[12:13])[0])

    assert read(known[0]) == 7.0
    assert np.isnan(read(known[0] - np.timedelta64(1, "ms")))


def test_weather_of_hours_before_a_past_begins_stands_nowhere_in_it() -> None:
    history, times = History("PJME", ZONE, 3600), hours("2016-01-01", 24)
    history.add(times, loads(times), np.where(times == START, START + 9 * DAY, times + HOUR))
    history.add(times[:1], np.array([np.nan]), times[2:3], {"temperature": np.array([7.0])})

    past = history.until(START + DAY)

    assert past.start == START + HOUR
    assert np.isnan(past.covariate("temperature", times[1:])).all()


@pytest.mark.parametrize(
    ("kept", "asked", "more"),
    [
        (0, [0], 1),
        (0, [0, 9], 10),
        (0, [0, 99], 100),
        (0, [0, 5000], 100),  # no more than it keeps
        (48, [0, 47], 0),
        (48, [20, 30], 0),
        (48, [48], 1),
        (48, [60], 13),
        (48, [-3], 3),
        (48, [-3, 50], 6),
        (48, [20, 50], 3),
        (48, [-3, 20], 3),
        (48, [5000], 100 + AHEAD_INTERVALS - 48),
    ],
)
@pytest.mark.parametrize("minutes", [0, 30])
def test_a_history_would_grow_by_all_intervals_between_what_it_has_and_what_comes(
    kept: int, asked: list[int], more: int, minutes: int
) -> None:
    known, begin = History("Delhi", "Asia/Kolkata", 3600, most=100), START + np.timedelta64(minutes, "m")
    times = begin + np.arange(kept) * HOUR
    known.add(times, loads(times))

    assert known.growth(begin + np.array(asked) * HOUR) == more


def test_a_history_that_forgets_as_much_as_comes_does_not_grow() -> None:
    known = history(100, most=100)
    for n in range(100, 200 + AHEAD_INTERVALS, 24):
        times = START + np.arange(n, n + 24) * HOUR
        known.add(times, loads(times))

    assert known.growth(times[-1:] + 20 * DAY) == 0


def test_a_start_off_the_grid_is_named() -> None:
    with pytest.raises(PayloadInvalid, match="interval_start: got 2016-01-01T00:20"):
        history().add(np.array([START + HOUR / 3]), np.array([1.0]))


def test_the_first_start_says_where_the_grid_lies_and_the_first_that_is_off_it_is_named() -> None:
    starts = START + np.array([15, 75, 80, 85]) * np.timedelta64(60_000, "ms")
    known = History("PJME", "Asia/Kathmandu", 3600)

    with pytest.raises(PayloadInvalid, match=r"got 2016-01-01T01:20:00.000Z, allowed whole multiples of 3600 s"):
        known.add(starts, np.ones(4))

    known.add(starts[:2], np.ones(2))
    assert known.first == starts[0]
    assert known.clock == starts[1] + HOUR


def test_an_interval_can_begin_at_whole_steps_of_the_local_clock_that_lie_on_the_grid_there_is() -> None:
    quarter = np.timedelta64(15 * 60_000, "ms")
    starts = START + np.arange(5) * quarter
    kathmandu, utc = History("a", "Asia/Kathmandu", 3600), History("b", "UTC", 3600)

    assert kathmandu.off_grid(starts).tolist() == [True, False, True, True, True]  # UTC+5:45
    assert utc.off_grid(starts).tolist() == [False, True, True, True, False]

    utc.add(starts[1:2], np.ones(1))
    assert utc.off_grid(starts).all()  # its clock and its values say different
    kathmandu.add(starts[1:2], np.ones(1))
    assert kathmandu.off_grid(starts).tolist() == [True, False, True, True, True]


@pytest.mark.parametrize(("intervals", "left"), [(1, 1), (47, 47), (48, 48), (49, 48)])
def test_the_last_of_a_past_are_its_newest(intervals: int, left: int) -> None:
    known = history()
    ahead = hours("2016-01-01", 60)
    known.add(ahead, np.full(60, np.nan), None, {"temperature": np.arange(60.0)})
    past = known.until(START + 2 * DAY)

    last = past.last(intervals)

    assert len(last) == left
    assert (last.start, last.end) == (START + (48 - left) * HOUR, past.end)
    assert np.array_equal(last.values, past.values[48 - left :])
    assert last.covariate("temperature", ahead[48 - left :]).tolist() == ahead_of(48 - left, 60)


def ahead_of(first: int, last: int) -> list[float]:
    return [float(hour) for hour in range(first, last)]


def test_every_interval_of_a_past_is_found_by_its_start_and_no_other() -> None:
    past = history(2000).until(START + 2000 * HOUR)

    assert np.array_equal(past.at(past.times), past.values)
    outside = np.array([START - HOUR, past.end, np.datetime64("NaT")])
    assert np.isnan(past.at(outside)).all()
    assert np.isnan(past.covariate("temperature", past.times)).all()


def test_a_history_without_a_value_says_so() -> None:
    history = History("PJME", "UTC", 3600)

    with pytest.raises(HistoryInsufficient, match="history: got no value of PJME, allowed one or more"):
        history.known_until()


def with_weather(n: int = 48) -> History:
    found = history(n)
    starts = START + np.arange(n + 24) * HOUR
    found.add(starts, np.full(len(starts), np.nan), starts - DAY, {"temperature": np.arange(float(n + 24))})
    return found


def test_from_a_position_on_values_weather_and_what_was_forecast_of_it_stay_beside_each_other() -> None:
    past = with_weather().until(START + 48 * HOUR)

    later = past.since(10)

    assert (later.start, later.end) == (START + 10 * HOUR, past.end)
    assert np.array_equal(later.values, past.values[10:])
    for own, whole in ((later.covariates, past.covariates), (later.ahead, past.ahead)):
        np.testing.assert_array_equal(own["temperature"], whole["temperature"][10:])
    assert past.since(0) is past.last(48) is past


def test_a_past_without_values_holds_no_array_of_any_length() -> None:
    past = with_weather().until(START + 48 * HOUR)

    kept = past.without_values()

    assert (len(kept), kept.covariates, kept.ahead) == (0, {}, {})
    assert (kept.key, kept.time_zone, kept.step, kept.issue_time) == (past.key, past.time_zone, 3600, past.issue_time)


def confirmed(history: History, at: str) -> list[str]:
    return [str(time)[:13] for time in history.until(as_instant(at), as_instant(at)).confirmed]


def test_a_confirmation_is_known_from_when_it_was_said_and_of_the_value_it_was_said_of() -> None:
    history = History("a", "UTC", 3600)
    starts = as_instant("2024-01-01") + np.arange(10) * np.timedelta64(1, "h")
    history.add(starts, np.arange(10.0))
    span = starts[2:3], starts[4:5]

    first = history.confirm(*span, np.array(["2024-01-01T12"], "datetime64[ms]"))
    again = history.confirm(*span, np.array(["2024-01-01T13"], "datetime64[ms]"))
    history.add(starts[3:4], np.array([30.0]), np.array(["2024-01-01T15"], "datetime64[ms]"))

    assert [str(time)[:13] for time in first] == ["2024-01-01T02", "2024-01-01T03"]
    assert len(again) == 0
    assert confirmed(history, "2024-01-01T11") == []
    assert confirmed(history, "2024-01-01T12") == ["2024-01-01T02", "2024-01-01T03"]
    assert confirmed(history, "2024-01-01T15") == ["2024-01-01T02"]


def test_nothing_is_confirmed_where_there_is_no_value() -> None:
    history = History("a", "UTC", 3600)
    starts = as_instant("2024-01-01") + np.arange(10) * np.timedelta64(1, "h")
    alone = History("b", "UTC", 3600).confirm(starts[:1], starts[1:2])
    history.add(starts[5:6], np.array([1.0]))

    outside = history.confirm(starts[:1], starts[1:2])
    around = history.confirm(starts[:1], starts[9:])

    assert len(alone) == len(outside) == 0
    assert around.tolist() == starts[5:6].tolist()


def test_confirmations_of_values_that_are_forgotten_are_forgotten() -> None:
    history = History("a", "UTC", 3600, most=48)
    starts = as_instant("2024-01-01") + np.arange(200) * np.timedelta64(1, "h")
    history.add(starts[:40], np.arange(40.0))
    history.confirm(starts[:1], starts[40:41])

    history.add(starts[40:], np.arange(40.0, 200.0))

    assert confirmed(history, "2024-02-01") == []


def test_a_span_beside_the_grid_is_refused_by_name() -> None:
    history = History("a", "UTC", 3600)
    history.add(np.array(["2024-01-01"], "datetime64[ms]"), np.array([1.0]))

    with pytest.raises(PayloadInvalid, match="confirmed_until"):
        history.confirm(np.array(["2024-01-01"], "datetime64[ms]"), np.array(["2024-01-01T00:30"], "datetime64[ms]"))


def test_holidays_count_from_when_they_were_said() -> None:
    history = History("a", "UTC", 3600, holidays="DE")
    history.add(np.array(["2024-01-01"], "datetime64[ms]"), np.array([1.0]))

    history.has_holidays("DE-BY", as_instant("2024-01-05"))

    assert history.until(as_instant("2024-01-04")).holidays == "DE"
    assert history.until(as_instant("2024-01-05")).holidays == "DE-BY"
    assert history.until(as_instant("2024-01-04"), as_instant("2024-01-06")).holidays == "DE-BY"
