"""A forecaster in a few lines: the mean of the same local time over seven days. Everything around it is real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.bus import Outgoing
from kappawatt.forecasting.calendar import DAY, HOUR, Times, as_instant, same_local_time
from kappawatt.forecasting.fan import LEVELS, Fan
from kappawatt.forecasting.forecaster import Forecaster, Lookup
from kappawatt.forecasting.history import Past
from kappawatt.forecasting.model import ForecastModel, open_forecaster
from kappawatt.forecasting.request import example_request, read_forecast_request
from kappawatt.messages.readings import reading_messages
from kappawatt.models.artifact import Artifact, Manifest, save_artifact
from kappawatt.serving.kinds import forecasts
from kappawatt.streams import load

ZONE = "America/New_York"
POISON = 66_666.0  # a load the fake model breaks on
SPREAD = (np.array(LEVELS) - 0.5) * 1000


def forecast(offset: float, past: Past, targets: Times) -> Fan:
    """The mean of the last seven days at the same local time, plus an offset that tells versions apart."""
    if (past.values == POISON).any():
        raise ArithmeticError("poison")
    days = np.array([past.at(same_local_time(targets, past.time_zone, days)) for days in range(2, 9)])
    return Fan(np.nanmean(days, axis=0)[:, None] + offset + SPREAD)


FORECASTER = Forecaster(
    name="fake-load",
    request=load.READING,
    response=load.FORECAST,
    key="load_zone",
    target="load",
    covariates=("temperature",),
    steps=load.STREAM.steps,
    usual_step=load.STREAM.usual_step,
    time_zone=ZONE,
    issue_times=("12:00",),
    depth=60 * DAY,
    least=14 * DAY,
    feature_names=("same_time",),
    load=lambda artifact: float(artifact.read("offset.txt")),
    forecast=forecast,
)
STREAM = replace(load.STREAM, service="fake-load")
SERVICE = forecasts(FORECASTER, summary="A fake forecast.", port=8998, stream=STREAM)


def manifest(version: str, offset: float, **changes: Any) -> Manifest:
    request = example_request(FORECASTER, "PJME")
    history, targets, issue_time = read_forecast_request(request, FORECASTER)
    median = forecast(offset, history.until(issue_time), targets).median
    whole = Manifest(
        model="fake-load",
        version=version,
        kind="default",
        created="2026-01-01T00:00:00Z",
        data={"source": "SYNTHETIC, none", "sha256": "0" * 64, "rows": 0},
        feature_names=FORECASTER.feature_names,
        training_range={},
        metrics={},
        libraries={},
        files={},
        example={"request": request, "answer": {"load": median.tolist()}},
    )
    return replace(whole, **changes)


def write_artifact(root: Path, version: str = "1", offset: float = 0.0, **changes: Any) -> Artifact:
    artifact = save_artifact(root / version, {"offset.txt": str(offset).encode()}, manifest(version, offset, **changes))
    (root / "CURRENT").write_text(version)
    return artifact


def model(root: Path, version: str = "1", offset: float = 0.0, lookup: Lookup | None = None) -> ForecastModel:
    return open_forecaster(FORECASTER, write_artifact(root, version, offset), lookup)


def hours(start: str, n: int) -> Times:
    """n hours from a UTC time on."""
    return as_instant(start) + np.arange(n) * HOUR


def loads(times: Times, level: float = 30_000.0) -> NDArray[np.float64]:
    """A load with a daily and a weekly shape, the same for the same hour whenever it is asked for."""
    hour = (times - as_instant("2000-01-03")) / HOUR
    wave = np.sin(2 * np.pi * hour / 24) + 0.2 * np.sin(2 * np.pi * hour / 168) + 0.1 * np.cos(hour * hour)
    result: NDArray[np.float64] = np.round(level * (1 + 0.2 * wave), 1)
    return result


def load_messages(start: str, n: int, key: str = "PJME", block_rows: int = 64) -> list[Outgoing]:
    """What an ingestor publishes of n hours."""
    times = hours(start, n)
    batch = STREAM.schema.check({"interval_start": times, "load": loads(times)}, n)
    return reading_messages(STREAM, batch, key, block_rows=block_rows)


def as_before(message: Outgoing) -> Outgoing:
    """The message as a release before wrote it, when `available_at` was `known_at`."""
    document = orjson.loads(message.value)
    document["known_at"] = document.pop("available_at")
    return replace(message, value=orjson.dumps(document))
