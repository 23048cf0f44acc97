"""Somebody's forecast that a file holds is scored beside the model, on the same intervals."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from kappawatt.cli.backtest import backtest_file
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.datasets.series import SeriesFile
from kappawatt.evaluation.backtest import Rolling
from kappawatt.evaluation.peers import score_peers
from tests import forecast_fakes as fakes
from tests.unit.evaluation.test_backtest import Fits, run, series

OPERATOR = "Day-ahead load forecast"


def with_forecast(off: float, known: slice = slice(None)) -> SeriesFile:
    one = series()
    said = np.full(len(one), np.nan)
    said[known] = one.values[known] + off
    return replace(one, forecasts={OPERATOR: said})


def test_it_is_scored_as_the_model_is(tmp_path: Path) -> None:
    data = with_forecast(100.0)
    result = run(tmp_path, data=[data])

    (found,) = score_peers(result.days, [data])

    assert (found["series"], found["forecast"], found["n"]) == ("PJME", OPERATOR, result.scores["n"])
    assert found["peer"]["mae"] == pytest.approx(100)
    assert found["peer"]["bias"] == pytest.approx(100)
    assert found["model"]["mae"] == pytest.approx(result.scores["mae"])


def test_only_intervals_that_both_forecast_and_somebody_measured_count(tmp_path: Path) -> None:
    data = with_forecast(100.0, slice(0, None, 2))
    values = data.values.copy()
    values[::50] = np.nan
    data = replace(data, values=values)
    result = run(tmp_path, data=[data])

    (found,) = score_peers(result.days, [data])

    targets = np.concatenate([day.targets for day in result.days])
    at = np.searchsorted(data.starts, targets)
    assert found["n"] == (np.isfinite(values[at]) & np.isfinite(data.forecasts[OPERATOR][at])).sum()


def test_the_newest_of_a_forecast_that_was_revised_counts(tmp_path: Path) -> None:
    data = with_forecast(100.0)
    twice = replace(
        data,
        starts=np.repeat(data.starts, 2),
        values=np.repeat(data.values, 2),
        known=np.repeat(data.known, 2),
        forecasts={OPERATOR: np.column_stack([data.values + 500, data.values + 7]).ravel()},
    )

    (found,) = score_peers(run(tmp_path, data=[twice]).days, [twice])

    assert found["peer"]["mae"] == pytest.approx(7)


def test_without_one_nothing_is_said(tmp_path: Path) -> None:
    data = with_forecast(0.0, slice(0, 0))

    assert score_peers(run(tmp_path, data=[data]).days, [data, series("AEP")]) == []


def read(header: str, cells: str, **said: str) -> list[SeriesFile]:
    rows = [f"2023-06-{5 + i // 24:02}T{i % 24:02}:00Z,{cells}" for i in range(72)]
    options = Options.of({"time_zone": "UTC", **said})
    return read_bytes("\n".join([header, *rows]).encode(), options, name="town.csv").series


def test_a_file_gives_forecasts_of_its_load_in_the_loads_unit() -> None:
    (one,) = read("time,load_mw,load_forecast_kw,predicted", "5,4000,6")

    assert {name: set(column) for name, column in one.forecasts.items()} == {
        "load_forecast_kw": {4.0},
        "predicted": {6},
    }


@pytest.mark.parametrize(
    "name", ["wind_forecast", "temperature_forecast", "solar day-ahead", "forecast_error", "peak_forecast", "da_price"]
)
def test_a_forecast_of_something_else_is_none_of_the_load(name: str) -> None:
    (one,) = read(f"time,load_mw,{name}", "5,4")

    assert one.forecasts == {}


def test_beside_several_loads_nobody_says_whose_it_is() -> None:
    assert [one.forecasts for one in read("time,north_mw,south_mw,forecast_mw", "5,6,11")] == [{}, {}]


def test_longer_intervals_have_the_mean_of_a_forecast_where_it_is_whole() -> None:
    rows = [f"2023-06-05T{i // 4:02}:{15 * (i % 4):02}Z,5,{'' if i == 5 else i}" for i in range(96)]
    text = "\n".join(["time,load_mw,forecast_mw", *rows]).encode()

    (one,) = read_bytes(text, Options.of({"time_zone": "UTC", "resample": "1h"}), name="town.csv").series

    np.testing.assert_array_equal(one.forecasts["forecast_mw"][:3], [1.5, np.nan, 9.5])


def test_the_command_says_it_in_words_scores_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = series()
    path = tmp_path / "town.csv"
    rows = [f"{start}Z,{value},{value + 250}" for start, value in zip(one.starts, one.values, strict=True)]
    path.write_text("\n".join(["time,load_mw,Operator's day-ahead forecast [MW]", *rows]))
    how = {
        "first": datetime(2016, 3, 1), "last": datetime(2016, 3, 7), "issue": "12:00", "retrain": None, "known": "end",
        "weather": "none", "key": "", "time_zone": fakes.ZONE, "labels": "start",
        "folder": tmp_path / "kept", "fresh": False,
        "report": tmp_path / "report.html",
    }  # fmt: skip
    service = replace(fakes.SERVICE, name="plant-power")  # a folder with code, for the fingerprint

    for as_json in (True, False):
        backtest_file(service, Rolling(fakes.FORECASTER, Fits(), "never"), path, as_json=as_json, **how)

    line, *words = capsys.readouterr().out.splitlines()
    (peer,) = json.loads(line)["peers"]
    assert peer["peer"]["mae"] == pytest.approx(250)
    assert json.loads((tmp_path / "scores.json").read_text())["peers"] == [peer]
    assert any(text.startswith("of the file") and "mae 250" in text for text in words)
    page = (tmp_path / "report.html").read_text()
    assert "Beside the forecast that the file holds" in page
    assert "Operator&#x27;s day-ahead forecast" in page
