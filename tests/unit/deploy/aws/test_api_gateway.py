"""Events of API Gateway are read as the requests they stand for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kappawatt.deploy.aws.api_gateway import REFUSED, Reply, read_event, to_environ
from kappawatt.errors import PayloadInvalid
from tests.unit.deploy.aws.fixtures import http_api, load, rest_api


@pytest.mark.parametrize("name", ["http_api", "rest_api"])
def test_both_payloads_say_the_same_request(name: str) -> None:
    request = read_event(load(name))

    assert (request.method, request.path, request.query, request.source) == ("POST", "/predict", "", "192.0.2.7")
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body)["exhaust_vacuum"] == 41.76
    assert request.refused is None


@pytest.mark.parametrize(
    ("route", "parameters", "stage", "sent"),
    [
        ("$default", None, "$default", "/v2/models/plant-power/infer"),
        ("$default", None, "prod", "/prod/v2/models/plant-power/infer"),
        ("POST /v2/models/{model}/infer", {"model": "plant-power"}, "prod", "/prod/v2/models/plant-power/infer"),
        ("ANY /{proxy+}", {"proxy": "v2/models/plant-power/infer"}, "$default", "/energy/v2/models/plant-power/infer"),
        ("ANY /{proxy+}", {"proxy": "v2/models/plant-power/infer"}, "v2", "/v2/v2/models/plant-power/infer"),
    ],
    ids=["default stage", "named stage", "route with a parameter", "base path of a domain", "stage named as a path"],
)
def test_stage_and_base_path_are_not_part_of_the_path(route: str, parameters: Any, stage: str, sent: str) -> None:
    second = http_api(sent) | {"routeKey": route, "pathParameters": parameters}
    second["requestContext"]["stage"] = stage
    first = rest_api(sent) | {"resource": route.rpartition(" ")[2], "pathParameters": parameters}
    first["requestContext"]["stage"] = stage

    assert read_event(second).path == "/v2/models/plant-power/infer"
    assert read_event(first).path == "/v2/models/plant-power/infer"


@pytest.mark.parametrize(("stage", "sent"), [("prod", "/prod"), ("prod", "/prod/"), ("$default", "/")])
def test_a_stage_alone_is_the_root(stage: str, sent: str) -> None:
    event = http_api(sent)
    event["requestContext"]["stage"] = stage

    assert read_event(event).path == "/"


def test_a_path_that_only_begins_like_the_stage_stays_whole() -> None:
    event = http_api("/predict")
    event["requestContext"]["stage"] = "pre"

    assert read_event(event).path == "/predict"


def test_repeated_query_parameters_and_headers_all_arrive() -> None:
    event = rest_api("/params", method="GET", query={"version": ["a b", "c&d"], "x": [""]})
    event["multiValueHeaders"]["X-Plant"] = ["one", "two"]

    request = read_event(event)

    assert request.query == "version=a+b&version=c%26d&x="
    assert request.headers["x-plant"] == "one,two"
    assert read_event(http_api("/params", query="version=a%20b&version=c")).query == "version=a%20b&version=c"


def test_a_rest_event_without_multi_value_parts_is_read_too() -> None:
    event = rest_api("/params", method="GET")
    del event["multiValueHeaders"], event["multiValueQueryStringParameters"]
    event["queryStringParameters"] = {"version": "v1"}

    request = read_event(event)

    assert request.query == "version=v1"
    assert request.headers["host"].startswith("ghijkl5678")


@pytest.mark.parametrize("body", [None, ""])
def test_no_body_is_an_empty_one(body: Any) -> None:
    event = http_api("/params", method="GET")
    event["body"] = body
    missing = {name: value for name, value in event.items() if name != "body"}

    assert read_event(event).body == read_event(missing).body == b""


def test_bytes_come_in_base_64() -> None:
    assert read_event(http_api(body=b"\x00\xff\x10")).body == b"\x00\xff\x10"
    assert read_event(rest_api(body=b"\x00\xff\x10")).body == b"\x00\xff\x10"


@pytest.mark.parametrize("event", [http_api(), rest_api()], ids=["http", "rest"])
def test_damaged_base_64_is_refused_by_the_app_and_not_by_a_traceback(event: dict[str, Any]) -> None:
    request = read_event(event | {"body": "not base 64!", "isBase64Encoded": True})

    assert isinstance(request.refused, PayloadInvalid)
    environ = to_environ(request)
    assert environ[REFUSED] is request.refused
    assert "CONTENT_LENGTH" not in environ  # or the fast lane would answer it


def test_a_header_cannot_pass_for_another_by_an_underscore() -> None:
    environ = to_environ(read_event(http_api(body="{}") | {"headers": {"x_request_id": "forged", "x-a-b": "kept"}}))

    assert environ["HTTP_X_REQUEST_ID"] == "JKJaXmPLvHcESHA="
    assert environ["HTTP_X_A_B"] == "kept"


def test_the_length_is_that_of_the_bytes_whatever_the_client_said() -> None:
    environ = to_environ(read_event(http_api(body=b"12345", content_length="99", transfer_encoding="chunked")))

    assert environ["CONTENT_LENGTH"] == "5"
    assert "HTTP_TRANSFER_ENCODING" not in environ


def test_a_path_keeps_its_bytes() -> None:
    environ = to_environ(read_event(http_api("/series/%C3%BCber%20all")))

    assert environ["PATH_INFO"].encode("latin-1").decode() == "/series/über all"


def test_a_body_that_is_no_text_is_refused_as_a_request_and_not_as_an_event() -> None:
    asked = read_event(http_api() | {"body": "\ud800", "isBase64Encoded": False})

    assert str(asked.refused) == "body: got '\\ud800' in it, allowed text"


@pytest.mark.parametrize("broken", ["requestContext", "rawPath"])
def test_an_event_without_a_part_is_named(broken: str) -> None:
    event = http_api()
    del event[broken]

    with pytest.raises(PayloadInvalid, match=f"event: got .*{broken}.*, allowed an event of a REST API"):
        read_event(event)


@pytest.mark.parametrize(
    ("kind", "body", "is_text"),
    [
        ("application/json", b"{}", True),
        ("application/problem+json", b"{}", True),
        ("text/csv; charset=utf-8", "ü".encode(), True),
        ("application/x-ndjson", b"{}", True),
        ("application/vnd.apache.arrow.stream", b"abc", False),
        ("application/octet-stream", b"abc", False),
        ("", b"", True),
    ],
)
def test_what_is_no_text_leaves_in_base_64(kind: str, body: bytes, is_text: bool) -> None:
    answer = Reply(200, [("Content-Type", kind)], body).to_event("2.0")

    assert answer["isBase64Encoded"] is not is_text
    assert answer["body"] == (body.decode() if is_text else "YWJj")


def test_each_payload_gets_headers_in_its_own_form() -> None:
    reply = Reply(200, [("Vary", "Origin"), ("Vary", "Accept"), ("Content-Length", "0")])

    assert reply.to_event("1.0")["multiValueHeaders"] == {"Vary": ["Origin", "Accept"]}
    assert reply.to_event("2.0")["headers"] == {"Vary": "Origin, Accept"}
