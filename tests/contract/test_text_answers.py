"""Words as an answer: an explanation or the name of a class goes through every door to the last character."""

from __future__ import annotations

import csv
import io
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kappawatt.bus import Bus, Outgoing
from kappawatt.columns.arrow import read_columns, write_columns
from kappawatt.columns.batch import Answer
from kappawatt.columns.content import ARROW
from kappawatt.columns.plain import csv_cells
from kappawatt.deploy.aws.lambda_function import Function, function_settings
from kappawatt.errors import ArtifactInvalid
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.predictions import read_predictions
from kappawatt.models.predictor import Model
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from kappawatt.streams.plant import STREAM
from kappawatt.worker.predicting import Answering
from kappawatt.worker.replay import compare, replay
from tests import text_fakes
from tests.contract.doors import DOORS, Door, Rows, answer_directly, post, rows_of, tensors_of
from tests.fakes import EXAMPLE, POISON
from tests.text_fakes import PREDICTOR, SERVICE, TEXTS
from tests.unit.deploy.aws.fixtures import content, http_api, rest_api
from tests.unit.worker.test_worker import DEAD, as_records, records

NAMES = PREDICTOR.response.names


def rows(n: int = len(TEXTS)) -> list[dict[str, Any]]:
    return [EXAMPLE | {"ambient_temperature": float(i % 32)} for i in range(n)]


def only_answers(found: Rows) -> list[dict[str, Any]]:
    return [{name: row[name] for name in NAMES} for row in found]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return text_fakes.model(tmp_path / "artifacts")


@pytest.fixture
def app(model: Model, settings: Settings, tmp_path: Path) -> Flask:
    return create_app(SERVICE, replace(settings, artifacts=tmp_path / "artifacts"))


def test_the_model_itself_says_these_words(app: Flask, model: Model) -> None:
    assert [row["explanation"] for row in answer_directly(app, model, rows())] == list(TEXTS)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("n", [1, len(TEXTS), 70])
def test_every_door_gives_the_same_words(app: Flask, model: Model, door: Door, n: int) -> None:
    assert only_answers(door(app, model, rows(n))) == answer_directly(app, model, rows(n))


def test_a_csv_answer_holds_the_words_and_tells_empty_from_nothing(app: Flask, model: Model) -> None:
    response = post(app, "/predict", json=rows(), headers={"Accept": "text/csv"})

    header, *lines = csv.reader(io.StringIO(response.get_data().decode(), newline=""), strict=True)
    expected = answer_directly(app, model, rows())
    assert tuple(header) == NAMES
    assert [line[0] for line in lines] == [row["cause"] for row in expected]
    assert [line[1] for line in lines] == [text or "" for text in TEXTS]
    assert [float(line[2]) for line in lines] == [row["probability"] for row in expected]
    assert b'"class 1","",' in response.data
    assert b'"class 2",,' in response.data


def test_sagemaker_answers_csv_with_the_words_alone(app: Flask) -> None:
    body = "\n".join(",".join(str(v) for v in row.values()) for row in rows(3))

    response = post(app, "/invocations", data=body, content_type="text/csv")

    assert response.text == '"class 0"\n"class 1"\n"class 2"\n'


def test_sagemaker_answers_lines_of_json(app: Flask, model: Model) -> None:
    response = post(app, "/invocations", json=rows(), headers={"Accept": "application/x-ndjson"})

    assert [orjson.loads(line) for line in response.data.splitlines()] == answer_directly(app, model, rows())


def test_open_inference_sends_words_as_binary_bytes(app: Flask, model: Model) -> None:
    document = {"inputs": tensors_of(rows()), "parameters": {"binary_data_output": True}}

    response = post(app, f"/v2/models/{model.name}/infer", json=document)

    length = int(response.headers["Inference-Header-Content-Length"])
    raw, found = response.data[length:], {}
    for tensor in orjson.loads(response.data[:length])["outputs"]:
        size = tensor["parameters"]["binary_data_size"]
        found[tensor["name"]] = (tensor["datatype"], raw[:size])
        raw = raw[size:]
    expected = answer_directly(app, model, rows())
    assert raw == b""
    assert (found["explanation"][0], elements(found["explanation"][1])) == ("BYTES", [text or "" for text in TEXTS])
    assert (found["cause"][0], elements(found["cause"][1])) == ("BYTES", [row["cause"] for row in expected])
    assert found["probability"] == ("FP64", np.array([row["probability"] for row in expected]).tobytes())


def elements(blob: bytes) -> list[str]:
    found = []
    while blob:
        (length,) = struct.unpack_from("<I", blob)
        found.append(blob[4 : 4 + length].decode())
        blob = blob[4 + length :]
    return found


def test_open_inference_says_that_words_are_bytes(app: Flask, model: Model) -> None:
    outputs = app.test_client().get(f"/v2/models/{model.name}").json["outputs"]

    assert {tensor["name"]: tensor["datatype"] for tensor in outputs} == {
        "cause": "BYTES",
        "explanation": "BYTES",
        "probability": "FP64",
    }


def test_refused_rows_have_no_words_and_leave_the_others_theirs(app: Flask, model: Model) -> None:
    given_rows = rows(6)
    given_rows[1]["ambient_temperature"] = POISON
    given_rows[4]["relative_humidity"] = -1.0

    answer = app.test_client().post("/predict", json=given_rows).json
    partial = {"inputs": tensors_of(given_rows), "parameters": {"partial": True}}
    tensors = post(app, f"/v2/models/{model.name}/infer", json=partial).json["outputs"]

    expected = [None if i in (1, 4) else row for i, row in enumerate(answer_directly(app, model, rows(6)))]
    assert answer["predictions"] == expected
    assert next(t["data"] for t in tensors if t["name"] == "cause") == [row and row["cause"] for row in expected]


@pytest.mark.parametrize("block_rows", [0, 1])
def test_the_worker_keeps_refused_rows_apart(model: Model, block_rows: int) -> None:
    given_rows = rows(6)
    given_rows[1]["ambient_temperature"] = POISON

    outcome = Answering(model, "out", DEAD, block_rows).answer([records(*map(orjson.dumps, given_rows))])

    found = read_predictions([as_records(outcome.outgoing, "out")])
    assert [row["explanation"] for row in found] == [TEXTS[i] for i in (0, 2, 3, 4, 5)]
    assert len(read_dead_letters([as_records(outcome.outgoing, DEAD)])) == 1


def test_words_are_the_schema_s_in_openapi_and_params(app: Flask) -> None:
    client = app.test_client()

    params = client.get("/params").json
    openapi = client.get("/openapi.json").json

    properties = params["response_schema"]["properties"]
    assert (properties["cause"]["type"], properties["cause"]["maxLength"]) == ("string", 200)
    assert properties["explanation"]["anyOf"] == [
        {"type": "string", "minLength": 0, "maxLength": 20_000},
        {"type": "null"},
    ]
    assert params["example"]["answer"]["cause"] == "class 14"
    answers = openapi["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answers["anyOf"][0]["properties"]["cause"] == properties["cause"]


def test_a_lambda_function_gives_the_same_words(app: Flask, model: Model, tmp_path: Path) -> None:
    function = Function(SERVICE, function_settings({"KAPPAWATT_ARTIFACTS": str(tmp_path / "artifacts")}), has_bus=False)
    columns = {name: np.array([row[name] for row in rows()]) for name in EXAMPLE}

    direct = function({"rows": rows()})["predictions"]
    http = orjson.loads(function(http_api(body=orjson.dumps(rows()).decode()))["body"])["predictions"]
    arrow = rows_of(
        read_columns(content(function(rest_api(body=write_columns(columns), content_type=ARROW, accept=ARROW))))
    )

    assert direct == http == arrow == answer_directly(app, model, rows())


def test_a_replay_compares_words(bus: Bus, model: Model, tmp_path: Path) -> None:
    producer = bus.producer()
    producer.publish([Outgoing(STREAM.readings.name, orjson.dumps(row), b"p") for row in rows()])
    other = PREDICTOR.open(text_fakes.write_artifact(tmp_path / "other", "2", shift=1))
    first = Answering(model, STREAM.answers.name, DEAD, 0)
    reader = bus.reader([STREAM.readings.name], {})
    outgoing = []
    while polled := reader.poll(0.0):
        outgoing += first.answer(polled).outgoing
    reader.close()
    producer.publish(outgoing)
    producer.close()
    same, changed = (
        replay(bus, STREAM, Answering(m, to, DEAD, 1), m.version, start={}, to=to)
        for m, to in ((model, "side-1"), (other, "side-2"))
    )

    for report in (same, changed):
        compare(bus, report, STREAM.answers.name, PREDICTOR.target)

    assert (same.compared, same.identical, same.max_difference) == (len(TEXTS), len(TEXTS), None)
    assert (changed.compared, changed.identical) == (len(TEXTS), 0)
    assert "16 identical" in same.describe()


def test_an_artifact_that_gives_other_words_is_refused(tmp_path: Path) -> None:
    artifact = text_fakes.write_artifact(tmp_path, cause="class 15")

    with pytest.raises(ArtifactInvalid, match="example: cause: got class 14, allowed class 15"):
        PREDICTOR.open(artifact)


def test_an_answer_that_is_no_text_is_the_model_s_failure(model: Model) -> None:
    numbers = replace(PREDICTOR, predict=lambda fitted, columns: text_fakes.predict(0, columns) | {"cause": np.ones(1)})
    batch = PREDICTOR.request.check({name: np.array([value]) for name, value in EXAMPLE.items()}, 1)

    answer = Model(numbers, 0, model.manifest).answer(batch)

    assert [r.code for r in answer.rejections] == ["model_failed"]
    assert answer.columns["cause"].tolist() == [None]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=20))
def test_any_words_survive_arrow_and_csv(texts: list[str | None]) -> None:
    column = np.full(len(texts), None, dtype=object)
    column[:] = texts
    answer = Answer({"text": column}, np.ones(len(texts), np.bool_), (), "m", "1")

    cells = csv_cells(column)

    assert read_columns(write_columns(answer.columns))["text"].tolist() == texts
    read = [row[0] if row else "" for row in csv.reader(io.StringIO("\n".join(cells), newline=""), strict=True)]
    assert read == [text or "" for text in texts][: len(read)]
    assert ["" if text is None else text for text in texts[len(read) :]] in ([], [""])
    assert [cell == "" for cell in cells] == [text is None for text in texts]
