"""Hostile documents, headers and queries at every described route: each is answered, and no answer is a 5xx.

What a schema's generator does not think of: every value in place of every other, header by header, byte by byte. A run
of fewer cases tries a part of them, chosen by a seed that is printed when one fails.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from kappawatt.serving.service import service_names
from tests.fleet import fleet_settings, opened

DEEP = 900  # what JSON readers let pass is some 1,000 deep
ZEROS = "0" * 5_000
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 0.5, 10**18, 2**63, 2**64, 10**400, -(10**400), 1e308, 5e-324, "", "x", " ", "\x00",
    ZEROS, "9" * 5_000, "1e999", "nan", "inf", "x" * 20_000, "\N{FULLWIDTH DIGIT ONE}", "\N{SUPERSCRIPT TWO}", "../..",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2016-02-30T00:00:00Z", "+275760-09-13T00:00:00Z", "localtime",
    [], {}, [[]], [{}], [None], [""], {"": {}}, {"a": []}, [1, [2, [3]]], [0] * 1_000,
)  # fmt: skip
RAW = (
    b"", b" ", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf{}", b"{", b"[", b"]", b'"', b"null", b"true", b"1", b"-", b"1e999",
    b"NaN", b"[NaN]", b'{"a":1,"a":2}', b'{"a":Infinity}', b"[" * 20_000, b'{"a":' * 20_000,
    b"[" * 1_000 + b"]" * 1_000, b'["\\ud800"]', b'{"\\udfff":1}', b"9" * 20_000, b"0" * 5_000, b"," * 5_000,
    b"\n" * 5_000, b'"' * 5_001, b"1\n" * 500,
    b"\xff\xff\xff\xff" + b"\x00" * 64, b"ARROW1\x00\x00", b"PK\x03\x04", b"\x1f\x8b\x08\x00",
)  # fmt: skip
HEADERS = (
    "Accept", "Accept-Encoding", "Authorization", "Content-Encoding", "Content-Type", "Cookie", "Expect", "Forwarded",
    "Host", "Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match", "Inference-Header-Content-Length",
    "Last-Event-ID", "Origin", "Range", "Referer", "traceparent", "tracestate", "X-API-Key", "X-Forwarded-For",
    "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Request-Id",
)  # fmt: skip
TEXTS = (
    "", " ", "0", "-1", "1", ZEROS, "9" * 5_000, "1e999", "nan", "\xb2", "\xff\xfe", "\x7f", "x" * 20_000, ",", ";",
    "=", ";=;", "a=b; c", '"', "'", "*", "*/*;q=x", "text/csv; charset=\xff", "application/json; charset=utf-99",
    "[::1", "http://[::1", "http://a:b:c", "//", "null", "Bearer", "Bearer ", "Basic =", "00-" + "0" * 32, "bytes=0-",
    "W/", "\ud7ff", "%", "%zz", "%00", "../..", "kappawatt_key=", "kappawatt_key=\xff", "gzip", "chunked",
    "100-continue", "Thu, 99 Foo 2020",
)  # fmt: skip


pytestmark = pytest.mark.timeout(3_600)


@pytest.fixture(scope="module", params=service_names())
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with opened(request.param, fleet_settings(tmp_path_factory.mktemp("hostile"))) as app:
        yield app


def operations(app: Flask) -> list[tuple[str, str, dict[str, Any]]]:
    """Every described route but the streams of events, with its path's own examples filled in."""
    found = []
    document = app.test_client().get("/openapi.json").get_json()
    for path, item in document["paths"].items():
        for method, described in item.items():
            media = described["responses"].get("200", {}).get("content", {})
            if "text/event-stream" not in media:
                found.append((filled(path, described), method.upper(), described))
    return found


def filled(path: str, described: dict[str, Any]) -> str:
    for parameter in described.get("parameters", ()):
        if parameter["in"] == "path":
            schema = parameter["schema"]
            value = parameter.get("example", schema.get("enum", ["x"])[0])
            path = path.replace(f"{{{parameter['name']}}}", value)
    return path


def bodies(described: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for kind, content in described.get("requestBody", {}).get("content", {}).items():
        if "example" in content:
            yield kind, content["example"]


def check(app: Flask, path: str, method: str, **sent: Any) -> str | None:
    """Return what is wrong with the answer to one request."""
    answer = app.test_client().open(path, method=method, **sent)
    said = f"{method} {path[:200]} {str(sent)[:300]}: {answer.status_code} {answer.content_type} {answer.text[:200]}"
    if answer.status_code >= 500:
        return said
    if answer.status_code < 400:
        return None
    is_v2 = path.startswith("/v2") and answer.content_type == "application/json" and set(answer.get_json()) == {"error"}
    is_problem = answer.content_type == "application/problem+json" and answer.get_json()["status"] == answer.status_code
    return None if is_v2 or is_problem else said


def deep(n: int) -> Any:
    found: Any = []
    for _ in range(n):
        found = [found]
    return found


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(node, dict):
        for key in node:
            yield from places(node[key], (*path, key))
    elif isinstance(node, list):
        for i in range(min(2, len(node))):
            yield from places(node[i], (*path, i))


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    document = copy.deepcopy(document)
    node = document
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return document


def json_examples(app: Flask) -> list[tuple[str, str, Any]]:
    return [
        (path, method, example)
        for path, method, described in operations(app)
        for kind, example in bodies(described)
        if kind == "application/json"
    ]


def tried(app: Flask, requests: list[dict[str, Any]], share: float) -> list[str]:
    """Make these requests, or a part of them, and return what was wrong, the first five."""
    seed = random.SystemRandom().randrange(2**32)
    chosen = random.Random(seed).sample(requests, min(len(requests), max(1, round(len(requests) * share))))
    wrong = [said for each in chosen if (said := check(app, **each))]
    return [ascii(said) for said in (f"seed {seed}", *wrong[:5])] if wrong else []  # a report travels as UTF-8


def sent_as_json(path: str, method: str, document: Any) -> dict[str, Any]:
    text = json.dumps(document)
    return {"path": path, "method": method, "data": text, "content_type": "application/json"}


def test_another_value_anywhere_in_a_document_is_answered(app: Flask, share: float) -> None:
    requests = [
        sent_as_json(path, method, changed(example, place, value))
        for path, method, example in json_examples(app)
        for place in list(places(example))[:60]
        for value in (*VALUES, deep(DEEP))
    ]

    assert not tried(app, requests, share)


def test_a_key_more_or_less_in_a_document_is_answered(app: Flask, share: float) -> None:
    requests = []
    for path, method, example in json_examples(app):
        for place in [place for place in places(example) if place][:60]:
            above = example
            for step in place[:-1]:
                above = above[step]
            fewer = copy.deepcopy(above)
            del fewer[place[-1]]
            more = (
                [*above, above[0]] if isinstance(above, list) else {**above, "x": 1, "": deep(DEEP), "parameters": []}
            )
            requests += [sent_as_json(path, method, changed(example, place[:-1], other)) for other in (fewer, more)]

    assert not tried(app, requests, max(share, 0.5))


def test_raw_bytes_of_any_kind_are_answered(app: Flask, share: float) -> None:
    requests = []
    for path, method, described in operations(app):
        kinds = described.get("requestBody", {}).get("content", {})
        for kind in (*kinds, "application/octet-stream", "", "x", "a/b;" * 99) if kinds else ("text/csv",):
            requests += [{"path": path, "method": method, "data": raw, "content_type": kind} for raw in RAW]

    assert not tried(app, requests, share)


def as_header(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")


def example_of(described: dict[str, Any]) -> tuple[str, str]:
    kind, example = next(bodies(described), ("application/json", {}))
    return kind, example if isinstance(example, str) else json.dumps(example)


def test_headers_of_any_kind_are_answered(app: Flask, share: float) -> None:
    requests = []
    for path, method, described in operations(app):
        kind, data = example_of(described)
        for name in HEADERS:
            for text in TEXTS:
                headers = {"Content-Type": kind, name: as_header(text)}
                requests.append({"path": path, "method": method, "data": data, "headers": headers})

    assert not tried(app, requests, share / 2)


def test_queries_and_paths_of_any_kind_are_answered(app: Flask, share: float) -> None:
    requests = []
    for path, method, described in operations(app):
        kind, data = example_of(described)
        sent = {"method": method, "data": data, "content_type": kind}
        names = [p["name"] for p in described.get("parameters", ()) if p["in"] == "query"]
        head, _, _ = path.rpartition("/")
        for text in (*TEXTS, "%ff%fe", "%F0%9F%92%A9", "%ED%A0%80", "a&a=b", "a" * 3_000):
            requests += [{"path": f"{path}?{query}", **sent} for query in (text, *(f"{name}={text}" for name in names))]
            requests.append({"path": f"{head}/{text}", **sent})

    assert not tried(app, requests, share)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "X", "get"])
def test_methods_of_any_kind_are_answered(app: Flask, method: str) -> None:
    paths = [path for path, _, _ in operations(app)] + ["/nothing", "/", "//", "/v2/nothing", "/%00"]

    assert not tried(app, [{"path": path, "method": method, "data": b"{}"} for path in paths], 1.0)


def test_the_gateway_answers_origins_and_hosts_of_any_kind(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"admin:{hashlib.sha256(b'a').hexdigest()}:a")
    requests = [
        {"path": "/api/summary", "method": method, "headers": {**key, name: as_header(text)}}
        for key in ({}, {"X-API-Key": "a"})
        for name in ("Origin", "Host", "Referer", "X-API-Key", "Authorization", "Cookie")
        for text in TEXTS
        for method in ("GET", "POST")
    ]
    with opened("gateway", fleet_settings(tmp_path, api_keys=keys, rate_limit="1000000/second")) as gateway:
        assert not tried(gateway, requests, 1.0)
