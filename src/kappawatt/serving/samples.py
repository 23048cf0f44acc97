"""A model's own example as the body of a request: CSV, as `/invocations` takes it."""

from __future__ import annotations

import math

from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.request import read_forecast_request
from kappawatt.models.artifact import Manifest
from kappawatt.models.predictor import Predictor

__all__ = ["sample_row", "sample_series"]


def sample_row(predictor: Predictor, manifest: Manifest) -> bytes:
    """Return the example as one row without a header."""
    row = manifest.example["request"]
    values = [row.get(field.name) for field in predictor.request.csv_fields]
    while values and values[-1] is None:  # optional fields at the end
        values.pop()
    return (",".join("" if value is None else str(value) for value in values) + "\n").encode()


def sample_series(forecaster: Forecaster, manifest: Manifest) -> bytes:
    """Return the example's history, and the hours it forecasts as rows without a measurement, under a header."""
    request = dict(manifest.example["request"])
    history, targets, issue_time = read_forecast_request(request, forecaster)
    past = history.until(issue_time)
    starts = next(f for f in forecaster.request.csv_fields if f.name == "interval_start")
    measured = forecaster.request.field(forecaster.target)
    lines = [f"{starts.column},{measured.column}"]
    for start, value in zip(past.times, past.values.tolist(), strict=True):
        if math.isfinite(value):
            lines.append(f"{start}Z,{value!r}")
    lines += [f"{target}Z," for target in targets]
    return ("\n".join(lines) + "\n").encode()
