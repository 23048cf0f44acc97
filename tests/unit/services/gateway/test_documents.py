"""One OpenAPI for everything, the list of services, and the dashboard's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from kappawatt.errors import KappawattError
from kappawatt.services.gateway.access import ROLE_NAMES
from kappawatt.services.gateway.proxy import openapi_merge
from kappawatt.serving import docs
from kappawatt.serving.app import create_app
from kappawatt.serving.service import Service
from kappawatt.settings import Settings

Gateways = Callable[..., Flask]


@pytest.fixture
def documents() -> dict[str, Any]:
    return {"paths": {}, "components": {"schemas": {"Problem": {"type": "object"}}}}


def service_app() -> Flask:
    """A service made by the project's own factory."""
    return create_app(Service(name="plant-power", summary="A service.", port=1), Settings())


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [r for value in node.values() for r in references(value)]
    return [r for value in node for r in references(value)] if isinstance(node, list) else []


def test_document_holds_own_routes_and_those_of_every_service(open_gateway: Gateways, serve: Any) -> None:
    address = serve(service_app())
    client = open_gateway(services=f"plant-power={address},sink=http://127.0.0.1:1").test_client()

    document = client.get("/openapi.json").get_json()

    assert {"/api/summary", "/api/stream", "/healthz", "/api/plant-power/healthz"} <= set(document["paths"])
    assert document["x-unreachable"] == {"sink": "sink: connection refused"}
    operations = [o for item in document["paths"].values() for o in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert all(operation["tags"] for operation in operations)
    for reference in references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_page_shows_the_same(open_gateway: Gateways, serve: Any) -> None:
    client = open_gateway(services=f"plant-power={serve(service_app())}").test_client()

    page = client.get("/docs")

    assert page.status_code == 200
    assert "/api/plant-power/healthz" in page.text


SPARSE = {
    "a body elsewhere": {"requestBody": {"$ref": "#/components/requestBodies/Row"}},
    "a body without a schema": {"requestBody": {"content": {"application/json": {}}}},
    "a body of anything": {"requestBody": {"content": {"application/json": {"schema": True}}}},
    "fields of anything": {
        "requestBody": {"content": {"text/csv": {"schema": {"properties": {"a": True}, "required": 1}}}}
    },
    "no choice of a field": {
        "requestBody": {"content": {"a/b": {"schema": {"properties": {"a": {"anyOf": {"x": 1}}}}}}}
    },
    "a parameter elsewhere": {"parameters": [{"$ref": "#/components/parameters/Row"}]},
    "an answer elsewhere": {"responses": {"200": {"$ref": "#/components/responses/Row"}}},
    "what is no OpenAPI": {"requestBody": 1, "parameters": "x", "responses": {"200": "text", "201": {"content": [1]}}},
}


@pytest.mark.parametrize("described", SPARSE.values(), ids=SPARSE)
def test_the_page_leaves_out_what_a_service_does_not_say(documents: dict[str, Any], described: dict[str, Any]) -> None:
    openapi_merge.add_service(documents, "x-y", {"paths": {"/a": {"post": {"summary": "Sparse", **described}}}})

    assert "Sparse" in docs.render({"info": {}, **documents})


def test_every_service_answer_has_the_gateways_own_beside_it(documents: dict[str, Any]) -> None:
    theirs = {"paths": {"/a": {"get": {"operationId": "a", "responses": {"503": {"description": "own"}}}}}}

    openapi_merge.add_service(documents, "x-y", theirs)

    operation = documents["paths"]["/api/x-y/a"]["get"]
    assert operation["operationId"] == "x_y_a"
    assert set(operation["responses"]) == set(openapi_merge.GATEWAY_ANSWERS)
    assert operation["responses"]["503"]["description"] == "own"
    assert operation["x-kappawatt-access"] == "admin"
    assert "application/problem+json" in operation["responses"]["503"]["content"]


def test_components_of_one_name_are_kept_apart_and_equal_ones_shared(documents: dict[str, Any]) -> None:
    reference = {"$ref": "#/components/schemas/Row"}
    theirs: dict[str, Any] = {
        "paths": {"/a": {"get": {"responses": {"200": {"content": {"application/json": {"schema": reference}}}}}}},
        "components": {"schemas": {"Row": {"properties": {"next": reference}}, "Problem": {"type": "object"}}},
    }
    other = theirs | {"components": {"schemas": {"Row": {"type": "string", "anyOf": [reference]}}}}

    openapi_merge.add_service(documents, "one", theirs)
    openapi_merge.add_service(documents, "two", other)

    schemas = documents["components"]["schemas"]
    assert set(schemas) == {"Problem", "Row", "two.Row"}
    assert schemas["two.Row"]["anyOf"][0]["$ref"] == "#/components/schemas/two.Row"
    assert references(documents["paths"]["/api/one/a"])[0] == "#/components/schemas/Row"
    assert references(documents["paths"]["/api/two/a"])[0] == "#/components/schemas/two.Row"


@pytest.mark.parametrize("theirs", [{}, {"paths": []}, {"paths": {"/a": 1}}])
def test_what_is_no_document_is_refused(documents: dict[str, Any], theirs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="paths"):
        openapi_merge.add_service(documents, "x", theirs)


def test_services_are_listed_with_readiness_and_reason(open_gateway: Gateways, serve: Any) -> None:
    waiting = Service(
        name="b", summary="A service.", port=1, routes=lambda app, context: context.ready.append(lambda: "no model")
    )
    addresses = f"a={serve(service_app())},b={serve(create_app(waiting, Settings()))},c=http://127.0.0.1:1"
    client = open_gateway(services=addresses).test_client()

    rows = {row["name"]: row for row in client.get("/api/services").get_json()["services"]}

    assert [rows[name]["ready"] for name in "abc"] == [True, False, False]
    assert rows["b"]["reason"] == "no model"
    assert rows["c"]["reason"] == "c: connection refused"


def test_security_is_stated_only_when_keys_are_asked_for(open_gateway: Gateways, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"reader:{'a' * 64}:me")

    document = open_gateway().test_client().get("/openapi.json").get_json()

    assert "securitySchemes" not in document["components"]
    openapi_merge.protect(document, ROLE_NAMES)
    assert document["paths"]["/api/summary"]["get"]["security"] == [{"bearer": ["reader"]}, {"header": ["reader"]}]
    assert "security" not in document["paths"]["/healthz"]["get"]


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/static/dashboard.js", "text/javascript; charset=utf-8"),
        ("/static/charts.js", "text/javascript; charset=utf-8"),
        ("/static/dashboard.css", "text/css; charset=utf-8"),
        ("/static/icon.svg", "image/svg+xml"),
    ],
)
def test_assets_are_served_here_and_asked_for_by_etag(open_gateway: Gateways, path: str, content_type: str) -> None:
    client = open_gateway().test_client()

    answer = client.get(path)
    again = client.get(path, headers={"If-None-Match": answer.headers["ETag"]})

    assert (answer.status_code, answer.content_type) == (200, content_type)
    assert (again.status_code, again.data) == (304, b"")
    assert "'unsafe" not in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["..%2fservice.py", "service.py", "%2e%2e", "index.htm"])
def test_only_the_dashboards_files_are_served(open_gateway: Gateways, name: str) -> None:
    assert open_gateway().test_client().get(f"/static/{name}").status_code == 404


def test_assets_name_nothing_from_elsewhere_and_write_no_html() -> None:
    from kappawatt.services.gateway.pages import FOLDER

    for path in FOLDER.iterdir():
        text = path.read_text()
        assert "https://" not in text, path
        assert text.count("http://") == text.count("http://www.w3.org/2000/svg"), path
        assert not any(
            word in text for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
        )


def test_errors_of_the_gateway_carry_their_status() -> None:
    from kappawatt.services.gateway.proxy.breaker import CircuitOpen
    from kappawatt.services.gateway.proxy.forward import ServiceSlow, ServiceUnreachable

    found: dict[type[KappawattError], int] = {c: c.status for c in (CircuitOpen, ServiceSlow, ServiceUnreachable)}

    assert found == {CircuitOpen: 503, ServiceSlow: 504, ServiceUnreachable: 502}
