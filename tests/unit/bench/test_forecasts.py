"""The comparison with peers: what is said when a peer cannot run, and what is asked for by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import environments, forecasts
from bench.__main__ import main
from bench.processes import BenchError

ROW = {
    "method": "kappawatt",
    "n": 8783,
    "mae": 1569.2,
    "mape": 4.731,
    "rmae": 0.4721,
    "crps": 1186.1,
    "coverage_90": 0.8934,
    "coverage_90_monthly": [0.851, 0.921],
    "width_90": 7526.0,
    "cpu_seconds": 153.2,
}
CASE = {"name": "hourly-noon", "unit": "MW", "files": {"PJME.csv.gz": ""}, "days": 366, "issue": "12:00"}
DOCUMENT = {"date": "2026-11-24", "machine": "2 cores", "kappawatt": "0.1.0"}


def test_a_peer_that_cannot_run_says_why_in_its_row() -> None:
    missing = {"method": "OpenSTEF xgboost", "not_run": "openstef needs Python 3.12 or newer"}
    case = {**CASE, "from": "2016-01-01", "to": "2016-12-31", "methods": [ROW, missing]}

    table = forecasts.markdown({**DOCUMENT, "cases": [case]})

    assert "| kappawatt | 8,783 | 1,569 | 4.73 | 0.472 | 1,186 | 89.3 % (85 to 92) | 7,526 | 153 |" in table
    assert "| OpenSTEF xgboost | not run: openstef needs Python 3.12 or newer |" in table


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python is new enough itself")
def test_a_command_that_does_not_run_is_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BenchError, match=r"openstef needs Python 3\.12 or newer: none of python3\.12, python3\.13"):
        environments.environment("openstef", tmp_path / "cache")


def test_without_data_the_run_says_what_to_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KAPPAWATT_DATA", raising=False)

    assert main(["forecasts"]) == 1

    assert (
        "KAPPAWATT_DATA is not set: name the folder with the shared data, or give --data FILE"
        in capsys.readouterr().err
    )


def test_an_unknown_peer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["forecasts", "--methods", "prophet"])

    assert "got prophet, allowed statsforecast SeasonalNaive, statsforecast MSTL" in capsys.readouterr().err
