"""Each series of a worker has the length of interval that its rows said or showed; what contradicts it is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kappawatt.columns.batch import Rejection
from kappawatt.services.hourly_load.forecaster import FORECASTER as LOAD
from kappawatt.services.smart_meter.forecaster import FORECASTER as METER
from kappawatt.worker.histories import Histories, Step

ARRIVED = 1_782_864_000_000  # 2026-07-01
FIRST = np.datetime64("2026-06-01T04:00", "ms")  # midnight in New York
MINUTE = np.timedelta64(60_000, "ms")


def minutes(*after: float) -> Any:
    return FIRST + (np.array(after) * 60_000).astype("timedelta64[ms]")


def every(seconds: int, n: int, first: np.datetime64 = FIRST) -> Any:
    return first + np.arange(n) * np.timedelta64(seconds * 1000, "ms")


def take(histories: Histories, starts: Any, *, forecaster: Any = LOAD, key: str = "a", **more: Any) -> list[Rejection]:
    """Have histories take one message; what is refused of it."""
    n = len(starts)
    columns = {"interval_start": starts, forecaster.target: np.arange(n) + 1.0}
    for name, value in more.items():
        is_text = isinstance(value, str)
        columns[name] = np.full(n, value, dtype=object if is_text else np.float64)
    batch = forecaster.request.check(columns, n)
    assert batch.valid.all(), batch.rejections
    found = list(histories.steps(key.encode(), batch, np.arange(n), ARRIVED))
    assert all(isinstance(one, Rejection | Step) for one in found)
    return [one for one in found if isinstance(one, Rejection)]


def one_by_one(histories: Histories, starts: Any, **more: Any) -> list[Rejection]:
    return [rejection for start in starts for rejection in take(histories, np.array([start]), **more)]


def step_of(histories: Histories, key: str = "a") -> int:
    history = histories.history(key)
    assert history is not None
    return history.step


def known(histories: Histories, key: str = "a") -> list[Any]:
    history = histories.history(key)
    assert history is not None
    past = history.until(np.datetime64("2026-07-01", "ms"))
    return [t for t, v in zip(past.times, past.values, strict=True) if np.isfinite(v)]


@pytest.mark.parametrize("step", [300, 900, 1800, 3600])
@pytest.mark.parametrize("says", [False, True])
def test_a_message_of_rows_gives_the_series_its_length(step: int, says: bool) -> None:
    histories = Histories(LOAD)

    assert not take(histories, every(step, 400), **({"interval_seconds": step} if says else {}))

    assert step_of(histories) == step
    assert len(known(histories)) == 400


@pytest.mark.parametrize(("forecaster", "step"), [(LOAD, s) for s in LOAD.steps] + [(METER, s) for s in METER.steps])
def test_rows_that_come_one_by_one_and_say_nothing_show_their_length_and_none_is_lost(
    forecaster: Any, step: int
) -> None:
    histories = Histories(forecaster)

    assert not one_by_one(histories, every(step, 120), forecaster=forecaster)

    assert step_of(histories) == step
    assert len(known(histories)) == 120


def test_a_load_row_alone_is_an_hour() -> None:
    histories = Histories(LOAD)

    take(histories, minutes(0))

    assert step_of(histories) == 3600


def test_a_row_lost_at_the_beginning_gives_no_wrong_length() -> None:
    histories = Histories(LOAD)

    assert not one_by_one(histories, minutes(0, 30, 45, 60, 75, 90))

    assert step_of(histories) == 900


def test_what_is_said_counts_more_than_what_was_supposed() -> None:
    histories = Histories(LOAD)

    assert not take(histories, minutes(0))
    assert not take(histories, minutes(15), interval_seconds=900)

    assert step_of(histories) == 900
    assert len(known(histories)) == 2


def test_two_series_of_one_worker_have_a_length_each() -> None:
    histories = Histories(LOAD)

    take(histories, every(3600, 48), key="hours")
    take(histories, every(300, 48), key="fives")
    take(histories, every(900, 48, np.datetime64("2026-06-01T18:30", "ms")), key="kolkata", time_zone="Asia/Kolkata")

    assert [step_of(histories, key) for key in ("hours", "fives", "kolkata")] == [3600, 300, 900]


@pytest.mark.parametrize("finer", [900, 300])
def test_hours_that_go_on_in_shorter_intervals_are_refused_as_a_whole(finer: int) -> None:
    histories = Histories(LOAD)
    take(histories, every(3600, 48))
    later = every(finer, 40, FIRST + np.timedelta64(48, "h"))

    refused = take(histories, later)

    assert len(refused) == 40
    assert {r.message for r in refused} == {
        f"interval_start: got 'rows {finer} s apart', allowed 3600 s, the length of the series' intervals"
    }
    assert len(known(histories)) == 48


def test_hours_that_go_on_in_quarters_one_by_one_are_not_thinned_to_every_fourth() -> None:
    histories = Histories(LOAD)
    one_by_one(histories, every(3600, 48))
    later = every(900, 40, FIRST + np.timedelta64(48, "h"))

    refused = one_by_one(histories, later)

    assert len(refused) == 39  # the first is an hour as any
    assert len(known(histories)) == 49


def test_a_row_beside_the_grid_is_refused_alone_and_the_series_goes_on() -> None:
    histories = Histories(LOAD)
    one_by_one(histories, every(3600, 48))

    [refused] = one_by_one(histories, minutes(48 * 60 - 15, 48 * 60, 49 * 60, 50 * 60))

    assert "whole multiples of 3600 s by the local clock" in refused.message
    assert len(known(histories)) == 51


@pytest.mark.parametrize("n", [1, 40])
def test_a_length_that_is_said_and_not_the_series_is_refused_by_name(n: int) -> None:
    histories = Histories(LOAD)
    take(histories, every(3600, 48))

    refused = take(histories, every(900, n, FIRST + np.timedelta64(48, "h")), interval_seconds=900)

    assert len(refused) == n
    assert refused[0].message.startswith("interval_seconds: got '900', allowed 3600, which the series has")
    assert len(known(histories)) == 48


def test_late_single_intervals_of_a_finer_series_are_taken() -> None:
    histories = Histories(LOAD)
    take(histories, every(900, 400), interval_seconds=900)

    assert not take(histories, minutes(0, 30, 60))
    assert not take(histories, minutes(45))


def test_weather_by_the_hour_belongs_to_a_series_of_quarters() -> None:
    histories = Histories(LOAD)
    take(histories, every(900, 400))
    batch = LOAD.request.check({"interval_start": every(3600, 48), "temperature": np.full(48, 20.0)}, 48)

    assert not [r for r in histories.steps(b"a", batch, np.arange(48), ARRIVED) if isinstance(r, Rejection)]

    assert step_of(histories) == 900


def test_the_first_day_made_again_knows_when_values_became_known() -> None:
    histories, told = Histories(LOAD), Histories(LOAD)
    starts = minutes(15, 0, 30, 45, 30)

    one_by_one(histories, starts)
    one_by_one(told, starts, interval_seconds=900)

    for at in minutes(*range(0, 120, 5)):
        one, other = (h.history("a").until(at) for h in (histories, told))  # type: ignore[union-attr]
        np.testing.assert_array_equal(one.values, other.values)
