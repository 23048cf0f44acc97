"""Columns beside the load that may tell of it: weather by its name, anything else as a person names it."""

from __future__ import annotations

import numpy as np
import pytest

from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import Found, read_bytes
from kappawatt.errors import PayloadInvalid
from kappawatt.streams import load

HEAD = "time,load_mw,Temperature,relative_humidity,wind_speed_2,covariate_1,degree days,degree days_forecast,note"
ROWS = [
    f"2024-03-{4 + i // 24:02}T{i % 24:02}:00:00Z,{500 + i % 24},{i / 4},55,3.5,{i},{i * 2},{i * 3},x"
    for i in range(96)
]


def read(*lines: str, **options: object) -> Found:
    return read_bytes("\n".join(lines).encode(), Options.of(options), load.STREAM, name="zone.csv")


def test_weather_is_known_by_the_names_of_its_fields() -> None:
    [series] = read(HEAD, *ROWS).series

    assert set(series.covariates) == {"temperature", "relative_humidity", "wind_speed_2", "covariate_1"}
    assert series.covariates["wind_speed_2"].tolist() == [3.5] * 96
    np.testing.assert_array_equal(series.covariates["covariate_1"], np.arange(96.0))


def test_a_named_column_takes_the_next_number_and_its_forecast_goes_with_it() -> None:
    found = read(HEAD, *ROWS, covariate_column=("degree days",))

    [series] = found.series
    assert series.covariates["covariate_2"].tolist() == [2.0 * i for i in range(96)]
    assert series.covariates["covariate_2_forecast"].tolist() == [3.0 * i for i in range(96)]
    assert set(series.measured_covariates) >= {"covariate_1", "covariate_2"}
    [beside] = [fact for fact in found.facts if fact.name == "beside it"]
    assert "'degree days' as covariate_2" in beside.value


def test_a_named_column_is_not_measured_even_if_it_looks_so() -> None:
    [series] = read("time,load_mw,neighbour_mw", *[f"{row.split(',')[0]},500,{i}" for i, row in enumerate(ROWS)],
                    covariate_column=("neighbour_mw",)).series  # fmt: skip

    assert list(series.covariates) == ["covariate_1"]
    assert series.values.tolist() == [500.0] * 96


def test_what_a_field_cannot_have_is_missing_and_said() -> None:
    rows = [row.replace(",55,", ",155,") if i == 7 else row for i, row in enumerate(ROWS)]

    found = read(HEAD, *rows)

    assert np.isnan(found.series[0].covariates["relative_humidity"]).tolist() == [i == 7 for i in range(96)]
    [fact] = [fact for fact in found.facts if fact.name == "taken as missing"]
    assert (fact.value, fact.because) == (
        "1 cells of 'relative_humidity', first 155",
        "relative_humidity is from 0 to 100 %",
    )


@pytest.mark.parametrize("name", ["degrees", "note"])
def test_a_column_that_is_not_there_or_holds_no_numbers_is_named(name: str) -> None:
    with pytest.raises(PayloadInvalid, match=f"--covariate-column: got '{name}', allowed a column of numbers: load_mw"):
        read(HEAD, *ROWS, covariate_column=(name,))


def test_a_publishers_layout_takes_none() -> None:
    lines = ["Datetime,PJME_MW", *[f"2016-01-{1 + i // 24:02} {i % 24:02}:00:00,{30_000 + i}" for i in range(1, 96)]]

    with pytest.raises(PayloadInvalid, match="--covariate-column: got 'wind', allowed none of one's own"):
        read(*lines, covariate_column=("wind",))
