"""When the seasonal naive is said to have been closer."""

from __future__ import annotations

import numpy as np
import pytest

from kappawatt.services.hourly_load.skill import naive_was_closer
from kappawatt.services.hourly_load.wall_clock import WallClock

DAYS = np.arange(60, 100)
LOAD = np.log(np.random.default_rng(7).uniform(900, 1_100, 100 * 24))
CLOCK = WallClock("UTC", np.datetime64("2025-01-01", "D"), LOAD, None)
MEASURED = LOAD.reshape(-1, 24)[DAYS]


def answers_off_by(share: float) -> np.ndarray:
    return MEASURED + share * (LOAD.reshape(-1, 24)[DAYS - 7] - MEASURED)


@pytest.mark.parametrize(("share", "is_said"), [(0.9, False), (1.1, True)])
def test_it_is_said_where_the_model_is_further_off(share: float, is_said: bool) -> None:
    assert (naive_was_closer(CLOCK, DAYS, answers_off_by(share), MEASURED) is not None) == is_said


def test_only_the_last_four_weeks_count() -> None:
    centre = answers_off_by(0.5)
    centre[:-28] += 1.0

    assert naive_was_closer(CLOCK, DAYS, centre, MEASURED) is None


@pytest.mark.parametrize(("known", "is_said"), [(14, True), (13, False)])
def test_of_too_few_days_nothing_is_said(known: int, is_said: bool) -> None:
    measured = MEASURED.copy()
    measured[:-known] = np.nan

    assert (naive_was_closer(CLOCK, DAYS, answers_off_by(1.5), measured) is not None) == is_said


def test_days_beyond_the_end_of_a_series_are_left_out() -> None:
    centre, measured = np.zeros((60, 24)), np.full((60, 24), np.nan)
    centre[:20], measured[:20] = answers_off_by(1.2)[-20:], MEASURED[-20:]

    assert naive_was_closer(CLOCK, np.arange(80, 140), centre, measured) is None


def test_of_the_first_week_of_a_series_nothing_is_said() -> None:
    early = np.arange(7)

    assert naive_was_closer(CLOCK, early, LOAD.reshape(-1, 24)[early], LOAD.reshape(-1, 24)[early]) is None
    assert naive_was_closer(CLOCK, early[:0], MEASURED[:0], MEASURED[:0]) is None
