"""The forecasting models against their bars, on real data, by the rolling backtest itself."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from kappawatt.cli.main import main
from kappawatt.datasets import named as datasets
from kappawatt.services.hourly_load.train import reproduce_published

FOLDER = os.environ.get("KAPPAWATT_DATA")
pytestmark = [
    pytest.mark.accuracy,
    pytest.mark.timeout(3_600),
    pytest.mark.skipif(not FOLDER, reason="KAPPAWATT_DATA names no folder of data sets"),
]


@dataclass(frozen=True)
class Run:
    """One backtest and what it is held to."""

    service: str
    file: str
    first: str
    last: str
    issue: str
    most: tuple[tuple[str, float], ...]  # score and the most it may be
    coverage: tuple[float, float]  # over the whole span
    months: int  # of those in it, how many have to hold 88 to 92 %

    def __str__(self) -> str:
        return f"{self.file.split('.')[0]}@{self.issue}"


PJME = "pjm_load/PJME_hourly_to2016.csv.gz"
METERS = tuple(f"smart_meter/lcl_MAC0000{n}_2013.csv.gz" for n in ("02", "03", "05", "20"))
TEXAS = "smart_meter/smt_meterA_IntervalData_to20221130.csv.gz"
YEAR, AUTUMN, LATE_2022 = ("2016-01-01", "2016-12-31"), ("2013-10-01", "2013-12-31"), ("2022-10-01", "2022-11-30")

# Targets: MAPE 4.9 % at noon and 3.4 % at midnight; rMAE 0.85. Each month of 2016 within 88 to 92 % is not reached in
# all twelve (see the model card): the bar says how many.
BARS = (
    Run("hourly-load", PJME, *YEAR, "12:00", (("mape", 4.9), ("rmae", 0.49)), (0.88, 0.92), 10),
    Run("hourly-load", PJME, *YEAR, "00:00", (("mape", 3.4), ("rmae", 0.33)), (0.88, 0.92), 10),
    *(
        Run("smart-meter", meter, *AUTUMN, "00:00", (("rmae", 0.75), ("rcrps", 0.70)), (0.85, 0.94), 1)
        for meter in METERS
    ),
    Run("smart-meter", TEXAS, *LATE_2022, "00:00", (("rmae", 0.65), ("rcrps", 0.60)), (0.85, 0.94), 1),
)
MOST_MEAN_RMAE = 0.70  # over the five meters; the target is 0.85
PUBLISHED_RMSE = 3_722.0  # MW, of the popular notebook, on a test span that ends in 2018
# As often as changes no bar: a zone trained once, before the year, has 4.74 % at noon, as each quarter. Of meters one
# (MAC000005) has no month within 88 to 92 % if it is trained each month, and two if each week or each second one.
RETRAIN = {"hourly-load": "never", "smart-meter": "fortnightly"}


@cache
def scores(run: Run) -> dict[str, Any]:
    """Run the command as a person would and read its line."""
    with TemporaryDirectory() as folder:
        span = ["--from", run.first, "--to", run.last, "--issue", run.issue]
        data = ["--data", str(Path(FOLDER or "") / run.file), "--folder", folder]
        arguments = ["backtest", run.service, *data, *span, "--retrain", RETRAIN[run.service], "--json"]
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def _together(run: Run) -> Any:
    """Tests that ask for the same scores run in one process: meters are compared, a zone's runs are long."""
    return pytest.param(run, marks=pytest.mark.xdist_group(str(run) if run.service == "hourly-load" else run.service))


RUNS = pytest.mark.parametrize("run", [_together(run) for run in BARS], ids=str)
METER_RUNS = pytest.mark.parametrize("run", [_together(run) for run in BARS if run.service == "smart-meter"], ids=str)


@RUNS
def test_a_forecast_keeps_its_bar(run: Run) -> None:
    found = scores(run)

    assert found["refused_days"] == found["fallback_days"] == 0
    for score, most in run.most:
        assert found[score] <= most, (score, found[score])
    low, high = run.coverage
    assert low <= found["coverage_90"] <= high
    inside = [month for month, s in found["months"].items() if 0.88 <= s["coverage_90"] <= 0.92]
    assert len(inside) >= run.months, {m: s["coverage_90"] for m, s in found["months"].items()}


@pytest.mark.xdist_group("smart-meter")
def test_the_mean_over_meters_keeps_the_target() -> None:
    assert np.mean([scores(run)["rmae"] for run in BARS if run.service == "smart-meter"]) <= MOST_MEAN_RMAE


@METER_RUNS
def test_total_and_peak_of_the_day_beat_last_weeks(run: Run) -> None:
    figures = scores(run)["day_figures"]
    assert {*figures} == {"daily_consumption", "daily_peak"}
    for name, figure in figures.items():
        assert figure["rmae"] < 0.95, (str(run), name)


def test_the_published_baseline_is_reproduced() -> None:
    zones = datasets.load_zones(Path(FOLDER or ""))
    (pjme,) = (zone for zone in zones.series if zone.key == "PJME")

    found = reproduce_published(pjme)

    # The publication's test goes on to August 2018; to the end of 2016 the same model is 1 to 2 % better.
    assert abs(found["published"]["rmse"] / PUBLISHED_RMSE - 1) < 0.03
    assert found["published"]["mape"] > 8


def test_each_lead_keeps_its_bar() -> None:
    """The next hour and the next four by their targets. Day two at 1.15 times day one is not reached: see the card."""
    with TemporaryDirectory() as folder:
        span = ["--from", "2016-05-16", "--to", "2016-06-12", "--issue", "12:00", "--retrain", "never"]
        arguments = ["backtest", "hourly-load", "--data", str(Path(FOLDER or "") / PJME), "--folder", folder, *span]
        result = CliRunner().invoke(main, [*arguments, "--lead", "all", "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = {line["lead"]: line for line in json.loads(result.stdout.splitlines()[-1])["leads"]}

    assert lines["1 h"]["mape"] < 1.0
    assert lines["1 to 4 h"]["mape"] < 1.8
    mape = [line["mape"] for name, line in lines.items() if name.endswith(" h") and " to " not in name]
    assert mape == sorted(mape)
