"""Quantile levels and the target window are the forecaster's own: other ones go through every door."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask

from kappawatt.bus import Bus
from kappawatt.errors import SettingInvalid
from kappawatt.evaluation.backtest import Plan, run_backtest
from kappawatt.evaluation.backtest_report import write_backtest_report
from kappawatt.forecasting.calendar import DAY, HOUR, Times, as_instant, day_intervals, same_local_time
from kappawatt.forecasting.fan import LEVELS, Fan, level_name, level_text
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import History, Past
from kappawatt.forecasting.model import ForecastModel, open_forecaster
from kappawatt.forecasting.request import example_request, read_forecast_request
from kappawatt.forecasting.training import save_trained
from kappawatt.forecasting.window import LocalDays, NextIntervals, Window
from kappawatt.models.artifact import find_artifact
from kappawatt.models.publish import Trained
from kappawatt.models.scores import crps
from kappawatt.serving.app import create_app
from kappawatt.serving.kinds import forecasts
from kappawatt.settings import Settings
from kappawatt.streams.load import LOAD, STREAM
from kappawatt.streams.series import forecast_schema
from kappawatt.worker.forecasting import Forecasting
from tests.conftest import everything
from tests.forecast_fakes import FORECASTER, ZONE, hours, loads
from tests.unit.evaluation.test_backtest import series
from tests.unit.worker.test_forecast_worker import READINGS, block, event, publish, run

THREE = (0.1, 0.5, 0.9)
SIX_HOURS = ("00:00", "06:00", "12:00", "18:00")
NOON = as_instant("2016-07-19T16:00")  # in New York


def forecast(offset: float, past: Past, targets: Times) -> Fan:
    """The mean of the same local time on earlier days, at three levels."""
    days = np.array([past.at(same_local_time(targets, past.time_zone, days)) for days in range(3, 10)])
    return Fan(np.nanmean(days, axis=0)[:, None] + offset + (np.array(THREE) - 0.5) * 1000, levels=THREE)


def forecaster_of(window: Window, issue_times: tuple[str, ...]) -> Forecaster:
    return replace(
        FORECASTER,
        response=forecast_schema("Three", "Three levels.", LOAD, levels=THREE),
        issue_times=issue_times,
        forecast=forecast,
        levels=THREE,
        window=window,
    )


TWO_DAYS, NEXT_SIX = forecaster_of(LocalDays(2), ("12:00",)), forecaster_of(NextIntervals(6), SIX_HOURS)
CASES = {"two days": (TWO_DAYS, 48), "the next six hours": (NEXT_SIX, 6)}


def artifacts(folder: Path, forecaster: Forecaster) -> Path:
    artifact = save_trained(folder, forecaster, Trained("default", {"offset.txt": b"0.0"}, {}, {}, ()))
    (folder / "CURRENT").write_text(artifact.manifest.version)
    return folder


def app_of(forecaster: Forecaster, settings: Settings) -> Flask:
    artifacts(settings.artifacts, forecaster)
    stream = replace(STREAM, service=forecaster.name, levels=THREE)
    return create_app(forecasts(forecaster, summary="Another window.", port=8996, stream=stream), settings)


def test_a_stream_of_other_levels_is_refused_though_nobody_trains_the_forecaster() -> None:
    stream = replace(STREAM, service=TWO_DAYS.name, levels=LEVELS)

    with pytest.raises(SettingInvalid, match="levels"):
        forecasts(TWO_DAYS, summary="Another window.", port=8996, stream=stream)


def model_of(folder: Path, forecaster: Forecaster) -> ForecastModel:
    return open_forecaster(forecaster, find_artifact(artifacts(folder, forecaster)))


def known(until: np.datetime64, days: int = 30) -> History:
    history = History("PJME", ZONE, 3600)
    times = np.arange(until - days * DAY, until, HOUR)
    history.add(times, loads(times))
    return history


def rows_of(past: Past) -> list[dict[str, Any]]:
    """What was measured, as rows of a request."""
    return [{"interval_start": f"{t}Z", "load": v} for t, v in zip(past.times, past.values.tolist(), strict=True)]


def targets_of(forecaster: Forecaster) -> Times:
    """What is forecast at noon."""
    return forecaster.window.targets(np.datetime64("2016-07-20"), NOON, ZONE, 3600)


@pytest.mark.parametrize(("forecaster", "n"), CASES.values(), ids=CASES.keys())
def test_a_forecast_has_the_forecaster_s_levels_and_window(forecaster: Forecaster, n: int, settings: Settings) -> None:
    body = example_request(forecaster, "PJME")
    history, targets, issue_time = read_forecast_request(body, forecaster)

    found = app_of(forecaster, settings).test_client().post("/forecast", json=body)

    assert found.status_code == 200, found.data
    expected = forecast(0.0, history.until(issue_time), targets).quantiles
    assert list(found.json["quantiles"]) == ["0.10", "0.50", "0.90"]
    np.testing.assert_allclose(np.array(list(found.json["quantiles"].values())).T, expected, rtol=1e-6)
    assert found.json["target_time"] == [f"{t.astype('datetime64[s]')}Z" for t in targets]
    assert (len(targets), targets[0] >= issue_time) == (n, True)
    assert found.json["fallback"] is False


@pytest.mark.parametrize(("forecaster", "n"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("is_issued_then", [True, False])
def test_rows_are_forecast_by_the_same_windows(
    forecaster: Forecaster, n: int, is_issued_then: bool, settings: Settings
) -> None:
    history, targets, issue_time = read_forecast_request(example_request(forecaster, "PJME"), forecaster)
    past = history.until(issue_time)
    said = {"issue_time": f"{issue_time}Z"} if is_issued_then else {}
    rows = rows_of(past) + [{"interval_start": f"{t}Z", **said} for t in targets[1:]]

    found = app_of(forecaster, settings).test_client().post("/predict", json=rows)

    assert found.status_code == 200, found.json
    quantiles = [[row[level_name(q)] for q in THREE] for row in found.json["predictions"][-n + 1 :]]
    whole = forecast(0.0, past, targets).quantiles[1:]
    assert quantiles == whole.tolist()
    assert {row["load"] for row in found.json["predictions"][:-n]} == {None}


def test_rows_of_four_days_are_two_windows_of_two(tmp_path: Path) -> None:
    history = known(NOON)
    issued = model_of(tmp_path, replace(TWO_DAYS, window=LocalDays(2, longest_lead=90 * HOUR)))
    past = history.until(NOON)
    starts = np.concatenate([day_intervals(np.datetime64("2016-07-20") + i, ZONE, 3600) for i in range(4)])
    columns = {
        "interval_start": np.concatenate([past.times, starts]),
        "load": np.concatenate([past.values, np.full(len(starts), np.nan)]),
    }
    batch = TWO_DAYS.request.check(columns, len(columns["load"]))

    answer = issued.answer(batch)

    expected = np.concatenate([forecast(0.0, past, part).quantiles for part in (starts[:48], starts[48:])])
    got = np.column_stack([answer.columns[level_name(q)] for q in THREE])[-96:]
    assert not answer.rejections
    assert np.array_equal(got[:72], expected[:72])
    assert np.isfinite(got).all()


def test_an_hour_outside_the_next_six_is_refused_and_says_which_are_forecast(settings: Settings) -> None:
    history, targets, issue_time = read_forecast_request(example_request(NEXT_SIX, "PJME"), NEXT_SIX)
    past = history.until(issue_time)
    rows = rows_of(past) + [{"interval_start": f"{t}Z"} for t in (targets[0], targets[-1] + HOUR)]

    found = app_of(NEXT_SIX, settings).test_client().post("/predict", json=rows)

    assert found.status_code == 422
    assert found.json["rejected"] == 1
    assert found.json["errors"][0]["allowed"] == (
        "2016-07-06T04:00:00Z to 2016-07-06T09:00:00Z, which is what is forecast at 2016-07-06T04:00:00Z"
    )
    assert found.json["predictions"][-2]["load"] is not None


def test_a_window_without_a_day_takes_no_target_date(settings: Settings) -> None:
    app = app_of(NEXT_SIX, settings)

    found = app.test_client().post("/forecast", json=example_request(NEXT_SIX, "PJME") | {"target_date": "2016-07-06"})

    operation = app.test_client().get("/openapi.json").json["paths"]["/forecast"]["post"]
    assert found.status_code == 400
    assert "target_date: got an unknown field" in found.json["detail"]
    assert operation["summary"] == "Forecast load of one series for the next 6 intervals, or of a sum and its members"
    assert "3 quantiles for each interval" in operation["description"]


@pytest.mark.parametrize(("forecaster", "n"), CASES.values(), ids=CASES.keys())
def test_the_worker_issues_the_window_at_its_issue_times_and_scores_it(
    forecaster: Forecaster, n: int, bus: Bus, tmp_path: Path
) -> None:
    times = np.arange(NOON - 30 * DAY, NOON, HOUR)
    later = np.arange(NOON, NOON + 3 * DAY, HOUR)
    publish(bus, [block(times)])
    publish(bus, [event(t, float(v)) for t, v in zip(later, loads(later), strict=True)])
    model = model_of(tmp_path, forecaster)

    found = run(Forecasting(bus, model, STREAM, output="load.forecasts"), everything(bus, READINGS))

    issued = [d["issue_time"] for d in found["load.forecasts"]]
    every = 24 if n == 48 else 6
    expected = np.arange(NOON, NOON + 3 * DAY + HOUR, every * HOUR)
    assert issued == [f"{t.astype('datetime64[s]')}Z" for t in expected]
    assert {len(d["target_time"]) for d in found["load.forecasts"]} == {n}
    first = found["load.forecasts"][0]
    errors = [e for e in found["load.forecast-errors"] if e["id"].startswith(first["id"])]
    assert [e["target_time"] for e in errors] == first["target_time"]
    history = known(NOON + 3 * DAY, 33)
    targets = targets_of(forecaster)
    fan = forecast(0.0, history.until(NOON), targets)
    assert [(e["lower"], e["forecast"], e["upper"]) for e in errors] == [tuple(row) for row in fan.quantiles.tolist()]
    assert errors[0]["crps"] == crps(loads(targets[:1]), fan.quantiles[:1], THREE)


@pytest.mark.parametrize(("forecaster", "n"), CASES.values(), ids=CASES.keys())
def test_the_backtest_scores_the_window_at_its_levels(forecaster: Forecaster, n: int, tmp_path: Path) -> None:
    plan = Plan(np.datetime64("2016-03-01"), np.datetime64("2016-03-07"), "12:00", "never")

    result, again = (
        run_backtest(forecaster, lambda *_: 0.0, [series()], plan, folder=tmp_path, fingerprint="1") for _ in range(2)
    )

    assert {len(day.targets) for day in result.days} == {n}
    assert result.scores["n"] == 7 * n
    assert 0 <= result.scores["coverage_80"] <= 1
    assert result.scores["width_80"] == pytest.approx(800)
    assert "coverage_90" not in result.scores
    measured = np.concatenate([day.measured for day in result.days])
    quantiles = np.concatenate([day.quantiles for day in result.days])
    assert result.scores["crps"] == crps(measured, quantiles, THREE)
    assert {k: v for k, v in again.scores.items() if k != "seconds"} == {
        k: v for k, v in result.scores.items() if k != "seconds"
    }
    write_backtest_report(tmp_path / "report.html", result, source="here", series=[series()])
    page = (tmp_path / "report.html").read_text()
    assert "80 % interval holds" in page
    assert "10 to 90 %" in page


@pytest.mark.parametrize("forecaster", [TWO_DAYS, NEXT_SIX], ids=CASES.keys())
def test_the_fallback_has_the_same_levels(forecaster: Forecaster) -> None:
    history = known(NOON, 10)
    targets = targets_of(forecaster)

    issued = forecaster.issue(0.0, history.until(NOON), targets)

    assert "history: got 10.0 days" in str(issued.fallback)
    assert (issued.fan.levels, issued.fan.quantiles.shape) == (THREE, (len(targets), 3))


def test_a_model_at_other_levels_than_it_says_is_not_believed() -> None:
    other = replace(
        TWO_DAYS, forecast=lambda fitted, past, targets: replace(forecast(0.0, past, targets), levels=LEVELS)
    )
    targets = targets_of(other)

    issued = other.issue(0.0, known(NOON).until(NOON), targets)

    assert issued.fallback == "the model gave quantiles at other levels than it says"


@pytest.mark.parametrize("levels", [(), (0.1, 0.9), (0.5, 0.5), (0.9, 0.5, 0.1), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5001)])
def test_levels_rise_between_0_and_1_and_have_the_median(levels: tuple[float, ...]) -> None:
    with pytest.raises(SettingInvalid, match="levels: got"):
        replace(FORECASTER, levels=levels)


def test_a_response_without_a_field_for_a_level_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="quantile_025"):
        replace(FORECASTER, levels=(0.025, 0.5, 0.975))


def test_names_of_levels_stay_apart() -> None:
    assert [level_name(q) for q in (0.025, 0.03, 0.05, 0.5, 0.975)] == [
        "quantile_025",
        "quantile_03",
        "quantile_05",
        "quantile_50",
        "quantile_975",
    ]
    assert [level_text(q) for q in (0.025, 0.05, 0.5, 0.995)] == ["0.025", "0.05", "0.50", "0.995"]


@pytest.mark.parametrize("window", [LocalDays, NextIntervals])
def test_a_window_of_nothing_is_refused(window: Any) -> None:
    with pytest.raises(SettingInvalid, match="got 0, allowed 1 or more"):
        window(0)


def test_the_next_intervals_begin_where_the_local_clock_has_a_whole_step() -> None:
    issue = as_instant("2016-07-19T16:10")

    assert NextIntervals(2).targets(issue.astype("datetime64[D]"), issue, "Asia/Kolkata", 3600).tolist() == [
        as_instant("2016-07-19T16:30").item(),
        as_instant("2016-07-19T17:30").item(),
    ]
    assert hours("2016-07-19T17", 1)[0] == NextIntervals(1).targets(issue, issue, ZONE, 3600)[0]
