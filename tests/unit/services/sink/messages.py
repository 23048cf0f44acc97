"""Messages as the worker and the ingestor write them, for tests of the sink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kappawatt.bus import Bus, Outgoing
from kappawatt.bus.interface import Records
from kappawatt.columns.batch import Batch
from kappawatt.messages.dead_letters import dead_letter_message
from kappawatt.messages.predictions import Prediction, prediction_block, prediction_event
from kappawatt.messages.readings import reading_messages
from kappawatt.streams.plant import READING
from kappawatt.streams.plant import STREAM as PLANT
from tests.conftest import publish

HOUR = 3_600_000
START = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def batch_of(
    n: int,
    *,
    temperature: Sequence[float] | None = None,
    net_power: Sequence[float] | None = None,
    event_time: Sequence[int] | None = None,
) -> Batch:
    """Valid readings; what is not given is a plain value."""
    columns: dict[str, Any] = {
        "ambient_temperature": np.full(n, 15.0) if temperature is None else np.array(temperature, float),
        "exhaust_vacuum": np.full(n, 41.76),
        "ambient_pressure": np.full(n, 1024.07),
        "relative_humidity": np.full(n, 73.17),
        "net_power": np.full(n, 450.0) if net_power is None else np.array(net_power, float),
    }
    if event_time is not None:
        columns["event_time"] = np.array(event_time, dtype="datetime64[ms]")
    return READING.check(columns, n)


def publish_readings(bus: Bus, batch: Batch, key: str = "plant-1", block_rows: int = 64) -> None:
    publish(bus, reading_messages(PLANT, batch, key, block_rows=block_rows))


def predictions_of(
    offsets: Sequence[int],
    net_power: Sequence[float],
    *,
    rows: Sequence[int] | None = None,
    half_width: float = 5.0,
    topic: str = "plant.predictions",
    version: str = "v1",
    partition: int = 0,
    event_time: Sequence[int] | None = None,
    as_block: bool = False,
    log: str = "",
) -> list[Outgoing]:
    """Predictions for rows of plant.readings, in a log; of none as a release before wrote them."""
    n = len(offsets)
    power = np.array(net_power, float)
    prediction = Prediction(
        topic,
        b"plant-1",
        {
            "event_time": np.array(event_time or [START] * n, dtype="datetime64[ms]"),
            "net_power": power,
            "net_power_lower": power - half_width,
            "net_power_upper": power + half_width,
            "extrapolated": np.zeros(n, dtype=np.bool_),
            "measured_net_power": np.full(n, np.nan),
        },
        np.array(offsets, dtype=np.int64),
        np.array(rows if rows is not None else [0] * n, dtype=np.int32),
        "plant.readings",
        partition,
        "plant-power",
        version,
        source_log=log,
    )
    return [prediction_block(prediction)] if as_block else prediction_event(prediction)


def dead_letters_of(values: Sequence[bytes]) -> list[Outgoing]:
    """Dead letters of readings that broke the schema, at offsets from 0."""
    from kappawatt.columns.codec import decode_many
    from kappawatt.columns.content import JSON

    n = len(values)
    records = Records("plant.readings", 1, range(n), [START] * n, [b"plant-1"] * n, values, [()] * n)
    decoded = decode_many(values, JSON, READING)
    by_message: dict[int, list[Any]] = {}
    for rejection in decoded.batch.rejections:
        message = int(decoded.message[rejection.row])
        by_message.setdefault(message, []).append(rejection.at(int(decoded.row[rejection.row])))
    return [
        dead_letter_message("plant.readings.dead", records, at, reasons, "plant-power", "v1")
        for at, reasons in by_message.items()
    ]


def partition_of(bus: Bus, topic: str) -> int:
    """The one partition of a topic that holds messages."""
    [found] = [p for p, o in bus.offsets(topic).items() if o.end]
    return found
