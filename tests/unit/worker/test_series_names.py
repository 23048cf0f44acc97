"""Under which names a forecasting worker keeps series."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from kappawatt.columns.codec import decode
from kappawatt.serving.service import find_service
from kappawatt.streams.table import STREAMS
from kappawatt.worker.histories import Histories, Step

METER = next(stream for stream in STREAMS if stream.name == "meter").schema


def steps(key: bytes | None, meter: str | None) -> list[object]:
    row: dict[str, object] = {"interval_start": "2026-01-01T00:00:00Z", "interval_seconds": 1800, "consumption": 0.2}
    row |= {} if meter is None else {"meter_id": meter}
    batch = decode(orjson.dumps(row), "application/json", METER).batch
    histories = Histories(find_service("smart-meter").modelled().predictor)
    found = list(histories.steps(key, batch, np.flatnonzero(batch.valid), 1_767_312_000_000))
    return [step.key if isinstance(step, Step) else step for step in found]


@pytest.mark.parametrize("meter", ["0x00158d0001234567", "a\N{SNOWMAN}", "0xff"])
def test_a_meter_has_one_name_whether_a_row_says_it_or_the_message(meter: str) -> None:
    assert steps(meter.encode(), None) == steps(meter.encode(), meter) == steps(None, meter) == [meter]


def test_a_row_that_names_the_number_of_its_message_is_of_that_series() -> None:
    assert steps(b"\0\0\0\1", "\0\0\0\1") == ["hex:00000001"]
