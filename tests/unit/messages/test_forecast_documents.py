"""Forecasts and realised errors as documents: read where each part is in its bounds, left out where one is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from kappawatt.bus.interface import Records
from kappawatt.messages.forecasts import read_documents

HOURS = [f"{np.datetime64('2026-01-01T00', 'h') + i}:00:00Z" for i in range(1001)]
FORECAST: dict[str, Any] = {
    "id": "f", "key": "PJME", "issue_time": "2026-01-01T00:00:00Z", "time_zone": "UTC", "step_seconds": 3600,
    "target_time": HOURS[:2], "quantiles": {"0.50": [1.0, 2.0]},
}  # fmt: skip
REALISED: dict[str, Any] = {
    "id": "e", "key": "PJME", "issue_time": "2026-01-01T00:00:00Z", "target_time": HOURS[3],
    "measured": 1.0, "forecast": 2.0, "error": 1.0, "lower": 0.0, "upper": 3.0, "crps": 0.5,
}  # fmt: skip
LEVELS = {f"0.{i:03d}": [1.0, 2.0] for i in range(1, 202)}


def read(*documents: Any) -> list[dict[str, Any]]:
    n = len(documents)
    values = [d if isinstance(d, bytes) else orjson.dumps(d) for d in documents]
    return read_documents(
        [Records("t", 3, list(range(10, 10 + n)), list(range(n)), [b"k"] * n, values, [()] * n, "log")]
    )


def test_both_kinds_are_read_with_their_place_and_what_is_neither_is_left_out() -> None:
    found = read(FORECAST, b"no json", {}, {"quantiles": {}}, REALISED)

    assert found == [
        {**FORECAST, "topic": "t", "partition": 3, "offset": 10, "published": 0},
        {**REALISED, "topic": "t", "partition": 3, "offset": 14, "published": 4},
    ]


def test_the_name_of_a_release_before_is_read_under_todays() -> None:
    (found,) = read({**FORECAST, "known_at": HOURS[0]})

    assert found["available_at"] == HOURS[0]
    assert "known_at" not in found


RIGHT: list[dict[str, Any]] = [
    {"step_seconds": 1},
    {"step_seconds": 366 * 86_400},
    {"target_time": HOURS[:1], "quantiles": {"0.50": [1.0]}},
    {"target_time": HOURS[:1000], "quantiles": {"0.50": [1.0] * 1000}},
    {"quantiles": dict(list(LEVELS.items())[:200])},
    {"quantiles": {"0." + "1" * 18: [1.0, 2.0]}},
    {"target_time": ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000001Z"]},
    {"day": None},
    {"day": {}},
    {"day": {str(i): {"0.5": 1.0} for i in range(50)}},
    {"day": {"peak": dict.fromkeys(list(LEVELS)[:200], 1.0)}},
]
WRONG: list[dict[str, Any]] = [
    {"step_seconds": 0},
    {"step_seconds": 366 * 86_400 + 1},
    {"step_seconds": 1.5},
    {"target_time": [], "quantiles": {"0.50": []}},
    {"target_time": HOURS[:1001], "quantiles": {"0.50": [1.0] * 1001}},
    {"target_time": "x"},
    {"target_time": [HOURS[1], HOURS[0]]},
    {"target_time": [HOURS[0], HOURS[0]]},
    {"target_time": [HOURS[0], 1]},
    {"quantiles": {}},
    {"quantiles": []},
    {"quantiles": LEVELS},
    {"quantiles": {"0.50": [1.0]}},
    {"quantiles": {"0.50": [1.0, 2.0], "0.60": [1.0, None]}},
    *({"quantiles": {level: [1.0, 2.0]}} for level in ("0", "1", "1.5", "-0.5", "x", "0." + "1" * 19)),
    {"day": []},
    {"day": {str(i): {"0.5": 1.0} for i in range(51)}},
    {"day": {"peak": dict.fromkeys(LEVELS, 1.0)}},
    {"day": {"peak": {"0.5": None}}},
    {"day": {"peak": {"2": 1.0}}},
    {"day": {"peak": {"0.5": 1.0, "2": 1.0}}},
    {"day": {"peak": [1.0]}},
    {"day": {"": {"0.5": 1.0}}},
]


@pytest.mark.parametrize("change", RIGHT)
def test_a_forecast_in_its_bounds_is_read(change: dict[str, Any]) -> None:
    assert len(read(FORECAST | change)) == 1


@pytest.mark.parametrize("change", WRONG)
def test_a_forecast_beyond_a_bound_is_left_out(change: dict[str, Any]) -> None:
    assert read(FORECAST | change, REALISED)[0]["id"] == "e"


@pytest.mark.parametrize("name", ["measured", "target_time", "crps", "id"])
def test_an_error_needs_each_of_its_parts(name: str) -> None:
    assert read({n: v for n, v in REALISED.items() if n != name}) == []
    assert read(REALISED | {name: None}) == []
