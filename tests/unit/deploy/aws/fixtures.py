"""Events as AWS documents them, and what tests change in them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kappawatt.bus import Records

EVENTS = Path(__file__).with_name("events")
READING = {
    "ambient_temperature": 14.96,
    "exhaust_vacuum": 41.76,
    "ambient_pressure": 1024.07,
    "relative_humidity": 73.17,
}


def load(name: str) -> dict[str, Any]:
    """An event as its file has it."""
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


def http_api(
    path: str = "/predict", body: str | bytes | None = None, *, method: str = "POST", query: str = "", **headers: str
) -> dict[str, Any]:
    """An event of an HTTP API (payload 2.0) with `$default` as route and stage."""
    event = load("http_api")
    event |= {"routeKey": "$default", "rawPath": path, "rawQueryString": query} | _body(body)
    event["requestContext"]["http"] |= {"method": method, "path": path}
    event["requestContext"] |= {"routeKey": "$default", "stage": "$default"}
    event["headers"] |= {name.replace("_", "-"): value for name, value in headers.items()}
    return event


def rest_api(
    path: str = "/predict",
    body: str | bytes | None = None,
    *,
    method: str = "POST",
    query: dict[str, list[str]] | None = None,
    **headers: str,
) -> dict[str, Any]:
    """An event of a REST API (payload 1.0) that came through `/{proxy+}`."""
    event = load("rest_api")
    event |= {"resource": "/{proxy+}", "path": path, "httpMethod": method} | _body(body)
    event["pathParameters"] = {"proxy": path.removeprefix("/")}
    event["multiValueQueryStringParameters"] = query
    event["multiValueHeaders"] |= {name.replace("_", "-").title(): [value] for name, value in headers.items()}
    return event


def kafka(polled: Sequence[Records]) -> dict[str, Any]:
    """An event with these messages, as a poller of the platform hands them over."""
    event = load("msk")
    event["records"] = {}
    for records in polled:
        messages = event["records"].setdefault(f"{records.topic}-{records.partition}", [])
        messages += [_message(records, i) for i in range(len(records))]
    return event


def _message(records: Records, at: int) -> dict[str, Any]:
    key = records.keys[at]
    return {
        "topic": records.topic,
        "partition": records.partition,
        "offset": records.offsets[at],
        "timestamp": records.timestamps[at],
        "timestampType": "CREATE_TIME",
        "key": None if key is None else base64.b64encode(key).decode(),
        "value": base64.b64encode(records.values[at]).decode(),
        "headers": [{name: list(value)} for name, value in records.headers[at]],
    }


def _body(body: str | bytes | None) -> dict[str, Any]:
    if isinstance(body, bytes):
        return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    return {"body": body, "isBase64Encoded": False}


def content(answer: dict[str, Any]) -> bytes:
    """The body that a client of API Gateway gets."""
    if answer["isBase64Encoded"]:
        return base64.b64decode(answer["body"], validate=True)
    text: str = answer["body"]
    return text.encode()


def header(answer: dict[str, Any], name: str) -> str | None:
    """A header of an answer of either payload."""
    headers = answer.get("headers") or {n: ", ".join(v) for n, v in answer.get("multiValueHeaders", {}).items()}
    return {n.lower(): v for n, v in headers.items()}.get(name)
