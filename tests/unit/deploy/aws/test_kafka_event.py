"""Readings that come as events of a Kafka event source are answered as a worker answers them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from kappawatt.bus import Bus, Records
from kappawatt.bus.promotions import Serving, promote
from kappawatt.deploy.aws.kafka_event import read_kafka_event
from kappawatt.deploy.aws.lambda_function import Function
from kappawatt.errors import BusError, NotReady, PayloadInvalid, SettingInvalid
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.predictions import read_predictions
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from kappawatt.worker.predicting import Answering
from tests.conftest import everything
from tests.unit.deploy.aws.fixtures import READING, http_api, kafka, load
from tests.unit.deploy.aws.test_lambda_function import make_function
from tests.unit.worker.test_worker import DEAD, PREDICTIONS, READINGS, as_records, records

MIXED = (orjson.dumps(READING), b"14.96,41.76,1024.07,73.17,463.26", b"junk", b"14.96,812.0,1024.07,73.17", b"")


@pytest.fixture
def function(bus: Bus) -> Function:
    return make_function(bus=bus.url, artifacts="")


def published(bus: Bus) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predictions and dead letters, without where and when they were stored."""
    stored = ("published", "topic", "partition", "offset")
    predictions = [
        {k: v for k, v in p.items() if k not in stored} for p in read_predictions(everything(bus, PREDICTIONS))
    ]
    letters = [{k: v for k, v in x.items() if k != "published"} for x in read_dead_letters(everything(bus, DEAD))]
    return predictions, letters


def by_a_worker(bus: Bus, polled: list[Records]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    model = find_service("plant-power").open(Settings.read({}))
    polled = [replace(records, log=bus.log_id(READINGS)) for records in polled]
    outgoing = Answering(model, PREDICTIONS, DEAD, 64).answer(polled).outgoing  # type: ignore[arg-type]
    stored = ("published", "topic", "partition", "offset")
    predictions = [
        {k: v for k, v in p.items() if k not in stored} for p in read_predictions([as_records(outgoing, PREDICTIONS)])
    ]
    letters = [
        {k: v for k, v in x.items() if k != "published"} for x in read_dead_letters([as_records(outgoing, DEAD)])
    ]
    return predictions, letters


def in_order(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda document: str(document["id"]))


@pytest.mark.parametrize("name", ["msk", "self_managed_kafka"])
def test_an_event_of_either_source_is_answered(function: Function, bus: Bus, name: str) -> None:
    counts = function(load(name))

    message = next(iter(load(name)["records"].values()))[0]
    (prediction,), letters = published(bus)
    assert counts == {"rows": 1, "refused": 0}
    assert prediction["net_power"] == 463.496
    place = f"{bus.log_id(READINGS)}-{message['partition']}-{message['offset']}"
    assert prediction["id"] == f"plant.readings:{place}-0@{prediction['version']}"
    assert letters == []


def test_ids_values_and_dead_letters_are_those_of_a_worker(function: Function, bus: Bus) -> None:
    polled = [records(*MIXED), Records(READINGS, 1, [5], [1_700_000_000_000], [b"q"], [MIXED[0]], [()])]

    counts = function(kafka(polled))

    predictions, letters = published(bus)
    expected, refused = by_a_worker(bus, polled)
    assert counts == {"rows": 6, "refused": 3}
    assert in_order(predictions) == in_order(expected)
    assert in_order(letters) == in_order(refused)
    assert len(letters) == 3


def test_a_block_of_answers_travels_as_a_block(function: Function, bus: Bus) -> None:
    polled = [records(*MIXED[:1] * 100)]

    function(kafka(polled))

    assert [len(r) for r in everything(bus, PREDICTIONS)] == [1]
    assert in_order(published(bus)[0]) == in_order(by_a_worker(bus, polled)[0])


def test_an_event_that_comes_twice_overwrites_and_does_not_double(function: Function, bus: Bus) -> None:
    event = kafka([records(*MIXED)])

    function(event)
    function(event)

    predictions, letters = published(bus)
    assert len(predictions) == 4
    assert len({p["id"] for p in predictions}) == 2
    assert len({x["id"] for x in letters}) == 3


def test_messages_are_read_as_kafka_had_them() -> None:
    given = Records(
        READINGS, 2, [7, 9], [1, 2], [None, b"\xff\x00"], [b"\x80abc", b""], [(("a", b"\xfe"),), (("b", b""),)]
    )
    event = kafka([given])
    messages = event["records"]["plant.readings-2"]
    messages.reverse()
    messages[1]["headers"] = [{"a": [-2]}]  # a byte with a sign, as Java writes it
    messages[0]["value"] = None
    messages[0]["headers"] = [{"b": None}]

    (found,) = read_kafka_event(event)

    assert (found.topic, found.partition, list(found.offsets)) == (READINGS, 2, [7, 9])
    assert (list(found.keys), list(found.values), list(found.headers)) == (
        list(given.keys),
        list(given.values),
        list(given.headers),
    )


def test_content_type_and_trace_of_a_message_are_followed(function: Function, bus: Bus) -> None:
    function(load("msk"))

    (stored,) = everything(bus, PREDICTIONS)
    assert dict(stored.headers[0])["traceparent"] == b"00-a"


@pytest.mark.parametrize("broken", [{"offset": None}, {"value": "%%%"}, {"headers": [{"a": "text"}]}, {"key": 5}])
def test_a_damaged_event_is_named(function: Function, broken: dict[str, Any]) -> None:
    event = load("msk")
    event["records"]["plant.readings-0"][0] |= broken

    with pytest.raises(PayloadInvalid, match="allowed records of a Kafka event source"):
        function(event)


def test_another_topic_is_a_mistake_in_the_wiring(function: Function, bus: Bus) -> None:
    other = Records("load.readings", 0, [1], [1], [None], [b"{}"], [()])

    with pytest.raises(PayloadInvalid, match=r"topic: got 'load.readings', allowed 'plant.readings'"):
        function(kafka([other]))
    assert published(bus) == ([], [])


def test_without_a_bus_an_event_fails_and_a_request_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    function = make_function()

    with pytest.raises(SettingInvalid, match="KAPPAWATT_BUS: got nothing, allowed kafka://"):
        function(load("msk"))
    assert function(http_api(body=orjson.dumps(READING)))["statusCode"] == 200
    assert list(tmp_path.iterdir()) == []  # the embedded bus of the default setting was not made


def test_without_a_model_an_event_fails(bus: Bus) -> None:
    function = make_function(bus=bus.url, artifacts="/nowhere")

    with pytest.raises(NotReady, match="model plant-power"):
        function(load("msk"))
    assert published(bus) == ([], [])


def test_forecasts_are_left_to_the_worker_that_keeps_histories(bus: Bus) -> None:
    function = make_function("hourly-load", bus=bus.url)

    with pytest.raises(PayloadInvalid, match="got Kafka records for hourly-load, allowed HTTP"):
        function(load("msk"))


def test_a_promoted_stream_is_refused_by_every_later_call(function: Function, bus: Bus) -> None:
    function(load("msk"))
    promote(bus, Serving(PREDICTIONS, "plant.predictions.new", "v2", {0: 0}), "plant-power", READINGS)

    for _ in range(2):
        with pytest.raises(BusError, match=r"got a promotion to plant.predictions.new \(v2\), allowed none"):
            function(load("msk"))
    assert len(published(bus)[0]) == 1
