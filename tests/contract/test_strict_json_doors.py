"""JSON that is none, or holds what cannot be: at every door a problem that says so, never a 500, and nothing stored."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from flask import Flask

from kappawatt.bus import connect
from kappawatt.deploy.aws.lambda_function import Function
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.request import example_request
from kappawatt.serving.app import create_app
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from kappawatt.streams import load, rules
from kappawatt.streams.table import STREAMS, TOPICS
from tests import fakes, forecast_fakes
from tests.contract.doors import tensors_of

HALF = "\\udabc"  # half a surrogate pair, as JSON writes it
PLANT = json.dumps(fakes.EXAMPLE)
LOAD = json.dumps({"load_zone": "PJME", "interval_start": "2026-03-01T00:00:00Z", "load": 30_000.0})
METER = json.dumps({"meter_id": "m-1", "interval_start": "2026-03-01T00:00:00Z", "consumption": 0.2})
TENSORS = json.dumps({"id": "one", "inputs": tensors_of([fakes.EXAMPLE])})
LOAD_TENSOR = json.dumps({"inputs": [{"name": "load_zone", "shape": [1], "datatype": "BYTES", "data": ["PJME"]}]})
FORECAST = json.dumps(example_request(forecast_fakes.FORECASTER, "PJME"))
DOORS = {
    "predict": ("fake-power", "/predict", PLANT),
    "predict a list": ("fake-power", "/predict", f"[{PLANT}, {PLANT}]"),
    "invocations": ("fake-power", "/invocations", PLANT),
    "invocations of instances": ("fake-power", "/invocations", f'{{"instances": [{{"data": {PLANT}}}]}}'),
    "infer": ("fake-power", "/v2/models/fake-power/infer", TENSORS),
    "load predict": ("fake-load", "/predict", LOAD),
    "load infer": ("fake-load", "/v2/models/fake-load/infer", LOAD_TENSOR),
    "load invocations": ("fake-load", "/invocations", LOAD),
    "forecast": ("fake-load", "/forecast", FORECAST),
    "readings": ("sensor-ingestor", "/readings/plant-1", PLANT),
    "load": ("sensor-ingestor", "/load/PJME", LOAD),
    "any load": ("sensor-ingestor", "/load", LOAD),
    "meters": ("sensor-ingestor", "/meters/m-1", METER),
    "any meter": ("sensor-ingestor", "/meters", METER),
    "session": ("gateway", "/api/session", '{"key": "abc"}'),
}


def with_more(text: str, more: str) -> str:
    """The same object with more in front; of a list, its first object."""
    return text.replace("{", "{" + more + ", ", 1)


DAMAGES: dict[str, Callable[[str], bytes]] = {
    "half a pair as a value": lambda text: with_more(text, f'"site": "{HALF}"').encode(),
    "half a pair as a name": lambda text: with_more(text, f'"{HALF}": 1').encode(),
    "half a pair inside": lambda text: with_more(text, f'"parameters": {{"a": [{{"b": "x{HALF}"}}]}}').encode(),
    "half a pair behind an escaped quote": lambda text: with_more(text, f'"site": "\\"{HALF}"').encode(),
    "half a pair in a repeated key": lambda text: with_more(text, f'"{HALF}": 1, "{HALF}": 2').encode(),
    "half a pair alone": lambda text: f'"{HALF}"'.encode(),
    "half a pair as an id": lambda text: with_more(text, f'"id": "{HALF}"').encode(),
    "half a pair as bytes": lambda text: with_more(text, '"site": "\ud800"').encode("utf-8", "surrogatepass"),
    "70 levels": lambda text: with_more(text, '"parameters": ' + "[" * 70 + "]" * 70).encode(),
    "2,000 levels": lambda text: with_more(text, '"parameters": ' + '{"a":' * 2_000 + "1" + "}" * 2_000).encode(),
    "no end of levels": lambda text: b"[" * 50_000,
    "UTF-16": lambda text: text.encode("utf-16"),
    "a raw NUL": lambda text: with_more(text, '"site": "\x00"').encode(),
    "nothing but a byte order mark": lambda text: b"\xef\xbb\xbf",
}
NUMBERS = {
    "NaN": "NaN", "infinity": "-Infinity", "beyond a double": "1e999", "5,000 digits": "7" * 5_000,
}  # fmt: skip


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Flask]]:
    folder = tmp_path_factory.mktemp("doors")
    settings = Settings.read({}, bus=f"embedded:{folder}/bus.sqlite", follow_histories=False)
    bus = connect(settings.bus)
    bus.ensure(TOPICS)
    found = {name: create_app(find_service(name), settings) for name in ("sensor-ingestor", "gateway")}
    for fake in (fakes, forecast_fakes):
        own = Settings.read({}, bus=settings.bus, artifacts=folder / fake.SERVICE.name, follow_histories=False)
        fake.write_artifact(own.artifacts)
        found[fake.SERVICE.name] = create_app(fake.SERVICE, own)
    yield found
    assert {stream.name: sum(o.end for o in bus.offsets(stream.readings.name).values()) for stream in STREAMS} == (
        dict.fromkeys([stream.name for stream in STREAMS], 0)
    )
    found["gateway"].extensions["kappawatt.gateway"].stop()
    bus.close()


def refused(apps: dict[str, Flask], door: str, body: bytes, **how: Any) -> Any:
    service, path, _ = DOORS[door]
    response = apps[service].test_client().post(path, data=body, content_type="application/json", **how)
    assert 400 <= response.status_code < 500, (response.status_code, response.data[:500])
    document = orjson.loads(response.data)
    if path.startswith("/v2"):
        return document["error"]
    assert response.content_type == "application/problem+json"
    return document["detail"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("door", DOORS)
def test_json_that_is_none_is_refused_at_every_door(apps: dict[str, Flask], door: str, damage: str) -> None:
    detail = refused(apps, door, DAMAGES[damage](DOORS[door][2]))

    assert "got" in detail or "allowed" in detail


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("door", [door for door in DOORS if door != "session"])
def test_numbers_that_are_none_are_refused_at_every_door(apps: dict[str, Flask], door: str, number: str) -> None:
    text = DOORS[door][2]
    for good in ("41.76", "30000.0", "0.2", '"PJME"'):
        if good in text and not (door in ("load infer",) and good != '"PJME"'):
            text = text.replace(good, NUMBERS[number], 1)
            break

    refused(apps, door, text.encode())


@pytest.mark.parametrize("door", ["predict", "infer", "forecast"])
def test_the_field_is_named(apps: dict[str, Flask], door: str) -> None:
    detail = refused(apps, door, with_more(DOORS[door][2], f'"a": {{"b": [0, "{HALF}"]}}').encode())

    assert "a.b[1]: got text with half a surrogate pair" in detail
    assert "allowed Unicode text" in detail


def test_queries_and_headers_that_are_no_unicode_are_answered(apps: dict[str, Flask]) -> None:
    for query in ("version=%ED%A0%80", "version=%FF", "version=%00", "known=%ED%BF%BF", "view=%ED%A0%80", "key=%FE"):
        for name, app in apps.items():
            path = {"gateway": "/api/summary", "sensor-ingestor": "/readings/p"}.get(name, "/predict")
            headers = {"X-Request-Id": "\xff\xfe", "Idempotency-Key": "\xed\xa0\x80", "traceparent": "\xff"}
            response = app.test_client().open(
                f"{path}?{query}", method="GET" if name == "gateway" else "POST", data=PLANT, headers=headers,
                content_type="application/json",
            )  # fmt: skip

            assert response.status_code < 500, (name, query, response.data)


def test_an_element_of_a_tensor_that_is_no_unicode_is_refused(apps: dict[str, Flask]) -> None:
    element = b"\xed\xa0\x80"
    raw = len(element).to_bytes(4, "little") + element
    tensor = {
        "name": "load_zone", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)},
    }  # fmt: skip
    head = orjson.dumps({"inputs": [tensor]})

    error = refused(apps, "load infer", head + raw, headers={"Inference-Header-Content-Length": str(len(head))})

    assert "load_zone" in error


@pytest.mark.parametrize("datatype", [[], {}, None, 7, "\\u0000", [[]]])
def test_a_datatype_that_is_none_is_refused(apps: dict[str, Flask], datatype: Any) -> None:
    for more in ({}, {"parameters": {"binary_data_size": 8}}):
        tensor = {"name": "ambient_temperature", "datatype": datatype, "shape": [1], "data": [1.0], **more}

        assert "datatype" in refused(apps, "infer", orjson.dumps({"inputs": [tensor]}))


@pytest.mark.parametrize(
    "change",
    [
        {"rawPath": "/\ud800"},
        {"rawQueryString": "version=\ud800"},
        {"headers": {"content-type": "application/json", "x-plant": "\udfff"}},
        {"headers": {"content-type": "application/json", "\udfff": "a"}},
        {"body": PLANT + "\ud800"},
        {"body": with_more(PLANT, f'"site": "{HALF}"')},
        {"body": base64.b64encode(b'{"a": "\xed\xa0\x80"}').decode(), "isBase64Encoded": True},
    ],
)
def test_a_function_answers_requests_that_are_no_unicode(tmp_path: Any, change: dict[str, Any]) -> None:
    fakes.write_artifact(tmp_path)
    function = Function(fakes.SERVICE, Settings.read({}, artifacts=tmp_path, follow_histories=False), has_bus=False)
    event = {
        "version": "2.0", "rawPath": "/predict", "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": "POST"}, "stage": "$default"}, "body": PLANT,
    }  # fmt: skip

    answer = function(event | change)

    assert 400 <= answer["statusCode"] < 500
    json.dumps(answer).encode()


def test_a_function_refuses_rows_that_are_no_unicode(tmp_path: Any) -> None:
    fakes.write_artifact(tmp_path)
    function = Function(fakes.SERVICE, Settings.read({}, artifacts=tmp_path, follow_histories=False), has_bus=False)

    for rows in ("\ud800", [{"\ud800": 1}], [2**70], [[[[]]] * 2]):
        try:
            answer = function({"rows": rows})
        except PayloadInvalid as error:
            str(error).encode()
        else:
            assert answer["status"] in (400, 422)


def test_a_name_that_ends_in_a_nul_is_not_the_one_without() -> None:
    zones = ["America/New_York", "America/New_York\0"]
    n = len(zones)
    columns = {"interval_start": np.full(n, np.datetime64("2026-03-01", "ms")), "load": np.ones(n)}
    batch = load.READING.check({**columns, "time_zone": np.array(zones, object)}, n)

    assert [r.row for r in rules.is_in_a_time_zone(load.STREAM, batch, "PJME")] == [1]
