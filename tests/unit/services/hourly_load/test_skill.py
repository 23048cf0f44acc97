"""When the seasonal naive is said to have been closer, and what the answer is then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kappawatt.services.hourly_load.skill import Leaning, lean_on_naive
from kappawatt.services.hourly_load.wall_clock import WallClock

DAYS = np.arange(60, 100)
LOAD = np.log(np.random.default_rng(7).uniform(900, 1_100, 100 * 24))
CLOCK = WallClock("UTC", np.datetime64("2025-01-01", "D"), LOAD, None)
BY_DAY = LOAD.reshape(-1, 24)
MEASURED = BY_DAY[DAYS]


def answers_off_by(share: float) -> NDArray[np.float64]:
    """Answers that are off by so many times what the naive is off by."""
    found: NDArray[np.float64] = MEASURED + share * (BY_DAY[DAYS - 7] - MEASURED)
    return found


def leaning(centre: NDArray[np.float64], measured: NDArray[np.float64] = MEASURED[:-1], **more: Any) -> Leaning:
    return lean_on_naive(CLOCK, DAYS, centre, measured, 12, **more)


def test_where_the_model_is_closer_the_answer_is_its_own() -> None:
    centre = answers_off_by(0.9)

    found = leaning(centre)

    assert found.warning is None
    assert found.centre is centre


def test_where_the_naive_is_closer_it_is_said_and_the_answer_is_as_it_would_have_been_best() -> None:
    centre = answers_off_by(1.1)

    found = leaning(centre)

    assert found.warning is not None
    assert found.warning.code == "naive_closer"
    assert "the answer is 100 % the naive's" in found.warning.detail
    np.testing.assert_allclose(found.centre, BY_DAY[DAYS - 7])


def test_errors_that_have_nothing_to_do_with_each_other_are_averaged() -> None:
    noise = np.random.default_rng(1).normal(0, 1.05 * float((BY_DAY[DAYS] - BY_DAY[DAYS - 7]).std()), MEASURED.shape)

    found = leaning(MEASURED + noise)

    assert found.warning is not None
    assert np.abs(found.centre - MEASURED).mean() < 0.8 * np.abs(BY_DAY[DAYS - 7] - MEASURED).mean()


def test_where_it_may_not_lean_it_only_says_so() -> None:
    centre = answers_off_by(1.1)

    found = leaning(centre, may_lean=False)

    assert found.warning is not None
    assert "the answer is" not in found.warning.detail
    assert found.centre is centre


@pytest.mark.parametrize(("lead", "weeks"), [(0, 1), (144, 1), (145, 2), (312, 2), (313, 3)])
def test_no_week_is_taken_that_is_not_known_at_the_lead(lead: int, weeks: int) -> None:
    centre = MEASURED + 1.0

    found = lean_on_naive(CLOCK, DAYS, centre, MEASURED[:-1], lead)

    naive = BY_DAY[DAYS - 7 * weeks, -1]  # of the hour that is known last
    share = (centre[:, -1] - found.centre[:, -1]) / (centre[:, -1] - naive)
    np.testing.assert_allclose(share, share[0])
    assert 0.9 < share[0] <= 1.0


def test_only_the_last_four_weeks_count() -> None:
    centre = answers_off_by(0.5)
    centre[:-29] += 1.0

    assert leaning(centre).warning is None


@pytest.mark.parametrize(("known", "is_said"), [(14, True), (13, False)])
def test_of_too_few_days_nothing_is_said(known: int, is_said: bool) -> None:
    measured = MEASURED[:-1].copy()
    measured[:-known] = np.nan

    assert (leaning(answers_off_by(1.5), measured).warning is not None) == is_said


def test_days_beyond_either_end_of_a_series_are_left_out() -> None:
    early, late = np.arange(7), np.arange(80, 140)
    measured = np.full((59, 24), np.nan)
    measured[:20] = MEASURED[-20:]

    assert lean_on_naive(CLOCK, early, BY_DAY[early], BY_DAY[early][:-1], 0).warning is None
    assert lean_on_naive(CLOCK, late, np.zeros((60, 24)), measured, 0).warning is None
