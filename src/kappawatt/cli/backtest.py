"""`kappawatt backtest`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

import click
import numpy as np
import orjson

from kappawatt.cli.options import (
    SERVICE,
    holidays_option,
    json_option,
    options_of,
    reading_options,
    tell_reading,
    with_holidays,
)
from kappawatt.datasets.reading.read import read_file
from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import SettingInvalid
from kappawatt.evaluation.backtest import SHIPPED, WEATHER, Plan, Result, Rolling, run_backtest
from kappawatt.evaluation.leads import ALL, leads_of, run_leads
from kappawatt.evaluation.peers import score_peers
from kappawatt.evaluation.sums import check_sum
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.serving.service import Service
from kappawatt.settings import Settings

__all__ = ["backtest", "backtest_file", "fingerprint"]

log = logging.getLogger(__name__)

DATE = click.DateTime(["%Y-%m-%d"])
CORE = (
    "evaluation/backtest.py",
    "evaluation/leads.py",
    "evaluation/sums.py",
    "forecasting/*.py",
    "datasets/**/*.py",
    "streams/*.py",
)  # what scores depend on
MOST_UNREADABLE = 0.05
SAY_SECONDS = 15.0  # between two lines of progress where there is no terminal
SCORES_SHOWN = (
    "n",
    "mae",
    "rmse",
    "mape",
    "smape",
    "rmae",
    "crps",
    "rcrps",
    "coverage",  # _90: it is named after what the forecaster's outer levels hold
    "width",
    "days",
    "refused_days",
)


@click.command()
@click.argument("service", type=SERVICE)
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="File of measurements for a service that forecasts (CSV, gzip too); else folder of data [KAPPAWATT_DATA].",
)
@click.option("--from", "first", type=DATE, help="First local day to forecast.")
@click.option("--to", "last", type=DATE, help="Last local day to forecast.")
@click.option("--issue", metavar="HH:MM", help="Local time forecasts are issued at: 00:00 is when the day begins.")
@click.option(
    "--lead",
    metavar="HOURS|all",
    help="Score by lead, from the newest value to the end of an interval: 1 is the next hour; `all` is a table from "
    "it to seven days ahead.",
)
@click.option(
    "--retrain",
    type=click.Choice(["daily", "weekly", "fortnightly", "monthly", "quarterly", "never", "shipped"]),
    help="How often it trains; `shipped` does not and evaluates the model that comes with the service.",
)
@click.option(
    "--known",
    type=click.Choice(["end", "published"]),
    default="end",
    show_default=True,
    help="When an interval is known: at its end, or when the file says it was published.",
)
@click.option(
    "--weather",
    type=click.Choice(WEATHER),
    default="none",
    show_default=True,
    help="What to do with a file's weather: leave it out, take its columns of forecasts as known from noon of the day "
    "before, or take measured weather as if it had been forecast.",
)
@holidays_option
@click.option(
    "--sum",
    "sum_name",
    metavar="NAME",
    default="",
    help="Forecast the sum of the file's series too, under this name, and score it alone, as its members added up, and "
    "reconciled with them.",
)
@click.option("--key", default="", help="Name of the series; the file's own if absent.")
@reading_options
@click.option("--allow-refused", is_flag=True, help="End with 0 though rows of the file were refused.")
@click.option("--report", type=click.Path(path_type=Path), help="HTML file; scores.json goes beside it.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".run/backtest"),
    show_default=True,
    help="Where days that are done are kept, so that an interrupted run goes on.",
)
@click.option("--fresh", is_flag=True, help="Do not take over days kept from before.")
@json_option
def backtest(service: Service, data: Path | None, as_json: bool, **options: Any) -> None:
    """Evaluate SERVICE's model, trained afresh on what lies before.

    A service that forecasts rolls through the days --from to --to of a FILE and needs nothing else. Others follow
    their published protocol.
    """
    from kappawatt import logs

    os.environ.setdefault("KAPPAWATT_LOG_FORMAT", "text")
    rolling = None if service.model is None else service.model.rolling
    if rolling is not None:
        logs.set_up(Settings.read())
        backtest_file(service, rolling, data, as_json=as_json, **options)
        return
    if service.backtest is None:
        raise SettingInvalid(f"{service.name} has no backtest")
    given = [name for name in ("first", "last", "issue", "lead", "retrain", "report") if options[name] is not None]
    if given:
        raise SettingInvalid(f"--{given[0]}: {service.name} does not forecast; it follows its published protocol")
    settings = Settings.read(data=data)
    logs.set_up(settings)
    service.backtest(settings, as_json=as_json)


def backtest_file(
    service: Service,
    rolling: Rolling,
    data: Path | None,
    *,
    first: datetime | None,
    last: datetime | None,
    issue: str | None,
    retrain: str | None,
    known: str,
    weather: str,
    key: str,
    holidays: str = "",
    lead: str | None = None,
    sum_name: str = "",
    report: Path | None,
    folder: Path,
    fresh: bool,
    as_json: bool,
    allow_refused: bool = False,
    **said: Any,
) -> Result:
    """Roll through a span of a file, write report and scores, and print the scores."""
    forecaster = rolling.forecaster
    if data is None or not data.is_file():
        raise SettingInvalid(f"--data: got {data or 'nothing'}, allowed a file of measurements")
    if first is None or last is None:
        raise SettingInvalid("--from, --to: got nothing, allowed the first and last local day to forecast (YYYY-MM-DD)")
    options = options_of(said, key)
    found = read_file(data, options, service.stream)
    series = found.series
    series = with_holidays(service, series, holidays)
    tell_reading(found)
    _check_series(series, forecaster, known)
    if any(one.covariates for one in series) and weather == "none":
        click.echo("weather: left out; --weather forecast or perfect uses it", err=True)
    if not any(one.covariates for one in series) and weather != "none":
        raise SettingInvalid(f"--weather: got {weather}, allowed none: the file has no column of weather")
    plan = Plan(
        np.datetime64(first.date(), "D"),
        np.datetime64(last.date(), "D"),
        issue or forecaster.issue_times[0],
        retrain or rolling.retrain,
        known,
        weather,
    )
    if lead is not None:
        _check_lead(rolling, series, lead, issue)
    if sum_name:
        _check_sum(sum_name, series, weather, lead)
    folder = _writable(folder) / f"{service.name}-{data.name.removesuffix('.gz').removesuffix('.csv')}"
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    content = hashlib.sha256(data.read_bytes()).hexdigest()
    try:
        own = fingerprint(service, content + repr(options) + weather + holidays)
        result = _run(service, rolling, series, plan, folder, own, lead, sum_name)
    except KeyboardInterrupt:
        click.echo("\nstopped; the same command goes on where it was", err=True)
        raise
    peers = score_peers(result.days, series) if lead is None else []
    scores = {**result.scores, "peers": peers, "data": {"file": data.name, "sha256": content}}
    name = plan.issue.replace(":", "") if lead is None else f"lead-{lead}"
    path = report or folder / f"{plan.first}-{plan.last}-{name}" / "report.html"
    try:
        written = _write_report(path, result, scores, series)
    except OSError as error:
        raise SettingInvalid(f"--report: got {path}, allowed a file that can be written ({error.strerror})") from error
    _tell_unscored(result)
    _print(scores, path if written else None, as_json)
    if found.problems and not allow_refused:
        raise SettingInvalid(f"--data: {len(found.problems)} rows were refused, see above; --allow-refused ends with 0")
    return result


def _check_lead(rolling: Rolling, series: list[SeriesFile], lead: str, issue: str | None) -> None:
    """Refuse a lead that the model cannot be asked for, before anything is trained."""
    for one in series:
        leads_of(lead, rolling.forecaster, one.step)
    if rolling.fit_any_lead is None:
        raise SettingInvalid(f"--lead: {rolling.forecaster.name} has no training for any lead")
    if lead != ALL and issue is not None:
        raise SettingInvalid(f"--issue: got {issue} and --lead {lead}, allowed one: {lead} h before each interval ends")


def _check_sum(name: str, series: list[SeriesFile], weather: str, lead: str | None) -> None:
    """Refuse a sum that cannot be scored, before anything is trained."""
    check_sum(name, series)
    if weather != "none":
        raise SettingInvalid.of("--sum", f"{name} and --weather {weather}", "none: the weather of a sum is not known")
    if lead is not None:
        raise SettingInvalid.of("--sum", f"{name} and --lead {lead}", "one of the two")


def _check_series(series: list[SeriesFile], forecaster: Forecaster, known: str) -> None:
    """Refuse what the forecaster cannot forecast, and files of which much cannot be read."""
    for one in series:
        if one.step not in forecaster.steps:
            allowed = " or ".join(map(str, forecaster.steps))
            raise SettingInvalid(f"--data: got {one.key} every {one.step} s, allowed {allowed} s for {forecaster.name}")
        if known == "published" and np.isnat(one.known).all():
            raise SettingInvalid(f"--known: got published, allowed end: the file does not say when {one.key} was")
    rows, problems = sum(map(len, series)), sum(len(one.problems) for one in series)
    if problems > MOST_UNREADABLE * (rows + problems):
        raise SettingInvalid(f"--data: got {problems} of {rows + problems} rows that cannot be read, allowed 5 %")


def _tell_unscored(result: Result) -> None:
    """Say which days have no score, and why."""
    refused = [day for day in result.days if day.refused is not None]
    unmeasured = sum(not np.isfinite(day.measured).any() for day in result.days if day.refused is None)
    if refused:
        click.echo(f"{len(refused)} days refused; {refused[0].key} {refused[0].date}: {refused[0].refused}", err=True)
    if unmeasured:
        click.echo(f"{unmeasured} days without a measurement", err=True)


def fingerprint(service: Service, content: str) -> str:
    """Return a hash of data, the service's own code and the libraries: days kept under another are not reused."""
    from importlib.metadata import PackageNotFoundError, version

    digest = hashlib.sha256(content.encode())
    core = Path(__file__).parents[1]
    for path in sorted((service.folder / "artifacts").rglob("*")):
        if path.is_file() and path.name != "manifest.json":
            digest.update(path.read_bytes())  # training may start from the shipped model
    for path in (
        *sorted(service.folder.glob("*.py")),
        *(path for pattern in CORE for path in sorted(core.glob(pattern))),
    ):
        digest.update(path.read_bytes())
    for name in ("numpy", "xgboost-cpu", "xgboost", "scikit-learn", "onnxruntime", "holidays"):
        try:
            digest.update(f"{name}={version(name)}".encode())
        except PackageNotFoundError:
            continue
    return digest.hexdigest()


def _run(
    service: Service,
    rolling: Rolling,
    series: list[SeriesFile],
    plan: Plan,
    folder: Path,
    print_: str,
    lead: str | None,
    sum_name: str,
) -> Result:
    from tqdm import tqdm

    with tqdm(unit="day", file=sys.stderr, disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:
        last = monotonic()

        def progress(done: int, total: int, what: str) -> None:
            nonlocal last
            if bar.disable and monotonic() - last > SAY_SECONDS:
                last = monotonic()
                log.info("%d of %d days", done, total, extra={"at": what})
            bar.total = total
            bar.set_postfix_str(what, refresh=False)
            bar.update(done - bar.n)
            bar.refresh()

        fit = rolling.fit if lead is None or rolling.fit_any_lead is None else rolling.fit_any_lead
        if plan.retrain == SHIPPED:
            fitted = service.open(Settings.read()).fitted

            def fit(*_: Any) -> Any:
                return fitted

        how: dict[str, Any] = {"folder": folder, "fingerprint": print_, "progress": progress}
        if lead is not None:
            return run_leads(rolling.forecaster, fit, series, plan, lead, **how)
        return run_backtest(rolling.forecaster, fit, series, plan, sum_name=sum_name, **how)


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


def _write_report(path: Path, result: Result, scores: dict[str, Any], series: list[SeriesFile]) -> bool:
    """Write scores and, where matplotlib is, the report; return whether the report was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name("scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    try:
        import matplotlib  # noqa: F401

        from kappawatt.evaluation.backtest_report import write_backtest_report
    except ImportError:
        click.echo("no report: matplotlib is not installed (pip install 'kappawatt[train]')", err=True)
        return False
    data = scores["data"]
    write_backtest_report(
        path,
        result,
        source=f"Data: {data['file']}, SHA-256 {data['sha256'][:16]}…, {', '.join(scores['series'][:8])}",
        series=series,
        peers=scores["peers"],
    )
    return True


def _figure(value: Any) -> str:
    """A score for a person; `-` where there was nothing to divide by."""
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _of_sum(found: dict[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
    """A sum and its members by name, with the scores of each way."""
    return [] if found is None else [(found["name"], found["sum"]), *found["members"].items()]


def _print(scores: dict[str, Any], report: Path | None, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps({**scores, "report": str(report) if report else None}).decode())
        return
    for shown in SCORES_SHOWN:
        name = shown if shown in scores else next(name for name in scores if name.startswith(f"{shown}_"))
        value = scores[name]
        click.echo(f"{name:16} {_figure(value)}")
    for name, figure in scores["day_figures"].items():
        click.echo(f"{name:16} mae {_figure(figure['mae'])}  rmae {_figure(figure['rmae'])}")
    for line in scores.get("leads", ()):
        cover, width = (next(v for k, v in line.items() if k.startswith(start)) for start in ("coverage", "width"))
        said = f"mae {_figure(line['mae'])}  mape {_figure(line['mape'])}  rmae {_figure(line['rmae'])}"
        click.echo(f"{line['lead']:16} {said}  coverage {_figure(cover)}  width {_figure(width)}")
    brought = scores["weather_brought"] or {}
    for name, figures in brought.items():
        said = "  ".join(f"{score} {_figure(figures[score])}" for score in ("mae", "mape", "crps"))
        click.echo(f"{name + ' weather':16} {said}")
    for who, ways in _of_sum(scores.get("sum")):
        for way, figures in ways.items():
            cover, width = (
                next(v for k, v in figures.items() if k.startswith(start)) for start in ("coverage", "width")
            )
            said = "  ".join(f"{name} {_figure(figures[name])}" for name in ("mae", "mean_rmse", "crps"))
            click.echo(
                f"{who + ' ' + way.replace('_', ' '):24} {said}  coverage {_figure(cover)}  width {_figure(width)}"
            )
    for line in scores["peers"]:
        for whose, figures in (("of the file", line["peer"]), ("model", line["model"])):
            said = "  ".join(f"{name} {_figure(figures[name])}" for name in ("mae", "mape"))
            click.echo(f"{whose:16} {said}  ({line['forecast']}, {line['series']}, {line['n']:,} intervals)")
    if report:
        click.echo(f"report           {report}")
