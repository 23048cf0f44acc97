"""Bad input at every door: a 4xx problem that names field, value and what is allowed; never a 500, never a lost row."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask

from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.serving.app import create_app
from kappawatt.settings import Settings
from tests import fakes
from tests.contract.doors import tensors_of
from tests.fakes import EXAMPLE
from tests.unit.columns.test_codec import REFUSED_ROWS, UNREADABLE
from tests.unit.worker.test_worker import DEAD, answering, as_records, records


@pytest.fixture
def app(settings: Settings) -> Flask:
    fakes.write_artifact(settings.artifacts)
    return create_app(fakes.SERVICE, settings)


@pytest.mark.parametrize("path", ["/predict", "/invocations"])
@pytest.mark.parametrize(("body", "kind", "code", "field"), REFUSED_ROWS.values(), ids=REFUSED_ROWS.keys())
def test_http_names_field_value_and_allowed(
    app: Flask, path: str, body: bytes, kind: str, code: str, field: str | None
) -> None:
    response = app.test_client().post(path, data=body, content_type=kind)

    assert response.status_code == 422
    assert response.content_type == "application/problem+json"
    errors = {(e["code"], e["field"]): e for e in response.json["errors"]}
    assert (code, field) in errors
    assert errors[code, field]["allowed"]
    assert "got" in errors[code, field]


@pytest.mark.parametrize("path", ["/predict", "/invocations"])
@pytest.mark.parametrize(("body", "kind"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_http_says_why_a_body_cannot_be_read(app: Flask, path: str, body: bytes, kind: str) -> None:
    response = app.test_client().post(path, data=body, content_type=kind)

    assert response.status_code == 400
    assert response.content_type == "application/problem+json"
    assert "allowed" in response.json["detail"]


@pytest.mark.parametrize(("body", "kind", "code", "field"), REFUSED_ROWS.values(), ids=REFUSED_ROWS.keys())
def test_the_bus_keeps_a_refused_row_as_a_dead_letter(
    tmp_path: Path, body: bytes, kind: str, code: str, field: str | None
) -> None:
    outcome = answering(tmp_path).answer([records(body, headers=(("content-type", kind.encode()),))])

    (letter,) = read_dead_letters([as_records(outcome.outgoing, DEAD)])
    assert (code, field) in {(e["code"], e["field"]) for e in letter["errors"]}


@pytest.mark.parametrize(("body", "kind"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_the_bus_keeps_an_unreadable_message_as_a_dead_letter(tmp_path: Path, body: bytes, kind: str) -> None:
    good = orjson.dumps(EXAMPLE)
    batch = [records(body, headers=(("content-type", kind.encode()),)), records(good)]

    outcome = answering(tmp_path).answer(batch)

    (letter,) = read_dead_letters([as_records(outcome.outgoing, DEAD)])
    assert letter["reason"] in ("malformed", "unknown_field")
    assert "original" in letter or "original_base64" in letter
    assert len(outcome.outgoing) == 2


def test_a_body_of_10_mb_is_refused_with_413(app: Flask) -> None:
    response = app.test_client().post("/predict", data=b" " * 10_000_000, content_type="application/json")

    assert response.status_code == 413
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("kind", ["application/xml", "text/plain", None])
def test_another_content_type_is_refused_with_415(app: Flask, kind: str | None) -> None:
    response = app.test_client().post("/predict", data=orjson.dumps(EXAMPLE), content_type=kind)

    assert response.status_code == 415
    assert "application/json" in response.json["detail"]


def test_one_bad_row_among_100_000_is_named_and_the_others_are_answered(app: Flask) -> None:
    rows = [dict(EXAMPLE) for _ in range(100_000)]
    rows[54_321]["exhaust_vacuum"] = "wet"
    body = orjson.dumps({"columns": {n: [row[n] for row in rows] for n in EXAMPLE}})

    response = app.test_client().post("/predict", data=body, content_type="application/json")

    assert response.status_code == 422
    assert [(e["row"], e["field"], e["got"]) for e in response.json["errors"]] == [(54_321, "exhaust_vacuum", "wet")]
    answers = response.json["predictions"]
    assert answers[54_321] is None
    assert sum(a is not None for a in answers) == 99_999


INFER = {"inputs": tensors_of([EXAMPLE])}


def infer_but(i: int, **changes: Any) -> dict[str, Any]:
    inputs = json.loads(json.dumps(INFER["inputs"]))
    inputs[i] |= changes
    return {"inputs": inputs}


BAD_INFER = {
    "no inputs": ({}, 400),
    "empty inputs": ({"inputs": []}, 400),
    "an unknown tensor": (infer_but(0, name="wind"), 400),
    "a wrong datatype": (infer_but(0, datatype="FP128"), 400),
    "a wrong shape": (infer_but(0, shape=[1, 4]), 400),
    "a negative shape": (infer_but(0, shape=[-1]), 400),
    "too few values": (infer_but(0, shape=[2]), 400),
    "data that is no list": (infer_but(0, data=7), 400),
    "out of range": (infer_but(1, data=[812.0]), 422),
    "text for a number": (infer_but(1, data=["x"]), 422),
    "a missing tensor": ({"inputs": INFER["inputs"][1:]}, 422),
    "a tensor twice": ({"inputs": [*INFER["inputs"], INFER["inputs"][0]]}, 400),
    "an unknown output": ({**INFER, "outputs": [{"name": "wind"}]}, 400),
    "parameters that are no object": ({**INFER, "parameters": []}, 400),
    "an id that is no text": ({**INFER, "id": 3}, 400),
    "a size without binary data": (infer_but(0, parameters={"binary_data_size": 8}), 400),
}


@pytest.mark.parametrize(("body", "status"), BAD_INFER.values(), ids=BAD_INFER.keys())
def test_open_inference_errors_are_the_protocols_own(app: Flask, body: dict[str, Any], status: int) -> None:
    response = app.test_client().post("/v2/models/fake-power/infer", json=body)

    assert response.status_code == status
    assert "allowed" in response.json["error"]


def test_open_inference_answers_the_good_rows_where_the_caller_allows_it(app: Flask) -> None:
    inputs = [
        {
            "name": n,
            "shape": [3, 1],
            "datatype": "FP32",
            "data": [[v], [v if n != "exhaust_vacuum" else 812], [v]],
        }
        for n, v in EXAMPLE.items()
    ]

    response = app.test_client().post(
        "/v2/models/fake-power/infer", json={"id": "7", "inputs": inputs, "parameters": {"partial": True}}
    )

    assert response.json["id"] == "7"
    assert [v is None for v in response.json["outputs"][0]["data"]] == [False, True, False]
    assert "exhaust_vacuum" in response.json["parameters"]["rejections"]


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/fake-power/versions/9", "/v2/models/other/ready"])
def test_an_unknown_model_or_version_is_404(app: Flask, path: str) -> None:
    response = app.test_client().get(path)

    assert response.status_code == 404
    assert "allowed" in response.json["error"]


def test_an_artifact_that_lies_about_its_example_is_never_ready(settings: Settings) -> None:
    fakes.write_artifact(settings.artifacts, example={"request": EXAMPLE, "answer": {"net_power": 1.0}})
    client = create_app(fakes.SERVICE, settings).test_client()

    assert client.get("/healthz").status_code == 200
    for path in ("/readyz", "/ping", "/v2/health/ready", "/params"):
        response = client.get(path)
        assert response.status_code == 503, path
    assert client.post("/predict", json=EXAMPLE).status_code == 503
    assert "example" in client.get("/readyz").json["detail"]


def test_a_request_id_is_given_back_and_a_hostile_one_replaced(app: Flask) -> None:
    client = app.test_client()

    kept = client.post("/predict", json=EXAMPLE, headers={"X-Request-Id": "abc-1"})
    replaced = client.get("/healthz", headers={"X-Request-Id": "x" * 500})

    assert kept.headers["X-Request-Id"] == "abc-1"
    assert len(replaced.headers["X-Request-Id"]) == 32


def test_head_is_answered_where_get_is(app: Flask) -> None:
    for path in ("/ping", "/healthz", "/readyz", "/v2/health/live"):
        response = app.test_client().head(path)
        assert (response.status_code, response.data) == (200, b"")


def chunked(app: Flask, path: str, body: bytes, kind: str) -> Any:
    """A body without a length, as `Transfer-Encoding: chunked` arrives behind a server that unpacks chunks."""
    return app.test_client().post(
        path,
        input_stream=io.BytesIO(body),
        content_type=kind,
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )


@pytest.mark.parametrize("path", ["/predict", "/invocations"])
def test_a_chunked_body_beyond_the_limit_is_refused_and_never_cut(app: Flask, path: str) -> None:
    rows = b"14.96,41.76,1024.07,73.17\n" * 400_000

    response = chunked(app, path, rows, "text/csv")

    assert response.status_code == 413
    assert "allowed 8388608" in response.json["detail"]
    assert chunked(app, path, rows[:260], "text/csv").status_code == 200


def test_an_encoded_body_is_refused_by_name(app: Flask) -> None:
    body = gzip.compress(orjson.dumps(EXAMPLE))

    response = app.test_client().post(
        "/predict", data=body, content_type="application/json", headers={"Content-Encoding": "gzip"}
    )

    assert response.status_code == 415
    assert "gzip" in response.json["detail"]
