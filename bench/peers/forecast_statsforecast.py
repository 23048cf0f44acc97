"""Nixtla's statsforecast over the folds of a backtest, refitted for every fold, as its users do.

    python forecast_statsforecast.py JOB.json OUT.ndjson MODEL WEEKS WINDOWS

MODEL is mstl (MSTL of day and week with AutoETS on the trend), ets (AutoETS with a season of one day) or naive
(SeasonalNaive of one week). It sees the last WEEKS weeks. Quantiles are the ends of its intervals of 10, 20, ..., 90 %:
by the model itself with WINDOWS 0, else conformal over that many windows of the past. JOB's grid is the wall clock.
A series that never was negative is not forecast so. One line a fold, appended; folds that OUT has already are left out.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from statsforecast.models import MSTL, AutoETS, SeasonalNaive
from statsforecast.utils import ConformalIntervals

LEVELS = tuple(range(10, 100, 10))  # percent, of intervals around the median
SECONDS_A_DAY = 86_400


def build(name: str, day: int, intervals: ConformalIntervals | None) -> Any:
    """Return a model for `day` intervals a day."""
    week = 7 * day
    if name == "mstl":
        return MSTL([day, week], trend_forecaster=AutoETS(model="ZZN"), prediction_intervals=intervals)
    if name == "ets":
        return AutoETS(season_length=day, prediction_intervals=intervals)
    return SeasonalNaive(week, prediction_intervals=intervals)


def quantiles(forecast: dict[str, Any], ahead: list[int], least: float) -> list[list[float]]:
    """Return the 19 quantiles at 0.05, 0.10, ..., 0.95 of each interval asked for, none below `least`."""
    lower = [forecast[f"lo-{level}"] for level in reversed(LEVELS)]
    upper = [forecast[f"hi-{level}"] for level in LEVELS]
    columns = np.column_stack([*lower, forecast["mean"], *upper])[ahead]
    return [[float(f"{v:.7g}") for v in row] for row in np.maximum(np.sort(columns, axis=1), least)]


def main(job: str, out: str, name: str, weeks: str, windows: str) -> None:
    """Forecast every fold of the job that OUT does not have."""
    document = json.loads(Path(job).read_text())
    series = {one["key"]: one for one in document["series"]}
    values = {key: np.array(one["values"]) for key, one in series.items()}
    written = Path(out)
    done = {(line["key"], line["date"]) for line in map(json.loads, written.open())} if written.exists() else set()
    with written.open("a") as lines:
        for fold in document["folds"]:
            if (fold["key"], fold["date"]) in done:
                continue
            began = time.process_time()
            known = values[fold["key"]][: fold["cut"]].copy()
            for place, value in fold["patched"]:
                known[place] = value
            day = SECONDS_A_DAY // series[fold["key"]]["step"]
            horizon = max(fold["ahead"]) + 1
            conformal = ConformalIntervals(n_windows=int(windows), h=horizon) if int(windows) else None
            model = build(name, day, conformal)
            forecast = model.forecast(known[-7 * day * int(weeks) :], horizon, level=list(LEVELS))
            line = {
                "key": fold["key"],
                "date": fold["date"],
                "quantiles": quantiles(forecast, fold["ahead"], 0.0 if known.min() >= 0 else -np.inf),
                "seconds": round(time.process_time() - began, 4),
            }
            lines.write(json.dumps(line) + "\n")
            lines.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
