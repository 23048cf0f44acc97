"""The backtest: trains on what lies before, goes on where it stopped, scores as the definitions say."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kappawatt.cli.backtest import backtest_file
from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import SettingInvalid
from kappawatt.evaluation.backtest import Plan, Result, Rolling, run_backtest
from kappawatt.evaluation.days import score_days
from kappawatt.forecasting.calendar import DAY, HOUR, as_instant, day_start, issue_time, parse_clock, to_local
from kappawatt.forecasting.history import Past
from kappawatt.models.scores import crps, mape, pinball, smape
from kappawatt.streams.load import STREAM as LOAD
from tests import forecast_fakes as fakes
from tests.forecast_fakes import FORECASTER, ZONE, hours, loads

FIRST, LAST = np.datetime64("2016-03-01"), np.datetime64("2016-03-31")
PLAN = Plan(FIRST, LAST, "12:00", "weekly")


def series(key: str = "PJME", level: float = 30_000.0) -> SeriesFile:
    times = hours("2016-01-01T05", 24 * 100)
    return SeriesFile(
        key, ZONE, 3600, times, loads(times, level), np.full(len(times), np.datetime64("NaT", "ms")), stream=LOAD
    )


class Fits:
    """A fit that notes what it was given."""

    def __init__(self) -> None:
        self.pasts: list[Past] = []

    def __call__(self, pasts: Sequence[Past], clock: np.timedelta64, say: Any) -> float:
        self.pasts += pasts
        return 0.0


def run(folder: Path, fit: Any = None, plan: Plan = PLAN, data: Sequence[SeriesFile] | None = None) -> Result:
    return run_backtest(FORECASTER, fit or Fits(), data or [series()], plan, folder=folder, fingerprint="1")


def test_each_training_sees_only_what_was_known_when_its_first_day_was_issued(tmp_path: Path) -> None:
    fits = Fits()

    run(tmp_path, fits)

    ends = [past.end for past in fits.pasts]
    assert ends == [issue_time(FIRST + 7 * i, parse_clock("12:00"), ZONE) for i in range(5)]


def test_a_forecast_sees_nothing_after_its_issue_time(tmp_path: Path) -> None:
    data = series()
    cut = issue_time(np.datetime64("2016-03-15"), parse_clock("12:00"), ZONE)
    disturbed = replace(data, values=np.where(data.starts + HOUR > cut, data.values * 3, data.values))

    before = run(tmp_path / "a", data=[data]).days
    after = run(tmp_path / "b", data=[disturbed]).days

    for one, two in zip(before, after, strict=True):
        same = np.array_equal(one.quantiles, two.quantiles)
        assert same == (one.date <= np.datetime64("2016-03-15"))


def with_weather(*, forecast: bool) -> SeriesFile:
    data = series()
    measured = np.arange(len(data), dtype=float)
    told = {"temperature_forecast": measured + 0.5} if forecast else {}
    return replace(data, covariates={"temperature": measured, **told})


def covariates_of(weather: str, *, forecast: bool, folder: Path) -> Past:
    fits = Fits()
    run(folder, fits, replace(PLAN, weather=weather, retrain="never"), [with_weather(forecast=forecast)])
    return fits.pasts[0]


def test_forecast_weather_is_known_from_noon_of_the_day_before_and_measured_weather_at_its_end(tmp_path: Path) -> None:
    past = covariates_of("forecast", forecast=True, folder=tmp_path)

    known = past.covariates["temperature"]
    n = len(past)  # up to noon
    assert known[:n].tolist() == np.arange(n, dtype=float).tolist()
    assert known[n : n + 36].tolist() == (np.arange(n, n + 36) + 0.5).tolist()
    assert np.isnan(known[n + 36 :]).all()
    assert past.ahead["temperature"][:n].tolist() == (np.arange(n) + 0.5).tolist()


def test_perfect_weather_is_known_whenever_it_is(tmp_path: Path) -> None:
    past = covariates_of("perfect", forecast=True, folder=tmp_path)

    assert past.covariates["temperature"][: len(past) + 36].tolist() == np.arange(len(past) + 36.0).tolist()


def test_weather_is_left_out_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert covariates_of("none", forecast=True, folder=tmp_path).covariates == {}


def test_the_same_model_is_asked_without_weather_too(tmp_path: Path) -> None:
    """It sees none of it, on the same intervals; a run that goes on has the same digits."""
    asked: list[Past] = []

    def fan(fitted: Any, past: Past, targets: Any) -> Any:
        asked.append(past)
        return FORECASTER.forecast(fitted + 10 * bool(past.covariates), past, targets)

    forecaster = replace(FORECASTER, forecast=fan)
    plan = replace(PLAN, weather="perfect", retrain="never")
    first, again = (
        run_backtest(forecaster, Fits(), [with_weather(forecast=False)], plan, folder=tmp_path, fingerprint="1")
        for _ in range(2)
    )

    brought = first.scores["weather_brought"]
    assert brought == again.scores["weather_brought"]
    assert brought["with"]["n"] == brought["without"]["n"] == first.scores["n"]
    assert brought["with"]["mae"] == first.scores["mae"] != brought["without"]["mae"]
    assert {bool(past.ahead) for past in asked if not past.covariates} == {False}
    assert run(tmp_path / "none").scores["weather_brought"] is None


def test_a_file_without_forecasts_of_the_weather_is_no_forecast_weather(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match=r"--weather: got forecast.*temperature_forecast.*perfect or none"):
        covariates_of("forecast", forecast=False, folder=tmp_path)


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_scores(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    seen: list[int] = []

    class Stopped(Exception):
        pass

    def stop(done: int, total: int, what: str) -> None:
        if done == 10:
            raise Stopped

    with pytest.raises(Stopped):
        run_backtest(FORECASTER, Fits(), [series()], PLAN, folder=tmp_path / "part", fingerprint="1", progress=stop)
    (path,) = (tmp_path / "part").iterdir()
    path.write_text(path.read_text()[:-100])  # the machine went down in the middle of a line
    fits = Fits()
    resumed = run_backtest(
        FORECASTER, fits, [series()], PLAN, folder=tmp_path / "part", fingerprint="1",
        progress=lambda done, total, what: seen.append(done),
    )  # fmt: skip

    assert len(fits.pasts) == 4  # the first week was done but for its last days
    assert seen[0] == 9
    timeless = {"seconds"}
    assert {k: v for k, v in resumed.scores.items() if k not in timeless} == {
        k: v for k, v in whole.scores.items() if k not in timeless
    }


def test_days_of_other_data_or_code_are_not_taken_over(tmp_path: Path) -> None:
    run(tmp_path)
    fits = Fits()

    run_backtest(FORECASTER, fits, [series()], PLAN, folder=tmp_path, fingerprint="2")

    assert len(fits.pasts) == 5


def test_scores_are_those_of_the_definitions(tmp_path: Path) -> None:
    result = run(tmp_path)

    measured = np.concatenate([day.measured for day in result.days])
    quantiles = np.concatenate([day.quantiles for day in result.days])
    median, naive = quantiles[:, 9], np.concatenate([day.naive[:, 9] for day in result.days])
    s = result.scores
    assert s["n"] == len(measured) == 24 * 31 - 1  # a day of 23 hours is among them
    assert s["mae"] == pytest.approx(np.mean(np.abs(measured - median)))
    assert s["rmse"] == pytest.approx(np.sqrt(np.mean((measured - median) ** 2)))
    assert s["rmae"] == pytest.approx(np.mean(np.abs(measured - median)) / np.mean(np.abs(measured - naive)))
    assert s["coverage_90"] == pytest.approx(np.mean((measured >= quantiles[:, 0]) & (measured <= quantiles[:, 18])))
    assert s["width_90"] == pytest.approx(900.0)
    assert s["months"].keys() == {"2016-03"}
    assert (s["days"], s["refused_days"], s["fallback_days"]) == (31, 0, 0)


def test_the_naive_is_the_same_local_hour_of_the_week_before(tmp_path: Path) -> None:
    (day,) = (d for d in run(tmp_path).days if d.date == np.datetime64("2016-03-15"))

    # Clocks went forward on 13 March: the same wall clock a week before is 7 days and an hour earlier.
    assert np.allclose(day.naive[:, 9], loads(day.targets - 7 * DAY + HOUR))
    assert str(to_local(day.targets[:1], ZONE)[0]) == "2016-03-15T00:00:00.000"


def test_of_several_series_the_relative_scores_are_the_mean_of_their_own(tmp_path: Path) -> None:
    result = run(tmp_path, data=[series(), series("SMALL", 300.0)])

    own = [s["rmae"] for s in result.scores["by_series"].values()]
    assert result.scores["rmae"] == pytest.approx(np.mean(own))
    assert len(own) == 2


def test_a_day_without_enough_history_is_refused_and_counted(tmp_path: Path) -> None:
    data = series()
    hole = (data.starts >= as_instant("2016-03-10")) & (data.starts < as_instant("2016-03-12"))
    cut = replace(data, values=np.where(hole, np.nan, data.values))

    result = run(tmp_path, data=[cut])

    refused = [day for day in result.days if day.refused]
    assert result.scores["refused_days"] == len(refused) > 0
    assert all("missing in the last 7 days" in str(day.refused) for day in refused)


def test_without_anything_to_train_on_the_naive_answers(tmp_path: Path) -> None:
    from kappawatt.errors import HistoryInsufficient

    def fit(pasts: Sequence[Past], clock: np.timedelta64, say: Any) -> Any:
        raise HistoryInsufficient("too short")

    result = run(tmp_path, fit)

    assert result.scores["fallback_days"] == 31
    assert result.scores["rmae"] == pytest.approx(1.0)


@pytest.mark.parametrize(("first", "last"), [("2015-01-01", "2015-02-01"), ("2016-09-01", "2016-09-05")])
def test_a_span_outside_of_the_data_is_named(tmp_path: Path, first: str, last: str) -> None:
    with pytest.raises(SettingInvalid, match="allowed days of PJME after 2016-01-01"):
        run(tmp_path, plan=Plan(np.datetime64(first), np.datetime64(last)))


def test_a_span_that_ends_before_it_begins_is_named() -> None:
    with pytest.raises(SettingInvalid, match="--to"):
        Plan(LAST, FIRST)


def test_published_values_are_known_only_from_then_on(tmp_path: Path) -> None:
    data = series()
    midnight = day_start(to_local(data.starts, ZONE).astype("datetime64[D]") + 1, ZONE)
    published = replace(data, known=midnight + 6 * HOUR)  # a day's values come next morning

    fits = Fits()
    run(tmp_path, fits, plan=replace(PLAN, known="published"), data=[published])

    first = fits.pasts[0]
    assert first.issue_time == issue_time(FIRST, parse_clock("12:00"), ZONE)
    assert first.end == day_start(np.array([FIRST - 1]), ZONE)[0]


def write_file(path: Path) -> None:
    """A PJM file: hour-ending labels of local time, newest day first."""
    data = series()
    labels = to_local(data.starts + HOUR, ZONE)
    rows = sorted(
        zip(labels.astype("datetime64[D]"), labels, data.values, strict=True), key=lambda r: r[0], reverse=True
    )
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Datetime", "PJME_MW"])
        for _, label, value in rows:
            writer.writerow([np.datetime_as_string(label, unit="s").replace("T", " "), value])


def test_a_file_becomes_scores_and_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "PJME_hourly.csv.gz"
    write_file(path)
    service = replace(fakes.SERVICE, name="plant-power")  # a folder with code, for the fingerprint

    backtest_file(
        service,
        Rolling(fakes.FORECASTER, Fits(), "weekly"),
        path,
        first=datetime(2016, 3, 1),
        last=datetime(2016, 3, 31),
        issue="12:00",
        retrain=None,
        known="end",
        weather="none",
        key="",
        time_zone="",
        report=tmp_path / "r" / "report.html",
        folder=tmp_path / "kept",
        fresh=False,
        as_json=True,
    )

    (line,) = capsys.readouterr().out.splitlines()
    scores = json.loads(line)
    assert {"n", "mae", "rmse", "mape", "smape", "rmae", "crps", "coverage_90"} <= scores.keys()
    assert scores["series"] == ["PJME"]
    assert json.loads((tmp_path / "r" / "scores.json").read_text())["mae"] == scores["mae"]
    page = (tmp_path / "r" / "report.html").read_text()
    for part in ("By month", "Reliab", "The worst days", "rMAE", "<svg"):
        assert part in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_metrics_have_the_values_worked_out_by_hand() -> None:
    measured = np.array([2.0, 4.0])
    quantiles = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])

    # losses of the first row: 0.25*1, 0, 0.25*1; of the second: 0, 0.5*1, 0.25*2
    assert pinball(measured, quantiles, (0.25, 0.5, 0.75)) == pytest.approx((0.25 + 0.25 + 0.5 + 0.5) / 6)
    assert crps(measured, quantiles, (0.25, 0.5, 0.75)) == pytest.approx(2 * 1.5 / 6)
    assert mape(measured, np.array([1.0, 5.0])) == pytest.approx(100 * (0.5 + 0.25) / 2)
    assert smape(np.array([0.0]), np.array([0.0])) == 0.0
    assert np.isnan(mape(np.array([0.0]), np.array([1.0])))


def test_scoring_nothing_is_an_error_and_no_number() -> None:
    with pytest.raises(SettingInvalid, match="no day with both"):
        score_days([], FORECASTER)
