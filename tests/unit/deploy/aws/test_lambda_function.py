"""A function answers events by the same app as every other door."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kappawatt.columns.arrow import read_columns, write_columns
from kappawatt.columns.content import ARROW
from kappawatt.deploy.aws.lambda_function import MOST_BYTES, Function, function_settings, make_handler
from kappawatt.errors import KappawattError, NotReady, PayloadInvalid, SettingInvalid
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.request import example_request
from kappawatt.serving.app import create_app
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings
from tests.unit.deploy.aws.fixtures import READING, content, header, http_api, load, rest_api

Event = Callable[..., dict[str, Any]]
ORIGIN = "https://grid.example.org"
both = pytest.mark.parametrize("event", [http_api, rest_api], ids=["http", "rest"])


def make_function(name: str = "plant-power", **settings: str) -> Function:
    environ = {f"KAPPAWATT_{key.upper()}": value for key, value in settings.items()}
    return Function(find_service(name), function_settings(environ), has_bus="bus" in settings)


@pytest.fixture(scope="module")
def function() -> Function:
    return make_function()


def many_rows(n: int) -> str:
    return "14.96,41.76,1024.07,73.17\n" * n


@pytest.mark.parametrize("name", ["http_api", "rest_api"])
def test_a_reading_is_answered(function: Function, name: str) -> None:
    answer = function(load(name))

    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["net_power"] == 463.496
    assert header(answer, "content-type") == "application/json"
    assert header(answer, "x-request-id") == load(name)["requestContext"]["requestId"]


@both
@pytest.mark.parametrize(
    "path", ["/params", "/healthz", "/readyz", "/metrics", "/v2/models/plant-power", "/openapi.json"]
)
def test_every_route_of_the_app_is_there(function: Function, event: Event, path: str) -> None:
    answer = function(event(path, method="GET"))

    assert answer["statusCode"] == 200
    assert answer["body"]


@both
def test_arrow_goes_in_and_out_as_bytes(function: Function, event: Event) -> None:
    body = write_columns({name: np.array([value, value]) for name, value in READING.items()})

    answer = function(event(body=body, content_type=ARROW, accept=ARROW))

    assert answer["isBase64Encoded"] is True
    assert read_columns(content(answer))["net_power"].tolist() == [463.496, 463.496]


@both
def test_refused_rows_are_named_as_everywhere(function: Function, event: Event) -> None:
    answer = function(event(body=json.dumps([READING, READING | {"exhaust_vacuum": 812.0}])))

    document = json.loads(answer["body"])
    assert answer["statusCode"] == 422
    assert header(answer, "content-type") == "application/problem+json"
    assert document["errors"][0]["message"] == "exhaust_vacuum: got 812.0, allowed a number from 0 to 100 cm Hg"
    assert document["predictions"][0]["net_power"] == 463.496


@both
@pytest.mark.parametrize(
    ("path", "method", "body", "status", "said"),
    [
        ("/nowhere", "GET", None, 404, ""),
        ("/predict", "GET", None, 405, ""),
        ("/predict", "POST", None, 400, "body: got nothing"),
        ("/predict", "POST", "{", 400, "malformed JSON"),
    ],
)
def test_every_error_is_a_problem_document(
    function: Function, event: Event, path: str, method: str, body: str | None, status: int, said: str
) -> None:
    answer = function(event(path, body, method=method))

    document = json.loads(answer["body"])
    assert (answer["statusCode"], document["status"]) == (status, status)
    assert said in document["detail"]
    assert document["request_id"]


@both
def test_damaged_base_64_is_a_problem_document(function: Function, event: Event) -> None:
    answer = function(event() | {"body": "%%%", "isBase64Encoded": True})

    assert answer["statusCode"] == 400
    assert json.loads(answer["body"])["detail"].startswith("body: got damaged base 64")


@both
def test_a_query_reaches_the_app(function: Function, event: Event) -> None:
    query: Any = "version=none" if event is http_api else {"version": ["none"]}

    answer = function(event("/params", method="GET", query=query))

    assert answer["statusCode"] == 404
    assert "version: got 'none'" in json.loads(answer["body"])["detail"]


@both
def test_an_answer_larger_than_the_platform_carries_is_a_413(function: Function, event: Event) -> None:
    answer = function(event(body=many_rows(80_000), content_type="text/csv"))

    document = json.loads(answer["body"])
    assert (answer["statusCode"], document["title"]) == (413, "Payload too large")
    assert document["detail"].startswith("answer: got ")
    assert document["detail"].endswith("send fewer rows")


@both
def test_an_answer_just_below_the_limit_is_sent(function: Function, event: Event) -> None:
    answer = function(event(body=many_rows(60_000), content_type="text/csv"))

    assert answer["statusCode"] == 200
    assert 0.9 * MOST_BYTES < len(json.dumps(answer)) < MOST_BYTES
    assert len(json.loads(answer["body"])["predictions"]) == 60_000


@both
def test_a_body_larger_than_the_platform_carries_is_a_413(function: Function, event: Event) -> None:
    answer = function(event(body=b" " * (MOST_BYTES + 1)))

    assert answer["statusCode"] == 413
    assert json.loads(answer["body"])["detail"] == f"body: got {MOST_BYTES + 1} bytes, allowed {MOST_BYTES}"


@both
def test_an_allowed_origin_may_ask(event: Event) -> None:
    function = make_function(cors_origins=f"{ORIGIN}, https://other.example.org")

    asked = function(event(method="OPTIONS", origin=ORIGIN, access_control_request_method="POST"))
    answered = function(event(body=json.dumps(READING), origin=ORIGIN))
    refused = function(event(body="{", origin=ORIGIN))

    assert (asked["statusCode"], asked["body"]) == (204, "")
    assert header(asked, "access-control-allow-methods") == "GET, HEAD, POST, OPTIONS"
    assert "content-type" in str(header(asked, "access-control-allow-headers"))
    for answer in (asked, answered, refused):
        assert header(answer, "access-control-allow-origin") == ORIGIN
        assert header(answer, "vary") == "Origin"
    assert "x-request-id" in str(header(answered, "access-control-expose-headers"))


@both
def test_no_other_origin_may(event: Event) -> None:
    function = make_function(cors_origins="https://other.example.org")

    asked = function(event(method="OPTIONS", origin=ORIGIN, access_control_request_method="POST"))
    answered = function(event(body=json.dumps(READING), origin=ORIGIN))

    assert asked["statusCode"] == 405
    assert answered["statusCode"] == 200
    assert header(asked, "access-control-allow-origin") is header(answered, "access-control-allow-origin") is None


def test_a_star_allows_every_origin() -> None:
    answer = make_function(cors_origins="*")(http_api(body=json.dumps(READING), origin=ORIGIN))

    assert header(answer, "access-control-allow-origin") == "*"
    assert header(answer, "vary") is None


@pytest.mark.parametrize("origins", ["grid.example.org", "https://a.example/path", "ftp://a.example"])
def test_an_origin_that_is_none_is_named_at_start(origins: str) -> None:
    with pytest.raises(SettingInvalid, match="cors_origins: got "):
        make_function(cors_origins=origins)


def test_rows_are_answered_without_any_gateway(function: Function) -> None:
    document = function({"rows": [READING, READING]})

    assert [row["net_power"] for row in document["predictions"]] == [463.496, 463.496]


@pytest.mark.parametrize(
    ("rows", "status"), [([READING | {"exhaust_vacuum": None}], 422), ([], 400), ("x", 400), ({"a": 1}, 422)]
)
def test_rows_that_cannot_be_answered_come_back_as_a_problem_document(
    function: Function, rows: Any, status: int
) -> None:
    assert function({"rows": rows})["status"] == status


def test_a_retry_is_asked_for_where_one_may_help() -> None:
    function = make_function(artifacts="/nowhere")

    with pytest.raises(NotReady, match="model plant-power"):
        function({"rows": [READING]})
    assert function(http_api(body=json.dumps(READING)))["statusCode"] == 503


def test_a_number_that_no_json_reader_takes_is_refused_by_name(function: Function) -> None:
    with pytest.raises(PayloadInvalid, match="rows: Integer exceeds 64-bit range"):
        function({"rows": [2**70]})


@pytest.mark.parametrize("event", [{}, {"detail-type": "Scheduled Event"}, [], "text", None, {"rows": [], "more": 1}])
def test_an_event_of_another_kind_is_named(function: Function, event: Any) -> None:
    with pytest.raises(PayloadInvalid, match=r"event: got .* allowed a request of API Gateway"):
        function(event)


def test_the_time_that_is_left_is_asked_of_the_platform(function: Function) -> None:
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 29_000, aws_request_id="a-b-c")

    assert function({"rows": [{}]}, context)["request_id"] == "a-b-c"


def test_a_forecasting_service_answers_with_the_history_that_a_request_brings() -> None:
    service = find_service("hourly-load")
    assert isinstance(service.modelled().predictor, Forecaster)
    body = example_request(service.modelled().predictor, "PJME")
    known = Settings.read({}, follow_histories=False)
    expected = create_app(service, known).test_client().post("/forecast", json=body)
    function = make_function("hourly-load")

    answer = function(http_api("/forecast", json.dumps(body)))
    unknown = function(http_api("/forecast", json.dumps({"load_zone": "PJME"})))

    assert (answer["statusCode"], answer["body"]) == (expected.status_code, expected.text) == (200, expected.text)
    assert len(json.loads(answer["body"])["target_time"]) == 24
    assert 400 <= unknown["statusCode"] < 500


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "KAPPAWATT_SERVICE: .*got ''"),
        ({"KAPPAWATT_SERVICE": "none"}, "KAPPAWATT_SERVICE: .*got 'none', allowed .*plant-power"),
        ({"KAPPAWATT_SERVICE": "gateway"}, "KAPPAWATT_SERVICE: gateway has no model"),
        ({"KAPPAWATT_SERVICE": "plant-power", "KAPPAWATT_MODEL_URL": "https://x/y"}, "model_url: got 'https://x/y'"),
        ({"KAPPAWATT_SERVICE": "plant-power", "KAPPAWATT_MODEL_URL": "s3://bucket"}, "allowed s3://BUCKET/KEY"),
        ({"KAPPAWATT_SERVICE": "plant-power", "KAPPAWATT_MODEL_CHECK_SECONDS": "0"}, "KAPPAWATT_MODEL_CHECK_SECONDS"),
    ],
)
def test_a_setting_that_cannot_be_used_stops_the_start_and_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(KappawattError, match=said):
        make_handler(environ)
