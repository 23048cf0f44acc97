"""The backtest by lead: each interval as it was forecast so long before it ended, and whole days ahead."""

from __future__ import annotations

import json
import re
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
from kappawatt.evaluation.backtest_report import write_backtest_report
from kappawatt.evaluation.leads import leads_of, run_leads
from kappawatt.forecasting.calendar import DAY, HOUR, Times
from kappawatt.forecasting.fan import Fan
from kappawatt.forecasting.history import Past
from kappawatt.forecasting.window import LocalDays
from tests import forecast_fakes as fakes
from tests.forecast_fakes import FORECASTER, SPREAD
from tests.unit.evaluation.test_backtest import Fits, series, write_file

PLAN = Plan(np.datetime64("2016-03-10"), np.datetime64("2016-03-14"), "12:00", "never")  # the clock changes on the 13th


def forecast(offset: float, past: Past, targets: Times) -> Fan:
    """The newest value: off by more the longer ago it is, if the load only rises."""
    return Fan(np.full(len(targets), past.values[-1])[:, None] + offset + SPREAD)


ANY_LEAD = replace(FORECASTER, forecast=forecast, window=LocalDays(longest_lead=7 * DAY, within_day=True))


def rising() -> SeriesFile:
    """One MW more each hour."""
    one = series()
    return replace(one, values=30_000 + np.arange(len(one)).astype(float))


def by_lead(folder: Path, lead: str, data: SeriesFile | None = None, fit: Any = None) -> Result:
    return run_leads(ANY_LEAD, fit or Fits(), [data or rising()], PLAN, lead, folder=folder, fingerprint="1")


@pytest.mark.parametrize("lead", [1, 7, 30, 168])
def test_each_interval_is_forecast_that_long_before_it_ends(lead: int, tmp_path: Path) -> None:
    scores = by_lead(tmp_path, str(lead)).scores

    assert (scores["mae"], scores["bias"]) == (lead, -lead)
    assert scores["n"] == 4 * 24 + 23
    assert [line["lead"] for line in scores["leads"]] == [f"{lead} h"]
    assert scores["leads"][0]["mae"] == lead


def test_all_is_a_table_from_the_next_hour_to_seven_days_ahead(tmp_path: Path) -> None:
    scores = by_lead(tmp_path, "all").scores

    found = {line["lead"]: line["mae"] for line in scores["leads"]}
    assert [found[f"{lead} h"] for lead in (1, 2, 3, 4, 24)] == [1, 2, 3, 4, 24]
    assert found["1 to 4 h"] == 2.5
    assert found["day 2"] - found["day 1"] == pytest.approx(24, abs=0.5)
    assert len(found) == 9 + 1 + 7
    assert scores["lead"] == "all"


def test_the_first_day_ahead_is_the_ordinary_backtest(tmp_path: Path) -> None:
    ordinary = run_backtest(ANY_LEAD, Fits(), [rising()], PLAN, folder=tmp_path / "b", fingerprint="1").scores

    scores = by_lead(tmp_path / "a", "all").scores

    assert {name: scores[name] for name in ("n", "mae", "crps", "months")} == {
        name: ordinary[name] for name in ("n", "mae", "crps", "months")
    }


def test_a_forecast_at_a_lead_sees_nothing_that_is_nearer(tmp_path: Path) -> None:
    data = rising()
    cut = np.datetime64("2016-03-12T10:00", "ms")
    disturbed = replace(data, values=np.where(data.starts + HOUR > cut, data.values * 1.3, data.values))

    before = by_lead(tmp_path / "a", "6", data).days
    after = by_lead(tmp_path / "b", "6", disturbed).days

    for one, two in zip(before, after, strict=True):
        same = (one.quantiles == two.quantiles).all(axis=1)
        np.testing.assert_array_equal(same, one.targets + HOUR - 6 * HOUR <= cut)


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_scores(tmp_path: Path) -> None:
    whole = by_lead(tmp_path / "a", "all").scores
    done: list[int] = []

    def stop(count: int, total: int, what: str) -> None:
        done.append(count)
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_leads(ANY_LEAD, Fits(), [rising()], PLAN, "all", folder=tmp_path / "b", fingerprint="1", progress=stop)
    fits = Fits()
    again = by_lead(tmp_path / "b", "all", fit=fits).scores

    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in whole.items() if k != "seconds"}
    fits = Fits()
    by_lead(tmp_path / "b", "all", fit=fits)
    assert fits.pasts == []  # all is kept


def test_hours_that_cannot_be_forecast_are_not_scored(tmp_path: Path) -> None:
    data = rising()
    gap = (data.starts >= np.datetime64("2016-03-03T12")) & (data.starts < np.datetime64("2016-03-04T23"))
    missing = replace(data, values=np.where(gap, np.nan, data.values))

    result = by_lead(tmp_path, "1", missing)

    first, *others = (int(np.isfinite(day.measured).sum()) for day in result.days)
    assert 0 < first < 24  # until then more than a day of the last seven was missing
    assert others == [24, 24, 23, 24]
    assert result.scores["n"] == first + 95


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "--lead: got '0', allowed all, or 1 to 168 h in whole steps of 3600 s"),
        ("169", "--lead: got '169'"),
        ("1.5", "--lead: got '1.5'"),
        ("next", "--lead: got 'next'"),
        ("nan", "--lead: got 'nan'"),
    ],
)
def test_a_lead_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(SettingInvalid, match=said):
        leads_of(text, ANY_LEAD, 3600)


def test_quarter_hours_have_leads_of_quarter_hours_and_whole_days_have_none() -> None:
    assert leads_of("0.25", ANY_LEAD, 900) == (0.25,)
    with pytest.raises(SettingInvalid, match="fake-load forecasts one local day at its issue times alone"):
        leads_of("1", FORECASTER, 3600)


def test_the_report_has_a_line_for_each_lead(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = by_lead(tmp_path, "all")

    write_backtest_report(tmp_path / "r.html", result, source="made up", series=[series()])

    text = (tmp_path / "r.html").read_text()
    assert "By lead" in text
    assert all(line["lead"] in text for line in result.scores["leads"])


def backtest(tmp_path: Path, lead: str, issue: str | None, rolling: Rolling) -> Result:
    path = tmp_path / "PJME_hourly.csv.gz"
    write_file(path)
    return backtest_file(
        replace(fakes.SERVICE, name="plant-power"),  # a folder with code, for the fingerprint
        rolling,
        path,
        first=datetime(2016, 3, 10),
        last=datetime(2016, 3, 12),
        issue=issue,
        retrain="never",
        known="end",
        weather="none",
        key="",
        lead=lead,
        time_zone="",
        report=tmp_path / "r" / "report.html",
        folder=tmp_path / "kept",
        fresh=False,
        as_json=True,
    )


def test_the_command_trains_for_any_lead_and_prints_a_line_for_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fits, other = Fits(), Fits()

    backtest(tmp_path, "all", None, Rolling(ANY_LEAD, other, "weekly", fits))

    scores = json.loads(capsys.readouterr().out)
    assert [line["lead"] for line in scores["leads"]][:2] == ["1 h", "2 h"]
    assert {"n", "mae", "mape", "rmae", "crps", "coverage_90", "width_90"} <= scores["leads"][0].keys()
    assert (len(fits.pasts), other.pasts) == (1, [])


@pytest.mark.parametrize(
    ("lead", "issue", "rolling", "said"),
    [
        ("0", None, Rolling(ANY_LEAD, Fits(), "weekly", Fits()), "--lead: got '0', allowed all"),
        ("4", "06:00", Rolling(ANY_LEAD, Fits(), "weekly", Fits()), "--issue: got 06:00 and --lead 4, allowed one"),
        ("4", None, Rolling(ANY_LEAD, Fits(), "weekly"), "--lead: fake-load has no training for any lead"),
        ("all", None, Rolling(FORECASTER, Fits(), "weekly"), "--lead: fake-load forecasts one local day"),
    ],
    ids=["none", "and an issue time", "no training", "whole days only"],
)
def test_what_cannot_be_scored_is_refused_before_training(
    lead: str, issue: str | None, rolling: Rolling, said: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingInvalid, match=re.escape(said)):
        backtest(tmp_path, lead, issue, rolling)
