"""What peers are given to forecast from: the same days as our backtest, nothing later, and a grid they can read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bench.forecast_job import Folds, folds_of, job
from kappawatt.datasets.series_files import SeriesFile
from kappawatt.evaluation.backtest import Plan
from kappawatt.forecasting.calendar import DAY, HOUR, Times, to_local
from tests.forecast_fakes import FORECASTER, ZONE, hours, loads

START = "2016-01-01T05"


def series(values: Any = None) -> SeriesFile:
    times = hours(START, 24 * 330)
    known = loads(times) if values is None else values
    return SeriesFile("PJME", ZONE, 3600, times, known, np.full(len(times), np.datetime64("NaT", "ms")))


def folds(first: str, last: str, one: SeriesFile | None = None, issue: str = "12:00", every: int = 1) -> Folds:
    plan = Plan(np.datetime64(first), np.datetime64(last), issue, "weekly")
    return folds_of(one or series(), plan, FORECASTER, every)


def test_the_intervals_ahead_are_those_of_the_day() -> None:
    found = folds("2016-03-01", "2016-03-20")

    document = job([found], wall_clock=False)

    start = np.datetime64(document["series"][0]["start"], "ms")
    for fold, day in zip(document["folds"], found.days, strict=True):
        times = start + (fold["cut"] + np.array(fold["ahead"])) * HOUR
        assert np.array_equal(times, day.targets)


@pytest.mark.parametrize(("issue", "lead"), [("12:00", 12), ("00:00", 0)])
def test_what_is_known_ends_at_the_issue_time(issue: str, lead: int) -> None:
    document = job([folds("2016-02-01", "2016-02-03", issue=issue)], wall_clock=False)

    assert [fold["ahead"][0] for fold in document["folds"]] == [lead] * 3


def test_every_fold_of_a_period_is_trained_on_what_its_first_day_knew() -> None:
    document = job([folds("2016-02-01", "2016-02-14", every=3)], wall_clock=False)

    found = [(fold["date"], fold["train_cut"]) for fold in document["folds"]]
    first = document["folds"][0]["cut"]
    assert found == [
        ("2016-02-01", first),
        ("2016-02-04", first),
        ("2016-02-07", first),
        ("2016-02-10", first + 7 * 24),
        ("2016-02-13", first + 7 * 24),
    ]


@pytest.mark.parametrize("wall_clock", [False, True], ids=["utc", "wall clock"])
def test_a_fold_holds_nothing_that_was_not_known_when_it_was_issued(wall_clock: bool) -> None:
    one = series()
    gap = (one.starts >= np.datetime64("2016-02-10T10")) & (one.starts < np.datetime64("2016-02-10T20"))
    one.values[gap] = np.nan  # the day issued at 17:00 UTC sees its first half only
    other = series(np.where(one.starts >= np.datetime64("2016-02-10T20"), 99_999.0, one.values))

    before, after = (job([folds("2016-02-11", "2016-02-11", s)], wall_clock=wall_clock) for s in (one, other))

    assert known(before) == known(after)
    assert before["series"][0]["values"] != after["series"][0]["values"]


def known(document: dict[str, Any]) -> list[float]:
    """What a peer's program takes of the series for the first fold."""
    fold = document["folds"][0]
    values: list[float] = document["series"][0]["values"][: fold["cut"]]
    for place, value in fold["patched"]:
        values[place] = value
    return [round(value, 3) for value in values]


def test_by_wall_clock_a_day_has_24_hours_and_noon_stays_noon() -> None:
    found = folds("2016-03-10", "2016-03-20")

    document = job([found], wall_clock=True)

    values = np.array(document["series"][0]["values"])
    local: Times = to_local(series().starts, ZONE)
    at_noon = local.astype("datetime64[h]").astype(np.int64) % 24 == 12
    start = np.datetime64(document["series"][0]["start"], "ms")
    assert np.allclose(values[((local[at_noon] - start) // HOUR).astype(int)], series().values[at_noon], rtol=1e-8)
    assert len(values) == (local[-1] - local[0]) // HOUR + 1


def test_both_hours_of_a_repeated_one_get_the_same_place() -> None:
    document = job([folds("2016-11-06", "2016-11-06")], wall_clock=True)

    ahead = document["folds"][0]["ahead"]
    assert len(ahead) == 25
    assert ahead[1] == ahead[2]


def test_a_job_is_plain_json() -> None:
    document = job([folds("2016-02-01", "2016-02-02")], wall_clock=True)

    assert json.loads(json.dumps(document))["folds"] == document["folds"]
    assert len(document["levels"]) == 19
    assert found_days(document) == ["2016-02-01", "2016-02-02"]


def found_days(document: dict[str, Any]) -> list[str]:
    return [fold["date"] for fold in document["folds"]]


def test_the_naive_of_a_fold_is_the_week_before() -> None:
    (day,) = folds("2016-02-01", "2016-02-01").days
    one = series()

    week_before = one.values[np.isin(one.starts, day.targets - 7 * DAY)]

    assert np.allclose(day.quantiles[:, 9], week_before)
    assert day.naive is day.quantiles
