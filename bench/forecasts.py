"""Day-ahead forecasts beside those of peers: the same days, the same history, one scoring function.

    python -m bench forecasts [--cases hourly-noon,...] [--every 5] [--json FILE] [--markdown FILE]
    python -m bench forecasts --service hourly-load --data FILE --from 2016-01-01 --to 2016-12-31 --issue 12:00

Each peer runs in an environment of its own (`bench.environments`), reads a job (`bench.forecast_job`) and writes
quantiles day by day; `kappawatt.evaluation.days.score_days` scores them all. Days that are done are kept in the
cache, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from bench.environments import ROOT, environment, kappawatt_version, machine, versions
from bench.forecast_job import Folds, folds_of, job
from bench.measure import say
from bench.processes import BenchError
from kappawatt.cli.backtest import fingerprint
from kappawatt.datasets.reading.read import read_file
from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import SettingInvalid
from kappawatt.evaluation.backtest import RETRAIN, WEATHER, Plan, Rolling, run_backtest
from kappawatt.evaluation.days import Day, score_days
from kappawatt.forecasting.fan import LEVELS
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.serving.service import Service, find_service

__all__ = ["CASES", "METHODS", "Case", "Method", "add_options", "markdown", "run"]

DATA = "KAPPAWATT_DATA"
SCORES = ("n", "days", "mae", "rmse", "mape", "rmae", "crps", "rcrps", "coverage_90", "width_90")
BOTH = ("hourly-load", "smart-meter")
LONDON = tuple(f"smart_meter/lcl_MAC0000{number}_2013.csv.gz" for number in ("02", "03", "05", "20"))
PJME = ("pjm_load/PJME_hourly_to2016.csv.gz",)
BIGDEAL = ("load_weather/bigdeal2022_final_to20180531.csv.gz",)
GEFCOM = ("load_weather/gefcom2014e_2010_2013.csv.gz",)
BOSTON = ("42.36", "-71.06")
TEXAS = ("smart_meter/smt_meterA_IntervalData_to20221130.csv.gz",)
OURS, NAIVE = "kappawatt", "seasonal naive"


@dataclass(frozen=True, slots=True)
class Case:
    """Days of a service's series that are forecast.

    Parameters
    ----------
    files : tuple of str
        Each is a run of its own for kappawatt, as `kappawatt backtest` runs it. Below the data folder, or a path.
    first, last : str
        Local days, both included.
    weather : str
        As in `kappawatt backtest --weather`.
    country, place : str, tuple of str
        Of the holidays and the daylight that a peer's calendar may know; latitude and longitude.
    """

    name: str
    service: str
    files: tuple[str, ...]
    first: str
    last: str
    issue: str
    weather: str = "none"
    country: str = "US"
    place: tuple[str, str] = ("39.95", "-75.17")  # Philadelphia, in the middle of PJM's east


CASES = {
    case.name: case
    for case in (
        Case("hourly-noon", "hourly-load", PJME, "2016-01-01", "2016-12-31", "12:00"),
        Case("hourly-midnight", "hourly-load", PJME, "2016-01-01", "2016-12-31", "00:00"),
        Case("weather-bigdeal", "hourly-load", BIGDEAL, "2018-01-01", "2018-05-31", "12:00", "forecast"),
        Case("weather-gefcom", "hourly-load", GEFCOM, "2013-01-01", "2013-12-31", "12:00", "perfect", place=BOSTON),
        Case("meters-london", "smart-meter", LONDON, "2013-11-01", "2013-12-31", "00:00", country="GB"),
        Case("meters-texas", "smart-meter", TEXAS, "2022-11-01", "2022-11-30", "00:00"),
    )
}


@dataclass(frozen=True, slots=True)
class Method:
    """A peer's way to forecast.

    Parameters
    ----------
    environment : str
        Key of `bench.environments.ENVIRONMENTS`; its first package is the one whose version is told.
    program : str
        In `bench/peers`.
    arguments : tuple of str
        After job and output; `{country}`, `{latitude}` and `{longitude}` are the case's.
    wall_clock : bool
        The grid its job has, see `bench.forecast_job.job`.
    given : str
        What it sees and how it is set, for the reader.
    services : tuple of str
        Whose cases it takes part in.
    """

    name: str
    environment: str
    package: str
    program: str
    arguments: tuple[str, ...]
    wall_clock: bool
    given: str
    services: tuple[str, ...] = BOTH


def _stats(name: str, given: str, *arguments: str, services: tuple[str, ...] = BOTH) -> Method:
    program = "forecast_statsforecast.py"
    return Method(name, "statsforecast", "statsforecast", program, (*arguments, "0"), True, given, services)


def _openstef(name: str, given: str, *arguments: str) -> Method:
    program = "forecast_openstef.py"
    options = (*arguments, "{country}", "{latitude}", "{longitude}")
    return Method(name, "openstef", "openstef", program, options, False, given, ("hourly-load",))


# AutoETS knows one season; it takes hours for a year and is far behind, so it runs only when asked for.
METHODS = {
    method.name: method
    for method in (
        _stats("statsforecast SeasonalNaive", "the last 12 weeks, season of one week; every day", "naive", "12"),
        _stats("statsforecast MSTL", "the last 8 weeks; seasons day and week, AutoETS trend; every day", "mstl", "8"),
        _stats(
            "statsforecast AutoETS", "the last 6 weeks, season of one day; every day", "ets", "6", services=BOTH[:1]
        ),
        _openstef(
            "OpenSTEF xgboost", "all that lies before; lags, aggregates, holidays", "xgboost", "all", "aggregates"
        ),
        _openstef("OpenSTEF gblinear", "the last 90 days, lag, aggregates", "gblinear", "90", "aggregates"),
    )
}
USUAL = tuple(name for name in METHODS if name != "statsforecast AutoETS")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what `forecasts` takes."""
    part = parser.add_argument_group("forecasts")
    part.add_argument("--cases", type=_known(CASES), default=tuple(CASES), help="comma separated")
    part.add_argument("--methods", type=_known(METHODS), default=USUAL, help="of peers, comma separated")
    part.add_argument("--every", type=int, default=1, help="score every n-th day, the same for all")
    part.add_argument("--retrain", choices=RETRAIN, help="of all that are trained (else as the service's backtest)")
    part.add_argument("--minutes", type=float, default=60, help="a peer may take in one go; the next run goes on")
    part.add_argument("--data", nargs="+", default=(), help=f"files of a case of your own (else {DATA}'s, by --cases)")
    part.add_argument("--service", default="hourly-load")
    part.add_argument("--from", dest="first", default="2016-01-01")
    part.add_argument("--to", dest="last", default="2016-12-31")
    part.add_argument("--issue", default="12:00")
    part.add_argument("--weather", choices=WEATHER, default="none", help="of a case of your own; peers see temperature")


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Run every case and return the document that `--json` writes."""
    before = machine()
    cases = [_with_files(CASES[name]) for name in given.cases]
    if given.data:
        cases = [Case("own", given.service, tuple(given.data), given.first, given.last, given.issue, given.weather)]
    return {
        "date": date.today().isoformat(),
        "machine": before,
        "kappawatt": kappawatt_version(),
        "every": given.every,
        "cases": [_run_case(case, given) for case in cases],
    }


def _with_files(case: Case) -> Case:
    folder = os.environ.get(DATA)
    if not folder:
        raise BenchError(f"{DATA} is not set: name the folder with the shared data, or give --data FILE")
    return replace(case, files=tuple(str(Path(folder) / file) for file in case.files))


def _run_case(case: Case, given: argparse.Namespace) -> dict[str, Any]:
    say(f"== {case.name}: {case.first} to {case.last}, issued at {case.issue}")
    try:
        service = find_service(case.service)
        rolling = rolling_of(service)
        series = {Path(file): read_file(Path(file)).series for file in case.files}
        first, last = np.datetime64(case.first, "D"), np.datetime64(case.last, "D")
        plan = Plan(first, last, case.issue, given.retrain or rolling.retrain, weather=case.weather)
    except (SettingInvalid, OSError) as error:
        raise BenchError(f"{case.name}: {error}") from error
    folds = [folds_of(one, plan, rolling.forecaster, given.every) for ones in series.values() for one in ones]
    days = [day for one in folds for day in one.days]
    rows = [_row(NAIVE, days, rolling.forecaster, 0.0, "the same hour a week before; its own errors", {})]
    if not given.peers_only:
        rows.insert(0, _ours(service, series, plan, days, given.cache))
    for name in given.methods:
        method = METHODS[name]
        if case.service in method.services:
            rows.append(_peer(method, case, plan, folds, days, rolling.forecaster, given))
    return {
        "name": case.name,
        "service": case.service,
        "files": {path.name: _sha256(path) for path in series},
        "from": case.first,
        "to": case.last,
        "issue": case.issue,
        "retrain": plan.retrain,
        "weather": plan.weather,
        "unit": rolling.forecaster.request.field(rolling.forecaster.target).unit,
        "days": len(days),
        "methods": rows,
    }


def rolling_of(service: Service) -> Rolling:
    """Return how a service is evaluated; SettingInvalid if it does not forecast."""
    if service.model is None or service.model.rolling is None:
        raise SettingInvalid(f"{service.name} does not forecast")
    return service.model.rolling


def _ours(
    service: Service, series: Mapping[Path, list[SeriesFile]], plan: Plan, days: Sequence[Day], cache: Path
) -> dict[str, Any]:
    """Our own backtest, file by file, of all days; scored on those that the peers forecast too."""
    rolling = rolling_of(service)
    found: dict[tuple[str, str], Day] = {}
    seconds = 0.0
    for path, ones in series.items():
        say(f"{OURS}: {path.name}")
        print_ = fingerprint(service, _sha256(path))
        folder = cache / "forecasts" / "kappawatt" / print_[:12]
        clock = _Clock(folder / f"{plan.first}-{plan.issue.replace(':', '')}-{plan.retrain}-{plan.weather}.seconds")
        result = run_backtest(
            rolling.forecaster, rolling.fit, ones, plan, folder=folder, fingerprint=print_, progress=clock
        )
        seconds += clock.seconds
        found |= {(day.key, str(day.date)): day for day in result.days}
    own = []
    for day in days:
        mine = found[day.key, str(day.date)]
        if mine.refused is not None or not np.allclose(mine.measured, day.measured, rtol=1e-6, equal_nan=True):
            raise BenchError(f"{day.key} {day.date}: our backtest and the peers' job do not see the same day")
        own.append(replace(mine, naive=day.naive))
    about = f"all that lies before, retrained {plan.retrain}"
    share = len(days) / max(1, len(found))  # forecasting more days than are scored is not what these days cost
    return _row(OURS, own, rolling.forecaster, seconds * share, about, {"kappawatt": kappawatt_version()})


class _Clock:
    """Processor time of a backtest; one that goes on where another stopped took the time of both."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = float(path.read_text()) if path.exists() else 0.0
        self._began = time.process_time()

    def __call__(self, done: int, total: int, what: str) -> None:
        self._path.write_text(f"{self.seconds:.3f}")

    @property
    def seconds(self) -> float:
        return self._before + time.process_time() - self._began


def _peer(
    method: Method,
    case: Case,
    plan: Plan,
    folds: Sequence[Folds],
    days: Sequence[Day],
    forecaster: Forecaster,
    given: argparse.Namespace,
) -> dict[str, Any]:
    say(method.name)
    about = method.given if method.environment != "openstef" else f"{method.given}; retrained {plan.retrain}"
    try:
        python = environment(method.environment, given.cache) / "python"
        known = versions(python, method.package)
        lines = _forecasts(method, case, plan, python, job(folds, wall_clock=method.wall_clock), known, given)
    except BenchError as error:
        say(f"{method.name}: {error}")
        return {"method": method.name, "given": about, "not_run": str(error)}
    own = [replace(day, quantiles=np.array(lines[day.key, str(day.date)]["quantiles"])) for day in days]
    seconds = sum(float(line["seconds"]) for line in lines.values())
    return _row(method.name, own, forecaster, seconds, about, known)


def _forecasts(
    method: Method,
    case: Case,
    plan: Plan,
    python: Path,
    document: Mapping[str, Any],
    known: Mapping[str, str],
    given: argparse.Namespace,
) -> dict[tuple[str, str], dict[str, Any]]:
    """Run a peer's program over the folds that are not in the cache, and return a line for each."""
    folder = given.cache / "forecasts"
    folder.mkdir(parents=True, exist_ok=True)
    program = ROOT / "bench" / "peers" / method.program
    latitude, longitude = case.place
    known_place = {"country": case.country, "latitude": latitude, "longitude": longitude}
    arguments = [argument.format(**known_place) for argument in method.arguments]
    about = json.dumps(
        [known, program.read_text(), arguments, case.issue, plan.retrain, plan.weather, document["series"]]
    )
    stem = f"{case.name}-{'-'.join(arguments)}-{hashlib.sha256(about.encode()).hexdigest()[:12]}"
    task, out = folder / f"{stem}.job.json", folder / f"{stem}.ndjson"
    task.write_text(json.dumps(document))
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    try:
        done = subprocess.run(
            [str(python), str(program), str(task), str(out), *arguments],
            capture_output=True,
            text=True,
            timeout=60 * given.minutes,
            check=False,
            env={**os.environ, **one_thread},
        )
        trouble = done.stderr.strip()[-500:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        trouble = f"not done after {given.minutes:g} minutes; run it again to go on"
    wanted = [(fold["key"], fold["date"]) for fold in document["folds"]]
    lines = {(line["key"], line["date"]): line for line in _lines(out)}
    missing = [name for name in wanted if name not in lines]
    if missing:
        raise BenchError(f"{len(wanted) - len(missing)} of {len(wanted)} days: {trouble}")
    return {name: lines[name] for name in wanted}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for text in path.read_text().splitlines():
        line = json.loads(text)
        if np.shape(line["quantiles"])[1:] != (len(LEVELS),):
            raise BenchError(f"{path.name}: got quantiles of shape {np.shape(line['quantiles'])}")
        yield line


def _row(
    name: str, days: Sequence[Day], forecaster: Forecaster, seconds: float, given: str, known: Mapping[str, str]
) -> dict[str, Any]:
    scores = score_days(days, forecaster)
    monthly = [month["coverage_90"] for month in scores["months"].values() if month["n"]]
    return {
        "method": name,
        "given": given,
        "versions": dict(known),
        **{score: scores[score] for score in SCORES},
        "coverage_90_monthly": [min(monthly), max(monthly)],
        "cpu_seconds": round(seconds, 1),
        "rmae_by_series": {key: one["rmae"] for key, one in scores["by_series"].items()},
    }


def markdown(document: Mapping[str, Any]) -> str:
    """Return the tables of docs/results/peers/README.md."""
    lines = [f"Measured {document['date']} on {document['machine']}; kappawatt {document['kappawatt']}."]
    for case in document["cases"]:
        unit = case["unit"]
        lines += [
            "",
            f"### {case['name']}: {', '.join(case['files'])}",
            "",
            f"{case['from']} to {case['to']}, issued at {case['issue']}, {case['days']} days; weather: "
            f"{case.get('weather', 'none')}.",
            "",
            f"| method | n | MAE [{unit}] | MAPE [%] | rMAE | CRPS [{unit}] | 90 % interval holds (by month) "
            f"| its width [{unit}] | CPU s |",
            "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |",
            *(_table_row(row) for row in case["methods"]),
        ]
    return "\n".join(lines) + "\n"


def _table_row(row: Mapping[str, Any]) -> str:
    if "not_run" in row:
        return f"| {row['method']} | not run: {row['not_run'].splitlines()[-1][:120]} | | | | | | | |"
    low, high = row["coverage_90_monthly"]
    cells = [
        row["method"],
        f"{row['n']:,}",
        _number(row["mae"]),
        "" if row["mape"] is None else f"{row['mape']:.2f}",
        f"{row['rmae']:.3f}",
        _number(row["crps"]),
        f"{100 * row['coverage_90']:.1f} % ({100 * low:.0f} to {100 * high:.0f})",
        _number(row["width_90"]),
        f"{row['cpu_seconds']:,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.4f}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _known(allowed: Mapping[str, object]) -> Any:
    def names(text: str) -> tuple[str, ...]:
        found = tuple(name for name in text.split(",") if name)
        if unknown := set(found) - set(allowed):
            raise argparse.ArgumentTypeError(f"got {', '.join(sorted(unknown))}, allowed {', '.join(allowed)}")
        return found

    return names
