"""Promotions on the real embedded bus: what is written is what is followed, and nothing else is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from kappawatt.bus import Bus, Outgoing, connect
from kappawatt.bus.promotions import PROMOTIONS, PromotionFollower, Serving, group_of, promote
from kappawatt.streams.plant import PLANT_READINGS
from kappawatt.streams.table import TOPICS
from tests.conftest import everything, publish

FIRST = Serving("plant", "plant.predictions.new", "2", {0: 5, 1: 7}, "better in summer", 1_700_000_000_000)
SECOND = replace(FIRST, topic="plant.predictions.newer", version="3", reason="")


def say(bus: Bus, value: bytes, stream: str = "plant") -> None:
    publish(bus, [Outgoing(PROMOTIONS.name, value, stream.encode())])


def written(**changes: object) -> bytes:
    document = {"stream": "plant", "topic": "t", "version": "2", "covered": {"0": 5}, "promoted_at": 1}
    return orjson.dumps(document | changes)


def test_the_group_of_a_service_is_its_name_until_a_topic_was_promoted() -> None:
    assert group_of("plant-power", None) == "plant-power"
    assert group_of("plant-power", FIRST) == "plant-power.plant.predictions.new"


def test_what_was_promoted_is_read_whole(bus: Bus) -> None:
    promote(bus, FIRST, "plant-power", PLANT_READINGS.name)

    assert PromotionFollower(bus, "plant").read() == FIRST


def test_the_newest_of_several_counts(bus: Bus) -> None:
    promote(bus, FIRST, "plant-power", PLANT_READINGS.name)
    promote(bus, SECOND, "plant-power", PLANT_READINGS.name)

    assert PromotionFollower(bus, "plant").read() == SECOND


def test_workers_begin_where_the_replay_ended(bus: Bus) -> None:
    promote(bus, FIRST, "plant-power", PLANT_READINGS.name)

    assert bus.committed("plant-power.plant.predictions.new", PLANT_READINGS.name) == {0: 5, 1: 7}
    assert bus.committed("plant-power", PLANT_READINGS.name) == {}


def test_the_time_of_a_promotion_is_now_where_none_is_given(bus: Bus) -> None:
    before = time.time_ns() // 1_000_000
    promote(bus, replace(FIRST, promoted_at=0), "plant-power", PLANT_READINGS.name)
    after = time.time_ns() // 1_000_000

    found = PromotionFollower(bus, "plant").read()
    assert found is not None
    assert before <= found.promoted_at <= after


def test_a_promotion_says_why_and_needs_not(bus: Bus) -> None:
    assert Serving("plant", "t", "1", {}).promoted_at == 0

    promote(bus, FIRST, "plant-power", PLANT_READINGS.name)
    (records,) = everything(bus, PROMOTIONS.name)
    assert [orjson.loads(value)["reason"] for value in records.values] == ["better in summer"]

    say(bus, written())
    found = PromotionFollower(bus, "plant").read()
    assert found == Serving("plant", "t", "2", {0: 5}, "", 1)


def test_another_streams_promotion_is_not_followed(bus: Bus) -> None:
    follower = PromotionFollower(bus, "meter")
    promote(bus, FIRST, "plant-power", PLANT_READINGS.name)

    assert follower.read() is None
    follower.close()


@pytest.mark.parametrize(
    "value",
    [
        b"no json",
        b"[]",
        b"7",
        b"{}",
        *(
            written(**{name: given})
            for name, values in {
                "stream": ["meter", None],
                "topic": ["", "a b", "a" * 250, 7, None],
                "version": ["", "v" * 401, 7, None],
                "covered": [
                    [1],
                    {"a": 1},
                    {"0": None},
                    {"0": -1},
                    {"0": 1.0},
                    {"0": True},
                    {"-1": 0},
                    {"1" * 10: 0},
                    {"0": 2**63},
                    None,
                ],
                "promoted_at": [-1, 2**63, 1.5, True, "1", None],
                "reason": ["r" * 401, 7],
            }.items()
            for given in values
        ),
    ],
)
def test_what_no_replay_wrote_leaves_the_promotion_before_it(bus: Bus, value: bytes) -> None:
    promote(bus, FIRST, "plant-power", PLANT_READINGS.name)
    say(bus, value)

    assert PromotionFollower(bus, "plant").read() == FIRST


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("version", "v" * 400),
        ("reason", "r" * 400),
        ("reason", ""),
        ("topic", "a" * 249),
        ("covered", {}),
        ("covered", {"9" * 9: 2**63 - 1, "0": 0}),
        ("promoted_at", 0),
    ],
)
def test_what_a_promotion_may_say_is_followed(bus: Bus, name: str, given: object) -> None:
    say(bus, written(**{name: given}))

    found = PromotionFollower(bus, "plant").read()

    assert found is not None
    expected = {int(p): end for p, end in given.items()} if isinstance(given, dict) else given
    assert getattr(found, name) == expected


def test_without_a_reason_none_is_given(bus: Bus) -> None:
    say(bus, written(reason=None))

    found = PromotionFollower(bus, "plant").read()

    assert found is not None
    assert found.reason == ""


def test_one_that_no_replay_wrote_is_not_followed_alone_and_does_not_hide_the_next(bus: Bus) -> None:
    say(bus, b"no json")
    follower = PromotionFollower(bus, "plant")

    assert follower.read() is None

    promote(bus, SECOND, "plant-power", PLANT_READINGS.name)
    assert follower.poll() == SECOND
    follower.close()


def test_a_follower_sees_each_promotion_once(bus: Bus) -> None:
    follower = PromotionFollower(bus, "plant")
    assert follower.poll() is None
    assert follower.read() is None

    promote(bus, FIRST, "plant-power", PLANT_READINGS.name)
    assert follower.poll() == FIRST
    assert follower.poll() is None

    promote(bus, FIRST, "plant-power", PLANT_READINGS.name)
    promote(bus, SECOND, "plant-power", PLANT_READINGS.name)
    assert follower.poll() == SECOND
    follower.close()
    assert follower.read() == SECOND  # closed, it begins anew
    follower.close()


@pytest.mark.parametrize(
    ("ask", "again"), [(PromotionFollower.read, [FIRST, SECOND]), (PromotionFollower.poll, [SECOND])]
)
def test_a_topic_that_was_made_again_is_read_from_its_beginning(
    bus: Bus, bus_url: str, ask: Callable[[PromotionFollower], Serving | None], again: list[Serving]
) -> None:
    promote(bus, FIRST, "plant-power", PLANT_READINGS.name)
    follower = PromotionFollower(bus, "plant")
    assert ask(follower) == FIRST

    for file in Path(bus_url.removeprefix("embedded:")).parent.glob("bus.sqlite*"):
        file.unlink()
    bus.ensure([*TOPICS, PROMOTIONS])
    for each in again:
        promote(bus, each, "plant-power", PLANT_READINGS.name)

    assert ask(follower) == SECOND
    follower.close()


def test_a_promotion_is_found_behind_those_of_other_streams(bus: Bus) -> None:
    follower = PromotionFollower(bus, "plant")
    for stream in ("meter", "plant", "load"):
        say(bus, written(stream=stream), stream)

    assert follower.read() == Serving("plant", "t", "2", {0: 5}, "", 1)
    follower.close()


def test_what_was_opened_is_closed(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    for name in ("producer", "reader"):
        make = getattr(bus, name)

        def opened(*given: Any, make: Any = make, name: str = name, **how: Any) -> Any:
            found = make(*given, **how)
            close = found.close
            monkeypatch.setattr(found, "close", lambda: closed.append(name) or close())
            return found

        monkeypatch.setattr(bus, name, opened)

    promote(bus, FIRST, "plant-power", PLANT_READINGS.name)
    assert closed == ["producer"]
    follower = PromotionFollower(bus, "plant")
    follower.read()
    follower.close()
    follower.close()
    assert closed == ["producer", "reader"]


def test_on_a_bus_without_the_topic_nothing_was_promoted(bus_url: str) -> None:
    empty = connect(bus_url)
    follower = PromotionFollower(empty, "plant")

    assert follower.read() is None
    assert follower.poll() is None

    empty.ensure([PROMOTIONS])
    follower.close()
    assert follower.read() is None
    empty.close()


def test_a_poll_with_nothing_to_read_does_not_wait(bus: Bus) -> None:
    follower = PromotionFollower(bus, "plant")
    began = time.monotonic()

    for _ in range(10):
        assert follower.poll() is None

    assert time.monotonic() - began < 5.0  # a wait of a second each would be ten
    follower.close()
