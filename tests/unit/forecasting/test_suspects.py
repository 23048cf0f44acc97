"""What is suspect, what is not, and that the one is missing for a forecast and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import DAY, HOUR, day_start, to_local
from kappawatt.forecasting.history import History, Past
from kappawatt.forecasting.suspects import CONTINUOUS, SPIKY, odd_zeros, spikes, stuck_runs, without_suspects

ZONE = "Europe/Madrid"
DAYS = 200
Vector = NDArray[np.float64]


def made_up(days: int = DAYS, step: int = 3600, seed: int = 3, sun: float = 0.0) -> Past:
    """Days, weekends, seasons and weather of a town, less the sun on its roofs."""
    end = day_start(np.array(["2025-06-10"], "datetime64[D]"), ZONE)[0]
    times = np.arange(end - days * DAY, end, np.timedelta64(step, "s"))
    local = to_local(times, ZONE)
    date = local.astype("datetime64[D]")
    h = (local - date) / HOUR
    random = np.random.default_rng(seed)
    weather = np.cumsum(random.normal(0, 0.02, (date[-1] - date[0]).astype(int) + 1))
    weather -= np.linspace(weather[0], weather[-1], len(weather))
    course = 1 + 0.25 * np.sin(2 * np.pi * (h - 9) / 24) - 0.15 * ((date.astype(int) + 3) % 7 >= 5)
    shine = (
        np.maximum(np.sin(2 * np.pi * (h - 7) / 24), 0) ** 2
        * random.uniform(0.2, 1, len(weather))[(date - date[0]).astype(int)]
    )
    values = 730.0 * (course * np.exp(weather[(date - date[0]).astype(int)]) - sun * shine)
    values *= 1 + random.normal(0, 0.01, len(values))
    return Past("town", ZONE, step, times[0], values, end)


def with_values(past: Past, part: slice, change: Callable[[Vector], Vector]) -> Past:
    values = past.values.copy()
    values[part] = change(values[part])
    return replace(past, values=values)


def suspect_places(past: Past) -> list[int]:
    left = without_suspects(past, CONTINUOUS)
    return np.flatnonzero(np.isnan(left.at(past.times)) & ~np.isnan(past.values)).tolist()


@pytest.mark.parametrize("step", [3600, 1800, 900, 300])
@pytest.mark.parametrize("days", [20, DAYS])
def test_a_series_as_it_should_be_is_not_suspect_and_stays_itself(step: int, days: int) -> None:
    past = made_up(days, step)

    assert without_suspects(past, CONTINUOUS) is past


@pytest.mark.parametrize("factor", [12.0, 0.08, -1.0, 0.0, 1000.0])
@pytest.mark.parametrize("places", [[-1], [-2], [2000], [0], [100, 900, 2500, 4700, 4799]])
def test_a_spike_is_suspect_wherever_it_is(factor: float, places: list[int]) -> None:
    past = made_up()
    wrong = with_values(past, np.array(places), lambda v: v * factor)  # type: ignore[arg-type]

    assert suspect_places(wrong) == sorted(place % len(past) for place in places)


@pytest.mark.parametrize("step", [3600, 900])
@pytest.mark.parametrize("place", [0.5, 1.0])
@pytest.mark.parametrize("factor", [0.0, 0.1, 10.0])
def test_a_day_of_another_unit_or_of_zeros_is_suspect(step: int, place: float, factor: float) -> None:
    past = made_up(120, step)
    day = 86_400 // step
    last = int(place * len(past))

    found = suspect_places(with_values(past, slice(last - day, last), lambda v: v * factor))

    assert found == list(range(last - day, last))


@pytest.mark.parametrize("hours", [7, 30, 72, 200])
@pytest.mark.parametrize("last", [4800, 3000])
def test_a_stuck_meter_is_suspect(hours: int, last: int) -> None:
    wrong = with_values(made_up(), slice(last - hours, last), lambda v: np.full(len(v), 777.25))

    suspects = without_suspects(wrong, CONTINUOUS).suspects

    assert suspect_places(wrong) == list(range(last - hours, last))
    if last == 4800:
        (suspect,) = suspects
        assert (suspect.why, suspect.count, suspect.end) == ("stuck", hours, wrong.end)
        assert suspect.start == wrong.end - hours * HOUR
    else:
        assert suspects == ()  # longer ago than five weeks: no news


def test_a_new_level_is_believed_once_four_days_show_it() -> None:
    past = made_up()
    level = [with_values(past, slice(len(past) - 24 * days, None), lambda v: v * 6) for days in (3, 4)]

    assert len(suspect_places(level[0])) == 72
    assert suspect_places(level[1]) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v * 1.9,  # a heat wave
        lambda v: v * 0.55,  # a holiday
        lambda v: v * np.linspace(1, 0.42, len(v)),  # an outage in a storm
    ],
)
def test_what_happens_is_believed(change: Callable[[Vector], Vector]) -> None:
    assert suspect_places(with_values(made_up(), slice(-14, None), change)) == []


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
@pytest.mark.parametrize("part", [slice(-1, None), slice(-3, None), slice(2000, 2030)])
def test_what_begins_with_a_step_that_no_zone_makes_is_suspect(factor: float, part: slice) -> None:
    past = made_up()
    cold = with_values(past, slice(-300, None), lambda v: v * np.linspace(1, 1.5, len(v)))

    found = suspect_places(with_values(cold, part, lambda v: v * factor))

    assert found == list(range(*part.indices(len(past))))


def test_what_follows_a_step_is_no_longer_suspect_when_it_is_back() -> None:
    past = made_up()
    outage = with_values(past, slice(-40, -20), lambda v: v * 0.3)

    assert suspect_places(outage) == list(range(len(past) - 40, len(past) - 20))


@pytest.mark.parametrize("sun", [0.9, 1.3, 2.0, 4.0])
@pytest.mark.parametrize("seed", range(4))
def test_noons_at_zero_and_below_are_believed(sun: float, seed: int) -> None:
    assert suspect_places(made_up(sun=sun, seed=seed)) == []


def test_ten_times_at_night_is_suspect_of_net_load_either() -> None:
    past = made_up(sun=2.0)

    assert suspect_places(with_values(past, slice(-2, -1), lambda v: v * 10)) == [len(past) - 2]


def test_what_is_suspect_is_as_if_it_had_never_been_measured() -> None:
    past = made_up()
    values = past.values.copy()
    values[[-1, -30]] *= 10
    history, without = (History("town", ZONE, 3600) for _ in range(2))
    history.add(past.times, values)
    without.add(past.times, np.where(values == past.values, values, np.nan))
    issue = past.issue_time

    left = without_suspects(history.until(issue), CONTINUOUS)

    expected = without.until(issue)
    assert (left.start, left.end, left.issue_time) == (expected.start, expected.end, issue)
    assert np.array_equal(left.values, expected.values, equal_nan=True)
    assert [suspect.why for suspect in left.suspects] == ["spike", "spike"]


def test_covariates_stay_on_the_grid_of_what_is_left() -> None:
    past = made_up()
    warm = np.arange(len(past) + 24, dtype=np.float64)
    wrong = with_values(replace(past, covariates={"temperature": warm}), slice(0, 2), lambda v: v * 40)

    left = without_suspects(wrong, CONTINUOUS)

    assert left.start == past.start + 2 * HOUR
    assert left.covariate("temperature", left.times[:1]).tolist() == [2.0]


def home(days: int = 60) -> Past:
    """A household's half hours [kWh]: little, and now and then a lot."""
    random = np.random.default_rng(8)
    values = np.round(0.06 + random.exponential(0.05, 48 * days) + (random.random(48 * days) < 0.03) * 2.7, 3)
    end = np.datetime64("2025-03-01", "ms")
    return Past("home", "UTC", 1800, end - days * DAY, values, end)


@pytest.mark.parametrize(
    ("part", "change", "why"),
    [
        (slice(-96, None), lambda v: np.full(len(v), 0.213), ["stuck"]),
        (slice(-23, None), lambda v: np.full(len(v), 0.213), []),  # less than half a day
        (slice(-5, None), lambda v: v * 1000, ["spike"]),  # watt-hours
        (slice(-400, None), lambda v: v * 0, []),  # nobody is at home
        (slice(-1, None), lambda v: v + 6, []),  # a car is charged for the first time
    ],
)
def test_of_a_home_half_a_day_of_one_value_and_another_unit_are_suspect(
    part: slice, change: Callable[[Vector], Vector], why: list[str]
) -> None:
    assert [suspect.why for suspect in without_suspects(with_values(home(), part, change), SPIKY).suspects] == why


def test_a_home_that_is_empty_for_months_is_believed() -> None:
    past = home()

    assert without_suspects(with_values(past, slice(None), lambda v: v * 0), SPIKY).suspects == ()
    assert not odd_zeros(with_values(past, slice(0, 2000), lambda v: v * 0).values).any()


def test_a_series_of_one_value_alone_is_not_stuck() -> None:
    values = np.full(2000, 12.5)

    assert len(stuck_runs(values, np.arange(2000), 3600, CONTINUOUS)[0]) == 0


def test_of_a_young_series_nothing_is_far() -> None:
    past = made_up(13)
    far, usual = spikes(past.times, past.values * 9, 3600, ZONE, CONTINUOUS)

    assert not far.any()
    assert np.isnan(usual).all()


def test_nothing_is_suspect_of_nothing() -> None:
    nothing = replace(made_up(), values=np.full(30, np.nan))

    assert without_suspects(nothing, CONTINUOUS) is nothing
    assert not spikes(nothing.times[:0], nothing.values[:0], 3600, ZONE, CONTINUOUS)[0].any()
