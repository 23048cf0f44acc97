"""OpenSTEF over the folds of a backtest: its preset workflow, trained once a period on the newest days before it.

    python forecast_openstef.py JOB.json OUT.ndjson MODEL TRAINING_DAYS AGGREGATES COUNTRY LATITUDE LONGITUDE

MODEL is xgboost or gblinear, presets of `create_forecasting_workflow` with their own lags, calendar, holidays and
parameters; AGGREGATES is `aggregates` for the rolling aggregates that its own benchmark switches on, or `none`;
TRAINING_DAYS a number or `all`. Where the job has temperature it stands beside the load, measured up to a fold's issue
time and as it was forecast after; else there is no weather. The index carries the local time zone, so that
hours and weekdays are those of the clock people live by. JOB's grid is UTC.
One line a fold, appended; folds that OUT has already are left out. Seconds are of the processor.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from openstef_core.datasets import TimeSeriesDataset
from openstef_core.types import LeadTime, Q
from openstef_models.presets import ForecastingWorkflowConfig, create_forecasting_workflow
from openstef_models.presets.forecasting_workflow import LocationConfig
from pydantic_extra_types.coordinate import Coordinate

CONTEXT = timedelta(days=14)  # predict_context_length of its benchmark; its longest lag
FOR_EVER = timedelta(days=36_500)
TEMPERATURE = "temperature"  # name of the column in its presets
AGGREGATES = ["mean", "median", "max", "min"]


class Series:
    """Load of one series as OpenSTEF takes it."""

    def __init__(self, one: dict[str, Any]) -> None:
        self.step = timedelta(seconds=one["step"])
        self.values = np.array(one["values"])
        times = pd.to_datetime(one["start"] + np.arange(len(self.values)) * one["step"] * 1000, unit="ms", utc=True)
        self.temperature = np.array(one.get("temperature", ()), dtype=float)  # None is NaN
        self.index = times.as_unit("ns").tz_convert(one["time_zone"])

    def known(self, fold: dict[str, Any], cut: int, window: timedelta) -> TimeSeriesDataset:
        """Return the `window` before position `cut`, and the fold's intervals to come without load if it is its own."""
        load = self.values[:cut].copy()
        for place, value in fold["patched"]:
            if place < cut:
                load[place] = value
        end = cut + max(fold["ahead"]) + 1 if cut == fold["cut"] else cut
        load = np.concatenate([load, np.full(end - cut, np.nan)])
        first = max(0, cut - int(window / self.step))
        index = self.index[first:end]
        if len(index) < end - first:  # the last day of the file
            index = pd.date_range(self.index[first], periods=end - first, freq=self.step)
        frame = pd.DataFrame({"load": load[first:]}, index=index)
        if len(self.temperature):
            ahead = np.array(fold["temperature"], dtype=float)
            frame[TEMPERATURE] = np.concatenate([self.temperature[:cut], ahead])[first:end]
        frame.index.name = "timestamp"
        return TimeSeriesDataset(frame, sample_interval=self.step)

    def time(self, place: int) -> Any:
        """Return the start of the interval at a position, also after the last."""
        return self.index[0] + place * self.step


def horizon(folds: list[dict[str, Any]], step: timedelta) -> LeadTime:
    """Return the longest lead of all folds, in whole hours: 36 of a day issued at noon, 24 at midnight."""
    leads = sorted(max(fold["ahead"]) + 1 for fold in folds)
    usual = leads[len(leads) // 2]  # the day of 25 hours is no reason for another set of lags
    return LeadTime(usual * step)


def main(job: str, out: str, model: str, training_days: str, aggregates: str, country: str, *place: str) -> None:
    """Forecast every fold of the job that OUT does not have."""
    latitude, longitude = map(float, place)
    warnings.filterwarnings("ignore")
    window = FOR_EVER if training_days == "all" else timedelta(days=int(training_days))
    logging.disable(logging.WARNING)
    document = json.loads(Path(job).read_text())
    series = {one["key"]: Series(one) for one in document["series"]}
    written = Path(out)
    done = {(line["key"], line["date"]) for line in map(json.loads, written.open())} if written.exists() else set()
    fitted: dict[str, tuple[int, Any]] = {}
    with written.open("a") as lines:
        for fold in document["folds"]:
            if (fold["key"], fold["date"]) in done:
                continue
            began = time.process_time()
            one = series[fold["key"]]
            trained_at, workflow = fitted.get(fold["key"], (-1, None))
            if trained_at != fold["train_cut"]:
                config = ForecastingWorkflowConfig(
                    model_id=f"{model}-{fold['key']}",
                    model=model,
                    quantiles=[Q(level) for level in document["levels"]],
                    horizons=[horizon(document["folds"], one.step)],
                    sample_interval=one.step,
                    location=LocationConfig(
                        name=fold["key"],
                        country_code=country,
                        coordinate=Coordinate(latitude=latitude, longitude=longitude),
                    ),
                    rolling_aggregate_features=AGGREGATES if aggregates == "aggregates" else [],
                    mlflow_storage=None,
                )
                workflow = create_forecasting_workflow(config)
                before = {**fold, "cut": -1}
                workflow.fit(one.known(before, fold["train_cut"], window))
                fitted[fold["key"]] = (fold["train_cut"], workflow)
            issued = one.time(fold["cut"])
            answer = workflow.predict(one.known(fold, fold["cut"], CONTEXT), forecast_start=issued)
            rows = answer.quantiles_data.to_numpy()[fold["ahead"]]
            line = {
                "key": fold["key"],
                "date": fold["date"],
                "quantiles": [[float(f"{v:.7g}") for v in row] for row in np.sort(rows, axis=1)],
                "seconds": round(time.process_time() - began, 4),
            }
            lines.write(json.dumps(line) + "\n")
            lines.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
