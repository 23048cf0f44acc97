"""Publishes what a forecasting service would: readings go in, and the real worker code answers them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.bus import Bus
from kappawatt.bus.interface import Outgoing
from kappawatt.forecasting.calendar import DAY, Times, same_local_time
from kappawatt.forecasting.fan import LEVELS, Fan
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import Past
from kappawatt.forecasting.model import ForecastModel
from kappawatt.models.artifact import Manifest
from kappawatt.streams import load, meter
from kappawatt.streams.stream import Stream
from kappawatt.worker.forecasting import Forecasting

WIDTH = 1.645 * np.sqrt(2) * np.array([np.sign(q - 0.5) * abs(2 * q - 1) ** 1.5 for q in LEVELS])  # wide at the ends


def _mean_of_a_week(past: Past, targets: Times) -> NDArray[np.float64]:
    days = np.array([past.at(same_local_time(targets, past.time_zone, n)) for n in range(2, 9)])
    return np.asarray(np.nanmean(days, axis=0))


def forecast_load(offset: float, past: Past, targets: Times) -> Fan:
    """The mean of seven days, plus an offset that tells versions apart."""
    mean = _mean_of_a_week(past, targets) + offset
    return Fan(mean[:, None] + WIDTH * 0.06 * np.abs(mean[:, None]))


def forecast_meter(offset: float, past: Past, targets: Times) -> Fan:
    """The mean of seven days, with a day's total and peak."""
    mean = _mean_of_a_week(past, targets) + offset
    quantiles = np.maximum(mean[:, None] * (1 + 0.6 * WIDTH), 0.0)
    total, peak = mean.sum(), mean.max()
    return Fan(
        quantiles, {"daily_consumption": total * (1 + 0.15 * WIDTH), "daily_peak": peak * (1.3 + 0.3 * (WIDTH + 0.2))}
    )


LOAD = Forecaster(
    "hourly-load", load.READING, load.FORECAST, "load_zone", "load", ("temperature",), (3600,), "America/New_York",
    ("12:00",), 60 * DAY, 14 * DAY, ("same_time",), float, forecast_load,
)  # fmt: skip
METER = Forecaster(
    "smart-meter", meter.READING, meter.FORECAST, "meter_id", "consumption", (), (900, 1800), "America/Chicago",
    ("00:00",), 60 * DAY, 14 * DAY, ("same_time",), float, forecast_meter,
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A forecaster and its stream."""

    forecaster: Forecaster
    stream: Stream


KINDS = {"hourly-load": Kind(LOAD, load.STREAM), "smart-meter": Kind(METER, meter.STREAM)}


def manifest(name: str, version: str) -> Manifest:
    """A manifest of a model that was never trained."""
    return Manifest(
        model=name, version=version, kind="default", created="2026-01-01T00:00:00Z", data={}, feature_names=(),
        training_range={}, metrics={}, libraries={}, files={}, example={},
    )  # fmt: skip


class ForecastPublisher:
    """Publishes readings, and what the worker makes of them."""

    def __init__(
        self,
        bus: Bus,
        service: str = "hourly-load",
        *,
        version: str = "v1",
        offset: float = 0.0,
        issue_times: tuple[str, ...] | None = None,
        topic: str | None = None,
    ) -> None:
        self.pace = 0.0  # seconds between two messages, for a test that looks at them one by one
        kind = self.kind = KINDS[service]
        forecaster = kind.forecaster if issue_times is None else replace(kind.forecaster, issue_times=issue_times)
        self._producer = bus.producer()
        output = topic or kind.stream.answers.name
        self._worker = Forecasting(
            bus,
            ForecastModel(forecaster, offset, manifest(service, version)),
            kind.stream,
            output=output,
        )
        self._reader = bus.reader([kind.stream.readings.name], {(kind.stream.readings.name, 0): 0})

    def measure(self, key: str, starts: Times, values: NDArray[np.float64], *, step: int = 0, zone: str = "") -> None:
        """Publish measured intervals as one message, and answer it."""
        target = self.kind.forecaster.target
        rows: list[dict[str, Any]] = [
            {
                "interval_start": f"{start}Z",
                target: value,
                **({"interval_seconds": step} if step else {}),
                **({"time_zone": zone} if zone else {}),
            }
            for start, value in zip(np.datetime_as_string(starts, "s").tolist(), values.tolist(), strict=True)
        ]
        self.publish(key, orjson.dumps(rows))

    def publish(self, key: str, value: bytes) -> None:
        """Publish one message of readings, and answer it."""
        self._producer.publish([Outgoing(self.kind.stream.readings.name, value, key.encode())])
        self.answer()

    def answer(self) -> None:
        """Have the worker answer what waits."""
        while polled := self._reader.poll(self.pace):
            self._producer.publish(self._worker.answer(polled).outgoing)

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()
        self._producer.close()
