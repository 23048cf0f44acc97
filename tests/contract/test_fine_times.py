"""Times finer than a millisecond: samples of 25 kHz, 40 us apart, keep their order and their digits on every way."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import nanoarrow
import numpy as np
import orjson
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from nanoarrow.ipc import StreamWriter

from kappawatt.columns.arrow import read_columns, write_columns
from kappawatt.columns.codec import decode, decode_many
from kappawatt.columns.content import ARROW, CSV, JSON, NDJSON
from kappawatt.columns.json_rows import decode_objects
from kappawatt.columns.times import iso_texts
from kappawatt.columns.values import parse_microseconds, parse_timestamp
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.predictions import read_predictions
from kappawatt.messages.readings import reading_messages
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams import load
from kappawatt.streams.plant import READING, STREAM
from tests import fakes
from tests.contract.doors import tensors_of
from tests.fakes import EXAMPLE
from tests.unit.worker.test_worker import DEAD, answering, as_records, records

START = np.datetime64("2024-07-01T12:00:00.000000")
SAMPLES = START + np.arange(100) * np.timedelta64(40, "us")
TEXTS = [f"{time}Z" for time in SAMPLES.astype(str)]
WRITTEN = [f"{t.astype('datetime64[ms]') if t == t.astype('datetime64[ms]') else t}Z" for t in SAMPLES]
NAMES = list(EXAMPLE)


def rows(times: list[Any]) -> list[dict[str, Any]]:
    return [EXAMPLE | {"event_time": time} for time in times]


def as_csv(times: list[Any]) -> bytes:
    values = ",".join(repr(EXAMPLE[name]) for name in NAMES)
    return "\n".join([",".join([*NAMES, "event_time"]), *(f"{values},{time}" for time in times)]).encode()


def as_arrow(times: np.ndarray[Any, Any], unit: str) -> bytes:
    columns = {name: np.full(len(times), EXAMPLE[name]) for name in NAMES}
    whole = times.astype(f"datetime64[{unit}]").astype(np.int64)
    column = nanoarrow.c_array_from_buffers(
        nanoarrow.timestamp(unit, "UTC"), length=len(whole), buffers=[None, whole], null_count=0
    )
    arrays = {name: nanoarrow.c_array(values) for name, values in columns.items()} | {"event_time": column}
    schema = nanoarrow.struct({name: array.schema for name, array in arrays.items()}, nullable=False)
    stream = nanoarrow.c_array_from_buffers(schema, len(times), buffers=[None], children=list(arrays.values()))
    out = io.BytesIO()
    with StreamWriter.from_writable(out) as writer:
        writer.write_array(stream)
    return out.getvalue()


BODIES = {
    "JSON": (JSON, orjson.dumps(rows(TEXTS))),
    "JSON columns": (
        JSON,
        orjson.dumps({"columns": {**{n: [EXAMPLE[n]] * len(TEXTS) for n in NAMES}, "event_time": TEXTS}}),
    ),
    "JSON, nine digits": (JSON, orjson.dumps(rows([text.replace("Z", "999Z") for text in TEXTS]))),
    "NDJSON": (NDJSON, b"\n".join(map(orjson.dumps, rows(TEXTS)))),
    "CSV": (CSV, as_csv(TEXTS)),
    "Arrow, us": (ARROW, as_arrow(SAMPLES, "us")),
    "Arrow, ns": (ARROW, as_arrow(SAMPLES, "ns")),
}


@pytest.mark.parametrize(("kind", "body"), BODIES.values(), ids=BODIES.keys())
def test_every_format_keeps_microseconds(kind: str, body: bytes) -> None:
    batch = decode(body, kind, READING).batch

    assert not batch.rejections
    assert batch.columns["event_time"].tolist() == SAMPLES.tolist()


@pytest.mark.parametrize(("kind", "body"), BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("block_rows", [0, 64])
def test_a_prediction_has_the_time_of_its_reading(tmp_path: Path, kind: str, body: bytes, block_rows: int) -> None:
    message = records(body, headers=(("content-type", kind.encode()),))

    outcome = answering(tmp_path, block_rows=block_rows).answer([message])

    found = read_predictions([as_records(outcome.outgoing, "plant.predictions")])
    assert len(outcome.outgoing) == (1 if block_rows else len(SAMPLES))
    assert [p["event_time"] for p in found] == WRITTEN


@pytest.mark.parametrize("block_rows", [0, 64])
def test_what_is_ingested_keeps_its_time(block_rows: int) -> None:
    batch = decode_objects(rows(TEXTS), READING)

    messages = reading_messages(STREAM, batch, "plant-1", block_rows=block_rows)

    kind = ARROW if block_rows else JSON
    again = decode_many([message.value for message in messages], kind, READING).batch
    assert again.columns["event_time"].tolist() == SAMPLES.tolist()


def test_a_dead_letter_keeps_the_original_with_its_time(tmp_path: Path) -> None:
    value = orjson.dumps(rows(TEXTS)[1] | {"relative_humidity": -1})

    outcome = answering(tmp_path).answer([records(value)])

    (letter,) = read_dead_letters([as_records(outcome.outgoing, DEAD)])
    assert orjson.loads(letter["original"])["event_time"] == TEXTS[1]


def infer(app: Flask, tensor: dict[str, Any], raw: bytes = b"") -> Any:
    head = orjson.dumps({"inputs": [*tensors_of([EXAMPLE] * 100), tensor | {"name": "event_time", "shape": [100]}]})
    headers = {"Inference-Header-Content-Length": str(len(head))} if raw else {}
    return app.test_client().post("/v2/models/fake-power/infer", data=head + raw, headers=headers)


def test_open_inference_takes_times_as_bytes(settings: Settings) -> None:
    fakes.write_artifact(settings.artifacts)
    app = create_app(fakes.SERVICE, settings)
    raw = b"".join(len(text).to_bytes(4, "little") + text.encode() for text in TEXTS)
    binary = {"datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}

    answers = [infer(app, {"datatype": "BYTES", "data": TEXTS}), infer(app, binary, raw)]

    assert [answer.status_code for answer in answers] == [200, 200]
    damaged = infer(app, binary, raw[:-1] + b"\xff")
    assert (damaged.status_code, "texts" in damaged.json["error"]) == (400, True)


def test_whole_milliseconds_are_written_as_before(tmp_path: Path) -> None:
    times = [f"{START.astype('datetime64[ms]') + i}Z" for i in range(70)]
    events, blocks = (
        answering(tmp_path / str(n), block_rows=n).answer([records(orjson.dumps(rows(times)))]).outgoing
        for n in (0, 64)
    )

    assert [orjson.loads(m.value)["event_time"] for m in events] == times
    assert read_columns(blocks[0].value)["event_time"].dtype == "datetime64[ms]"
    assert write_columns({"t": SAMPLES[::25]}) == write_columns({"t": SAMPLES[::25].astype("datetime64[ms]")})


def test_a_row_is_written_the_same_whatever_stands_beside_it() -> None:
    mixed = np.array(["2024-01-01T00:00:00.001", "2024-01-01T00:00:00.000040", "NaT"], dtype="datetime64[us]")

    assert iso_texts(mixed) == ["2024-01-01T00:00:00.001Z", "2024-01-01T00:00:00.000040Z", None]
    assert iso_texts(mixed[:1]) == ["2024-01-01T00:00:00.001Z"]
    assert iso_texts(read_columns(write_columns({"t": mixed}))["t"]) == iso_texts(mixed)


def test_interval_starts_stay_milliseconds() -> None:
    row = {"interval_start": "2016-07-01T04:00:00.0000009Z", "load": 1.0}

    batch = decode_objects([row], load.READING)

    assert batch.columns["interval_start"].dtype == "datetime64[ms]"
    assert batch.columns["issue_time"].dtype == "datetime64[ms]"


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_any_microsecond_of_the_calendar_survives_text_and_arrow(microsecond: int) -> None:
    column = np.array([microsecond]).view("datetime64[us]")

    (text,) = iso_texts(column)

    assert parse_microseconds(text) == microsecond
    assert parse_timestamp(text) == microsecond // 1000
    assert read_columns(write_columns({"t": column}))["t"][0] == column[0]
