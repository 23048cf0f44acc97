"""A stream's record: one that cannot be is refused where it is made, and what it says holds wherever it is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from kappawatt.bus.topic import DAY, Topic
from kappawatt.columns.codec import decode
from kappawatt.columns.content import JSON
from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.errors import SettingInvalid
from kappawatt.messages.predictions import read_predictions
from kappawatt.serving.kinds import predicts
from kappawatt.streams import load, meter, plant
from kappawatt.streams.rules import screened
from kappawatt.streams.stream import Key, Stream, View
from kappawatt.streams.table import checked
from kappawatt.worker.predicting import Answering
from tests import fakes
from tests.unit.worker.test_worker import as_records, records

PUMP = Field("pump", "", "which", kind=Kind.TEXT, required=False)
FLOW = Field("flow", "m3/s", "through it", minimum=0, maximum=100, example=1.5)
SAMPLED = Field("sampled_at", "", "when", kind=Kind.TIMESTAMP, required=False)


def topic(name: str, *fields: Field) -> Topic:
    return Topic(name, "pump", Schema("Row", "A row.", fields), 2, DAY, (), (), "of a test")


def stream(**changes: Any) -> Stream:
    """A stream whose rows may name their key, with a time of another name than any that ships."""
    parts: dict[str, Any] = {
        "name": "water-pump",
        "service": "pump-flow",
        "title": "a second of a pump",
        "key": Key("pump", "pump", "pump-1"),
        "target": "flow",
        "readings": topic("pump.readings", PUMP, FLOW, SAMPLED),
        "answers": topic("pump.predictions", FLOW),
        "path": "pumps",
        "arrival": "sampled_at",
        "view": View("Pumps"),
    }
    return Stream(**parts | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Water Pump"}, "stream Water Pump: name: got Water Pump"),
        ({"path": "a/b"}, "path: got a/b"),
        ({"target": "head"}, "target: got head, allowed a field: pump, flow, sampled_at, flow"),
        ({"arrival": "event_time"}, "arrival: got event_time"),
        ({"values": ("head",)}, "values: got"),
        ({"steps": (900,)}, "steps: got"),
        ({"usual_step": 900}, "usual_step: got 900"),
        ({"errors": topic("pump.forecast-errors", FLOW)}, "errors: got"),
        ({"readings": replace(topic("pump.readings"), message=None)}, "got no schema, allowed one"),
        (
            {"readings": topic("pump.readings", replace(FLOW, example=None)), "arrival": None},
            "an example for each required field",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_record_that_cannot_be_is_refused_where_it_is_made(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        stream(**changes)

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"name": "load"}, "name load"),
        ({"path": "load"}, "path /load"),
        ({"service": "hourly-load"}, "service hourly-load"),
        ({"readings": replace(topic("load.readings", FLOW), key="pump"), "arrival": None}, "topic load.readings"),
        ({"answers": topic("kappawatt.streams", FLOW)}, "topic kappawatt.streams"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_two_streams_cannot_have_the_same(changes: dict[str, Any], claim: str) -> None:
    with pytest.raises(SettingInvalid, match=claim):
        checked([plant.STREAM, load.STREAM, meter.STREAM, stream(**changes)])


@pytest.mark.parametrize(
    ("body", "key", "allowed"),
    [
        (b'{"flow": 1, "pump": "other"}', "pump-1", "'pump-1', the name these rows were sent under, or nothing"),
        (b'{"flow": 1}', "", "1 to 100 of A-Z"),
        (b'{"flow": 1, "pump": "a/b"}', "", "1 to 100 of A-Z"),
    ],
)
def test_rows_that_name_their_key_do_it_rightly_in_any_stream(body: bytes, key: str, allowed: str) -> None:
    own = stream()

    batch = screened(own, decode(body, JSON, own.schema).batch, key)

    [rejection] = batch.rejections
    assert rejection.field == "pump"
    assert allowed in rejection.allowed


def test_the_time_of_a_prediction_is_what_the_stream_calls_arrival(tmp_path: Path) -> None:
    model = fakes.model(tmp_path)
    row = {**fakes.EXAMPLE, "event_time": "2016-07-01T04:00:00Z"}
    by_name = Answering(model, "out", "dead", 0, "event_time")
    by_none = Answering(model, "out", "dead", 0, "")
    polled = [records(orjson.dumps(row))]
    found = [as_documents(answering, polled) for answering in (by_name, by_none)]

    assert found[0]["event_time"] == "2016-07-01T04:00:00.000Z"
    assert found[1]["event_time"] != found[0]["event_time"]


def as_documents(answering: Answering, polled: Any) -> dict[str, Any]:
    [document] = read_predictions([as_records(answering.answer(polled).outgoing, answering.output)])
    return document


def test_tables_of_a_name_with_a_hyphen_have_an_underscore() -> None:
    assert (stream().readings_name, stream().answers_name) == ("water_pump_readings", "water_pump_predictions")


def test_a_stream_of_several_lengths_has_rows_that_may_say_theirs() -> None:
    fields = tuple(field for field in load.STREAM.schema.fields if field.name != "interval_seconds")
    readings = replace(load.LOAD_READINGS, message=replace(load.STREAM.schema, fields=fields))

    with pytest.raises(SettingInvalid, match=r"steps: got .*, allowed one, or several with interval_seconds"):
        replace(load.STREAM, readings=readings)
    assert replace(load.STREAM, readings=readings, steps=(3600,)).supposed_step == 3600
    assert (load.STREAM.supposed_step, meter.STREAM.supposed_step) == (3600, 900)


def test_a_service_with_another_services_stream_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="stream plant: service: got plant-power, allowed fake-power"):
        predicts(fakes.PREDICTOR, summary="A fake.", port=8999, stream=plant.STREAM)


def test_the_example_row_of_every_stream_is_taken() -> None:
    for own in (plant.STREAM, load.STREAM, meter.STREAM, stream()):
        batch = decode(orjson.dumps(own.example_row()), JSON, own.schema).batch

        assert screened(own, batch, "k-1").rejections == (), own.name
