"""A sum in a backtest: three ways on the same intervals, members before and after, by the same gate to the past."""

from __future__ import annotations

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
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.evaluation.backtest import Result, Rolling, run_backtest
from kappawatt.evaluation.sums import check_sum
from kappawatt.forecasting.calendar import HOUR, as_instant
from kappawatt.forecasting.group import SumHistory
from kappawatt.forecasting.history import History, Past
from tests import forecast_fakes as fakes
from tests.forecast_fakes import FORECASTER, ZONE, hours, loads
from tests.unit.evaluation.test_backtest import PLAN, Fits, series


def members(gap: slice = slice(0, 0)) -> list[SeriesFile]:
    east, west = series("EAST"), series("WEST", 5_000.0)
    values = west.values + 300 * np.random.default_rng(2).normal(0, 1, len(west))
    values[gap] = np.nan
    return [east, replace(west, values=values)]


def run(folder: Path, data: Sequence[SeriesFile], fit: Any = None) -> Result:
    how = {"folder": folder, "fingerprint": "1", "sum_name": "BOTH"}
    return run_backtest(FORECASTER, fit or Fits(), data, replace(PLAN, retrain="never"), **how)


def history(key: str, values: Any, start: str = "2016-06-01T04") -> History:
    found = History(key, ZONE, 3600)
    found.add(hours(start, len(values)), np.array(values, float))
    return found


def test_three_ways_on_the_same_intervals_and_members_before_and_after(tmp_path: Path) -> None:
    plain = run_backtest(FORECASTER, Fits(), members(), PLAN, folder=tmp_path / "plain", fingerprint="1")

    result = run(tmp_path / "sum", members())

    found = result.scores["sum"]
    assert (found["name"], found["adds_up"], found["days"]) == ("BOTH", "median", 31)
    counts = {scores["n"] for ways in (found["sum"], *found["members"].values()) for scores in ways.values()}
    assert counts == {plain.scores["n"] / 2}
    for key, ways in found["members"].items():
        assert ways["alone"]["mae"] == pytest.approx(plain.scores["by_series"][key]["mae"])
    assert found["sum"]["added_up"]["width_90"] == pytest.approx(2 * found["sum"]["alone"]["width_90"])  # 900 MW each


def test_other_scores_and_days_are_those_of_the_file_alone(tmp_path: Path) -> None:
    plain = run_backtest(
        FORECASTER, Fits(), members(), replace(PLAN, retrain="never"), folder=tmp_path / "a", fingerprint="1"
    )

    result = run(tmp_path / "b", members())

    ignored = ("sum", "seconds")
    assert {k: v for k, v in result.scores.items() if k not in ignored} == {
        k: v for k, v in plain.scores.items() if k not in ignored
    }
    assert [day.key for day in result.days] == [day.key for day in plain.days]


def test_only_intervals_that_all_have_a_measurement_of_count(tmp_path: Path) -> None:
    place = int(np.flatnonzero(series().starts == as_instant("2016-03-10T15"))[0])

    found = run(tmp_path, members(slice(place, place + 3))).scores["sum"]

    whole = run(tmp_path / "whole", members()).scores["sum"]
    for ways in (found["sum"], *found["members"].values()):
        assert {scores["n"] for scores in ways.values()} == {whole["sum"]["alone"]["n"] - 3}


def test_the_sum_is_trained_on_like_any_series_and_resumes(tmp_path: Path) -> None:
    fits = Fits()
    first = run(tmp_path, members(), fits)

    again = run(tmp_path, members(), lambda *_: pytest.fail("trained again"))

    assert [past.key for past in fits.pasts] == ["EAST", "WEST", "BOTH"]
    np.testing.assert_allclose(fits.pasts[2].values, fits.pasts[0].values + fits.pasts[1].values)
    assert again.scores["sum"] == first.scores["sum"]


def test_a_partial_sum_is_unknown_and_it_ends_where_the_first_member_does() -> None:
    one = history("a", [1, 2, 3, np.nan, 5, 6, 7])
    other = history("b", [10, 20, 30, 40, 50], start="2016-06-01T05")

    past: Past = SumHistory("both", [one, other], FORECASTER).until(as_instant("2016-06-02T00"))

    assert past.start == as_instant("2016-06-01T05")
    np.testing.assert_array_equal(past.values, [12, 23, np.nan, 45, 56])
    assert past.end == as_instant("2016-06-01T10")


def test_a_sum_sees_a_member_through_its_own_gate() -> None:
    values = np.arange(1.0, 25.0)
    late = history("a", values)
    late.add(hours("2016-06-01T04", 24)[3:4], np.array([99.0]), np.array([as_instant("2016-06-03T00")]))

    total = SumHistory("both", [late, history("b", values)], FORECASTER)

    assert total.until(as_instant("2016-06-02T00")).values[3] == 8
    assert total.until(as_instant("2016-06-02T00"), as_instant("2016-06-03T00")).values[3] == 103
    assert len(total.until(as_instant("2016-06-01T10"))) == 6
    moment = as_instant("2016-06-01T07")
    assert total.measured([moment, moment + 90 * HOUR]) == {moment: 103}


def test_what_a_member_has_that_nobody_should_believe_is_unknown_to_the_sum() -> None:
    from kappawatt.services.hourly_load.forecaster import FORECASTER as HOURLY_LOAD

    times = hours("2016-05-01T04", 24 * 40)
    values = loads(times)
    spoilt = values.copy()
    spoilt[-50] *= 10
    total = SumHistory(
        "both", [history("a", 50 * values, "2016-05-01T04"), history("b", spoilt, "2016-05-01T04")], HOURLY_LOAD
    )

    past = total.until(times[-1] + HOUR)

    assert np.flatnonzero(np.isnan(past.values)).tolist() == [len(times) - 50]


def test_members_by_other_clocks_or_grids_have_no_sum() -> None:
    other = History("b", "UTC", 3600)
    other.add(hours("2016-06-01T04", 3), np.ones(3))
    off = History("c", ZONE, 3600)
    off.add(hours("2016-06-01T04:30", 3), np.ones(3))

    with pytest.raises(PayloadInvalid, match=r"members\[1\] \(b\): time_zone: got UTC, allowed America/New_York"):
        SumHistory("both", [history("a", [1]), other], FORECASTER)
    with pytest.raises(PayloadInvalid, match=r"members\[1\] \(c\): history.start: got 2016-06-01T04:30"):
        SumHistory("both", [history("a", [1]), off], FORECASTER)


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        ([series()], "BOTH", "--sum: got 1 series, allowed a file of two or more"),
        ([series("EAST"), series("WEST")], "WEST", "--sum: got 'WEST', allowed a name that no series of the file has"),
        ([series("EAST"), replace(series("WEST"), step=900)], "BOTH", "--sum: got WEST every 900 s, allowed 3600 s"),
        ([series("EAST"), replace(series("WEST"), time_zone="UTC")], "BOTH", "--sum: got WEST by the clock of UTC"),
    ],
    ids=["one series", "a name twice", "another length", "another clock"],
)
def test_a_sum_that_a_file_has_not_is_refused(data: list[SeriesFile], name: str, said: str) -> None:
    with pytest.raises(SettingInvalid, match=said):
        check_sum(name, data)


def test_the_command_says_it_in_words_scores_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    east, west = members()
    path = tmp_path / "zones.csv"
    rows = [f"{t}Z,{a},{b}" for t, a, b in zip(east.starts, east.values, west.values, strict=True)]
    path.write_text("\n".join(["time,EAST_MW,WEST_MW", *rows]))
    how: dict[str, Any] = {
        "first": datetime(2016, 3, 1), "last": datetime(2016, 3, 7), "issue": "12:00", "retrain": None, "known": "end",
        "weather": "none", "key": "", "time_zone": ZONE, "labels": "start", "folder": tmp_path / "kept",
        "fresh": False, "report": tmp_path / "report.html", "sum_name": "BOTH",
    }  # fmt: skip
    service = replace(fakes.SERVICE, name="plant-power")  # a folder with code, for the fingerprint
    rolling = Rolling(fakes.FORECASTER, Fits(), "never")

    for as_json in (True, False):
        backtest_file(service, rolling, path, as_json=as_json, **how)

    line, *words = capsys.readouterr().out.splitlines()
    found = json.loads(line)["sum"]
    assert set(found["sum"]) == {"alone", "added_up", "reconciled"}
    assert json.loads((tmp_path / "scores.json").read_text())["sum"] == found
    assert sum(text.startswith("BOTH ") for text in words) == 3
    assert "<h2>The sum</h2>" in (tmp_path / "report.html").read_text()
    with pytest.raises(SettingInvalid, match="--sum: got BOTH and --lead 1, allowed one of the two"):
        backtest_file(service, replace(rolling, fit_any_lead=Fits(), forecaster=any_lead()), path, as_json=True,
                      **{**how, "lead": "1", "issue": None})  # fmt: skip


def any_lead() -> Any:
    from tests.contract.test_horizons import ANY_LEAD

    return ANY_LEAD
