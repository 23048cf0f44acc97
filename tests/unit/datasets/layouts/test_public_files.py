"""Files as publishers gave them away, whole: counts, ends and changes of the clock that were counted by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.read import read_file
from kappawatt.errors import PayloadInvalid

pytestmark = pytest.mark.skipif(
    "KAPPAWATT_DATA" not in os.environ, reason="KAPPAWATT_DATA names no folder of data sets"
)
HOUR = np.timedelta64(1, "h")


def read(name: str) -> Found:
    return read_file(Path(os.environ["KAPPAWATT_DATA"]) / f"{name}.csv.gz")


def test_estonias_load_of_2023_in_utc() -> None:
    [series] = read("entsoe/ee_total_load_2023").series

    assert (series.key, len(series), series.values[0]) == ("EE", 8760, 777.0)
    assert (np.diff(series.starts) == HOUR).all()


def test_north_macedonias_load_of_2018_by_a_clock_that_changes() -> None:
    found = read("entsoe/mk_total_load_2018")
    [series] = found.series

    assert (series.key, len(series), found.problems) == ("MK", 8760, ())
    assert str(series.starts[0]) == "2017-12-31T23:00:00.000"
    assert (np.diff(series.starts) == HOUR).all()
    assert int(np.isnan(series.values).sum()) == 240


@pytest.mark.parametrize("name", ["entsoe/ee_wind_solar_forecast_2023", "entsoe/ee_energy_prices_2023"])
def test_forecasts_and_prices_are_refused_in_words(name: str) -> None:
    with pytest.raises(PayloadInvalid, match="allowed"):
        read(name)


def test_new_englands_load_has_24_rows_every_day() -> None:
    found = read("load_weather/gefcom2014e_2010_2013")
    [series] = found.series

    assert (series.key, series.time_zone, len(series)) == ("ISONE", "America/New_York", 35_064 - 4)
    assert str(series.starts[0]) == "2010-01-01T05:00:00.000"
    assert [fact.value for fact in found.facts if fact.name == "rows in skipped hours"] == ["4 left out"]


def test_three_companies_of_bigdeal() -> None:
    found = read("load_weather/bigdeal2022_final_to20180531")

    assert [(one.key, len(one), one.values[0]) for one in found.series] == [
        ("LDC1", 29_924, 207.186), ("LDC2", 29_924, 292.56), ("LDC3", 29_924, 1537.38)
    ]  # fmt: skip


def test_temperatures_of_stations_are_read_in_celsius_and_forecasts_where_there_are_any() -> None:
    company = read("load_weather/bigdeal2022_final_to20180531").series[0]
    [england] = read("load_weather/gefcom2014e_2010_2013").series

    assert sorted(company.covariates) == sorted(
        f"temperature_{i}{end}" for i in range(1, 7) for end in ("", "_forecast")
    )
    assert round(float(company.covariates["temperature_1"][0]), 3) == round((30 - 32) / 1.8, 3)
    told = np.isfinite(company.covariates["temperature_6_forecast"])
    assert str(company.starts[told][0]) == "2018-01-01T05:00:00.000"
    assert told.sum() == 151 * 24 - 1  # an hour is skipped in March
    assert list(england.covariates) == ["temperature"]
    assert round(float(england.covariates["temperature"][0]), 3) == round((24.33 - 32) / 1.8, 3)
