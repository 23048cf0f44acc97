"""Load zones and meters by name: from a folder, else synthetic and loudly so."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kappawatt.datasets import named as datasets
from kappawatt.datasets.series import SeriesFile, past_of
from kappawatt.datasets.synthetic import holidays
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.forecasting.calendar import HOUR, day_intervals, local_date
from kappawatt.streams.load import STREAM as LOAD
from kappawatt.streams.meter import STREAM as METER


def test_without_a_folder_series_are_synthetic_and_say_so() -> None:
    for found in (datasets.load_zones(None), datasets.meters(None)):
        assert found.is_synthetic
        assert "SYNTHETIC" in found.provenance()["source"]
        assert all(series.key.startswith("synthetic-") for series in found.series)


def test_the_same_seed_gives_the_same_series() -> None:
    assert datasets.load_zones(None).sha256 == datasets.load_zones(None).sha256


@pytest.mark.parametrize(("day", "n"), [("2024-03-10", 23), ("2024-11-03", 25), ("2024-07-04", 24)])
def test_synthetic_days_have_the_hours_their_clock_has(day: str, n: int) -> None:
    [load] = datasets.load_zones(None).series
    hours, quarters = datasets.meters(None).series[1], datasets.meters(None).series[0]

    for series, share in ((load, 1), (quarters, 4), (hours, 2)):
        own = local_date(series.starts, series.time_zone) == np.datetime64(day)
        assert own.sum() == n * share
        assert series.starts[own].tolist() == day_intervals(np.datetime64(day), series.time_zone, series.step).tolist()


def test_a_synthetic_load_has_a_week_and_holidays_and_no_gap() -> None:
    [load] = datasets.load_zones(None).series
    days = local_date(load.starts, load.time_zone)
    daily = {day: load.values[days == day].mean() for day in np.unique(days)[:400]}
    is_sunday = {day: (day.astype(int) + 4) % 7 == 0 for day in daily}

    assert (np.diff(load.starts) == HOUR).all()
    assert np.isfinite(load.values).all()
    assert np.mean([v for d, v in daily.items() if is_sunday[d]]) < 0.97 * np.mean(list(daily.values()))
    fourth, third = np.datetime64("2023-07-04"), np.datetime64("2023-07-05")
    assert daily[fourth] < daily[third]


def test_a_synthetic_household_is_plausible() -> None:
    for meter in datasets.meters(None).series:
        yearly = meter.values.sum() / 3
        assert 6_000 < yearly < 20_000
        assert meter.values.min() >= 0


def test_holidays_fall_where_the_law_puts_them() -> None:
    days = {str(day) for day in holidays(2024, 2024)}

    assert {"2024-05-27", "2024-09-02", "2024-11-28", "2024-07-04"} <= days


def test_training_sees_the_weather_of_a_file_as_it_was_measured() -> None:
    starts = np.datetime64("2024-01-01", "ms") + np.arange(48) * HOUR
    measured = np.arange(48.0)
    covariates = {"temperature_1": measured, "temperature_2": measured + 1, "temperature_1_forecast": measured + 9}
    nothing = np.full(48, np.datetime64("NaT", "ms"))

    past = past_of(SeriesFile("Z", "UTC", 3600, starts, measured + 500, nothing, covariates, stream=LOAD))

    assert {name: column.tolist() for name, column in past.covariates.items()} == {
        "temperature_1": measured.tolist(),
        "temperature_2": (measured + 1).tolist(),
    }


def test_a_folder_without_series_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match=r"pjm_load/\*\.csv\.gz"):
        datasets.load_zones(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "smart_meter").mkdir()
    (tmp_path / "smart_meter" / "a.csv").write_text("no,header\n")

    with pytest.raises(PayloadInvalid, match=r"a\.csv"):
        datasets.meters(tmp_path)


@pytest.mark.skipif("KAPPAWATT_DATA" not in os.environ, reason="KAPPAWATT_DATA names no folder of data sets")
def test_the_folder_of_data_sets_has_zones_and_meters() -> None:
    folder = Path(os.environ["KAPPAWATT_DATA"])

    zones, meters = datasets.load_zones(folder), datasets.meters(folder)

    assert {"AEP", "DAYTON", "PJME"} <= {series.key for series in zones.series}
    assert all(series.stream is METER for series in meters.series)
    assert not zones.is_synthetic
