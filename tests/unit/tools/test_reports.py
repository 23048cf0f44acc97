"""Scores are kept, one report a service with them, and the others can be made again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tools import reports
from tools.render_docs import EXAMPLES, RESULTS

SCORES: dict[str, Any] = {"seconds": 1.0, "mae": 2.0, "months": {"2016-01": {"mae": 1.5}}, "series": ["PJME"], "n": 24}


def test_one_report_a_service_is_kept_beside_the_scores_of_every_run() -> None:
    kept = {str(path.parent.relative_to(RESULTS)) for path in RESULTS.rglob("*.html")}

    assert kept == {reports.PLANT, *(f"{service}/{run}" for service, run in EXAMPLES.items())}
    assert kept < set(reports.runs())


def test_a_run_is_made_by_the_command_that_the_page_of_results_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (RESULTS / "forecasts.md").read_text()
    monkeypatch.setattr(reports, "data_file", lambda folder, name, sha256: folder / name)

    for run in set(reports.runs()) - {reports.PLANT}:
        *made, option, report = reports.command(run, tmp_path, tmp_path / "report.html")
        line = " ".join(["kappawatt", *made]).replace(f"{tmp_path}/", "")
        assert line in page.splitlines()
        assert (option, report) == ("--report", str(tmp_path / "report.html"))


def test_another_file_of_the_same_name_is_refused_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "PJME.csv"
    path.parent.mkdir()
    path.write_text("other")

    with pytest.raises(Exception, match=f"got {path}, which is another one, allowed a folder with PJME.csv of SHA-256"):
        reports.data_file(tmp_path, "PJME.csv", "0" * 64)
    with pytest.raises(Exception, match=f"got {tmp_path}, where there is none"):
        reports.data_file(tmp_path, "AEP.csv", "0" * 64)


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (SCORES | {"seconds": 9.0, "version": "9"}, []),
        (SCORES | {"mae": 2.0 + 1e-9}, []),
        (SCORES | {"mae": 2.1}, ["mae: 2.1 instead of 2"]),
        (SCORES | {"months": {"2016-01": {"mae": 1.6}}}, ["months.2016-01.mae: 1.6 instead of 1.5"]),
        (SCORES | {"months": {}}, ["months.2016-01: None instead of {'mae': 1.5}"]),
        (SCORES | {"series": ["AEP"]}, ["series[0]: 'AEP' instead of 'PJME'"]),
        (SCORES | {"n": 23}, ["n: 23 instead of 24"]),
    ],
)
def test_what_differs_from_the_kept_scores_is_named_and_what_belongs_to_the_run_is_not(
    made: dict[str, Any], found: list[str]
) -> None:
    assert list(reports.differences(SCORES, made)) == found


@pytest.mark.parametrize(
    ("arguments", "data", "said"),
    [
        (["hourly-load/MARS"], ".", "RUN: got 'hourly-load/MARS', allowed hourly-load/AEP-0000, "),
        ([], "", "KAPPAWATT_DATA: got nothing, allowed the folder of data sets"),
        (["hourly-load/AEP-0000"], ".", "allowed a folder with AEP_hourly_to2016.csv.gz of SHA-256 20e07598"),
    ],
)
def test_nothing_is_run_where_a_run_or_its_data_is_not_known(
    arguments: Sequence[str], data: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAPPAWATT_DATA", data and str(tmp_path))
    ran = tmp_path / "ran"
    monkeypatch.setattr(reports, "KAPPAWATT", ("touch", str(ran)))

    result = CliRunner().invoke(reports.main, [*arguments, "--out", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert said in result.output
    assert not ran.exists()


def test_other_scores_than_those_kept_end_with_1_and_say_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = json.loads((RESULTS / reports.PLANT / "scores.json").read_text())
    made = tmp_path / "made.json"
    made.write_text(json.dumps(kept | {"data": kept["data"] | {"rows": 1}}))
    (tmp_path / "out" / reports.PLANT).mkdir(parents=True)
    program = f"import shutil; shutil.copy({str(made)!r}, {str(tmp_path / 'out' / reports.PLANT / 'scores.json')!r})"
    monkeypatch.setenv("KAPPAWATT_DATA", str(tmp_path))
    monkeypatch.setattr(reports, "KAPPAWATT", (sys.executable, "-c", program))

    result = CliRunner().invoke(reports.main, [reports.PLANT, "--out", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert f"1 other scores, first data.rows: 1 instead of {kept['data']['rows']}" in result.output
