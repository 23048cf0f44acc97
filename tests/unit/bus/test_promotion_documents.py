"""Promotions are documents that anybody may have written: one that is none is left out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kappawatt.bus import Bus
from kappawatt.bus.interface import Outgoing
from kappawatt.bus.promotions import PROMOTIONS, PromotionFollower, Serving
from tests.conftest import publish

PREDICTIONS = "plant.predictions"
PROMOTION: dict[str, Any] = {
    "stream": PREDICTIONS, "topic": "side", "version": "2", "covered": {"0": 1}, "reason": "better", "promoted_at": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"stream": "load.forecasts"}, {"stream": ["plant.predictions"]}, {"topic": ["side"]}, {"topic": ""},
        {"topic": "a/b"}, {"topic": "s" * 300}, {"version": None}, {"version": {"a": 1}}, {"version": ""},
        {"version": "v" * 9_000}, {"covered": None}, {"covered": [1]}, {"covered": {"x": 1}}, {"covered": {"0": -1}},
        {"covered": {"0": "1"}}, {"covered": {"9" * 5_000: 1}}, {"covered": {"0": 2**63}}, {"covered": {"0": None}},
        {"promoted_at": "now"}, {"promoted_at": -1}, {"promoted_at": True}, {"promoted_at": 1.5}, {"reason": 7},
    ],
)  # fmt: skip
def test_a_promotion_with_a_field_that_is_another_thing_is_left_out(bus: Bus, change: dict[str, Any]) -> None:
    good, bad = orjson.dumps(PROMOTION), orjson.dumps(PROMOTION | change)
    publish(bus, [Outgoing(PROMOTIONS.name, value, PREDICTIONS.encode()) for value in (good, bad)])
    follower = PromotionFollower(bus, PREDICTIONS)

    found = follower.read()

    follower.close()
    assert found == Serving(PREDICTIONS, "side", "2", {0: 1}, "better", 1)


@pytest.mark.parametrize("value", [b"", b"\xff", b"[]", b"null", b"[" * 2_000, b'{"stream": "\\ud800"}', b"{}"])
def test_a_promotion_that_is_none_is_left_out(bus: Bus, value: bytes) -> None:
    publish(bus, [Outgoing(PROMOTIONS.name, value, PREDICTIONS.encode())])
    follower = PromotionFollower(bus, PREDICTIONS)

    assert follower.read() is None
    follower.close()
