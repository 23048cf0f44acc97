"""Units that change within a series, and what is no such change."""

from __future__ import annotations

import numpy as np
import pytest

from kappawatt.datasets.jumps import unit_jumps

HOURS = np.arange("2024-02-05", "2024-02-15", dtype="datetime64[h]").astype("datetime64[ms]")
DAILY = 60 + 25 * np.sin(np.arange(240) * np.pi / 12)


@pytest.mark.parametrize("factor", [1000.0, 1e-3])
@pytest.mark.parametrize("at", [24, 130, 228])
def test_a_factor_of_1000_is_found_where_it_begins(factor: float, at: int) -> None:
    values = np.where(np.arange(240) < at, DAILY, DAILY * factor)

    [jump] = unit_jumps(HOURS, values, 3600)

    assert jump.start == HOURS[at]
    assert jump.after / jump.before == pytest.approx(factor, rel=0.6)


def test_missing_values_and_zeros_at_the_border_hide_no_jump() -> None:
    values = np.where(np.arange(240) < 100, DAILY, DAILY * 1000)
    values[98:103] = [np.nan, 0, np.nan, 0, np.nan]

    assert [jump.start for jump in unit_jumps(HOURS, values, 3600)] == [HOURS[103]]


@pytest.mark.parametrize("factor", [4.0, 60.0, 1e5])
def test_other_factors_are_no_change_of_a_unit(factor: float) -> None:
    assert unit_jumps(HOURS, np.where(np.arange(240) < 130, DAILY, DAILY * factor), 3600) == ()


def test_the_sun_in_the_morning_and_single_spikes_are_no_change_of_a_unit() -> None:
    sun = np.maximum(0, np.sin((np.arange(240) % 24 - 6) * np.pi / 12)) ** 4 * 900 + 0.4
    spiky = DAILY.copy()
    spiky[70:73] *= 1000

    assert unit_jumps(HOURS, sun, 3600) == ()
    assert unit_jumps(HOURS, spiky, 3600) == ()
