"""`kappawatt backtest` of a service that forecasts: from a file to scores and a report."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson

from kappawatt.backtest import Plan, Result, run_backtest
from kappawatt.errors import SettingInvalid
from kappawatt.events.series_files import SeriesFile, read_series_file
from kappawatt.forecaster import Forecaster
from kappawatt.service import Service

__all__ = ["backtest_file", "fingerprint"]

CORE = ("backtest.py", "calendar.py", "forecast.py", "forecaster.py", "gaps.py", "history.py")
PROBLEMS_SHOWN = 5
SCORES_SHOWN = ("n", "mae", "rmse", "mape", "smape", "rmae", "crps", "rcrps", "coverage_90", "width_90", "days")


def backtest_file(
    service: Service,
    data: Path | None,
    *,
    first: datetime | None,
    last: datetime | None,
    issue: str | None,
    retrain: str | None,
    known: str,
    key: str,
    time_zone: str,
    report: Path | None,
    folder: Path,
    fresh: bool,
    as_json: bool,
) -> Result:
    """Roll through a span of a file, write report and scores, and print the scores."""
    forecaster = service.predictor
    assert isinstance(forecaster, Forecaster)
    assert service.fit is not None
    if data is None or not data.is_file():
        raise SettingInvalid(f"--data: got {str(data)!r}, allowed a file of measurements")
    if first is None or last is None:
        raise SettingInvalid("--from, --to: got nothing, allowed the first and last local day to forecast (YYYY-MM-DD)")
    series = read_series_file(data, key=key, time_zone=time_zone)
    _tell_problems(series)
    plan = Plan(
        np.datetime64(first.date(), "D"),
        np.datetime64(last.date(), "D"),
        issue or forecaster.issue_times[0],
        retrain or service.retrain,
        known,
    )
    folder = _writable(folder) / f"{service.name}-{data.name.removesuffix('.gz').removesuffix('.csv')}"
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    content = hashlib.sha256(data.read_bytes()).hexdigest()
    result = _run(service, forecaster, series, plan, folder, fingerprint(service, content + key + time_zone))
    scores = {**result.scores, "data": {"file": data.name, "sha256": content}}
    path = report or folder / f"{plan.first}-{plan.last}-{plan.issue.replace(':', '')}" / "report.html"
    _write_report(path, result, scores, series)
    _print(scores, path, as_json)
    return result


def fingerprint(service: Service, content: str) -> str:
    """Return a hash of data, the service's own code and the libraries: days kept under another are not reused."""
    from importlib.metadata import PackageNotFoundError, version

    digest = hashlib.sha256(content.encode())
    core = Path(__file__).parents[1]
    for path in (*sorted(service.folder.glob("*.py")), *(core / name for name in CORE)):
        digest.update(path.read_bytes())
    for name in ("numpy", "xgboost-cpu", "xgboost", "scikit-learn", "onnxruntime", "holidays"):
        try:
            digest.update(f"{name}={version(name)}".encode())
        except PackageNotFoundError:
            continue
    return digest.hexdigest()


def _run(
    service: Service, forecaster: Forecaster, series: list[SeriesFile], plan: Plan, folder: Path, print_: str
) -> Result:
    from tqdm import tqdm

    assert service.fit is not None
    with tqdm(unit="day", file=sys.stderr, disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:

        def progress(done: int, total: int, what: str) -> None:
            bar.total = total
            bar.set_postfix_str(what, refresh=False)
            bar.update(done - bar.n)
            bar.refresh()

        return run_backtest(forecaster, service.fit, series, plan, folder=folder, fingerprint=print_, progress=progress)


def _writable(folder: Path) -> Path:
    """The folder, or a temporary one where it cannot be written (a read-only checkout)."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
        return folder
    other = Path(tempfile.gettempdir()) / "kappawatt-backtest"
    other.mkdir(exist_ok=True)
    click.echo(f"{folder} cannot be written; days are kept in {other}", err=True)
    return other


def _tell_problems(series: list[SeriesFile]) -> None:
    problems = [problem for one in series for problem in one.problems]
    for problem in problems[:PROBLEMS_SHOWN]:
        click.echo(f"left out: {problem.message}", err=True)
    if len(problems) > PROBLEMS_SHOWN:
        click.echo(f"left out: {len(problems) - PROBLEMS_SHOWN} more rows", err=True)


def _write_report(path: Path, result: Result, scores: dict[str, Any], series: list[SeriesFile]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name("scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    try:
        import matplotlib  # noqa: F401

        from kappawatt.backtest_report import write_backtest_report
    except ImportError:
        click.echo("no report: matplotlib is not installed (pip install 'kappawatt[train]')", err=True)
        return
    data = scores["data"]
    write_backtest_report(
        path,
        result,
        source=f"Data: {data['file']}, SHA-256 {data['sha256'][:16]}…, {', '.join(scores['series'][:8])}",
        time_zones={one.key: one.time_zone for one in series},
    )


def _print(scores: dict[str, Any], report: Path, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps({**scores, "report": str(report)}).decode())
        return
    for name in SCORES_SHOWN:
        value = scores[name]
        click.echo(f"{name:16} {'-' if value is None else f'{value:.4f}' if isinstance(value, float) else value}")
    for name, figure in scores["day_figures"].items():
        click.echo(f"{name:16} mae {figure['mae']:.4f}  rmae {figure['rmae']:.4f}")
    click.echo(f"report           {report}")
