"""One OpenAPI document: the gateway's own routes, and those of every service under its prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kappawatt.serving.openapi import ACCESS, REPEATABLE, Right

from .descriptions import route_of

__all__ = ["GATEWAY_ANSWERS", "add_service", "protect"]

METHODS = ("get", "put", "post", "delete", "patch")
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
GATEWAY_ANSWERS = {
    "400": "The path leaves the service",
    "401": "An API key is needed",
    "403": "The key's role does not allow this",
    "404": "There is no such service, or no such path",
    "413": "The body is too large",
    "415": "The body is encoded",
    "429": "Too many requests; try again after Retry-After seconds",
    "502": "The service did not answer",
    "503": "The service failed several times in a row and is left alone for Retry-After seconds",
    "504": "The service took too long",
}


def add_service(document: dict[str, Any], name: str, theirs: Mapping[str, Any]) -> None:
    """Add the document of service `name` to `document`: paths below `/api/NAME`, names made unique.

    A component that is the same in both is shared; one of the same name that differs gets the service's name
    in front. Raises ValueError if `theirs` is no OpenAPI document.
    """
    paths = theirs.get("paths")
    if not isinstance(paths, Mapping) or not all(isinstance(item, Mapping) for item in paths.values()):
        raise ValueError("got a document without paths")
    renamed = _add_components(document, name, theirs.get("components"))
    for path, item in paths.items():
        shared = item.get("parameters", [])
        for method in METHODS:
            if method not in item:
                continue
            operation = _renamed(item[method], renamed)
            operation["operationId"] = f"{name}_{operation.get('operationId', method + path)}".replace("-", "_")
            operation["tags"] = [f"{name}: {tag}" for tag in operation.get("tags") or ["routes"]]
            operation.pop("security", None)
            route = route_of(item[method])
            operation |= {ACCESS: route.access, REPEATABLE: route.repeatable}
            if shared:
                operation["parameters"] = _renamed(shared, renamed) + operation.get("parameters", [])
            responses = operation.setdefault("responses", {})
            for status, meaning in GATEWAY_ANSWERS.items():
                _add_problem(responses, status, meaning)
            document["paths"].setdefault(f"/api/{name}{path}", {})[method] = operation


def protect(document: dict[str, Any], roles: Mapping[str, str]) -> None:
    """State which operations ask for a key, and of which role."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "API key"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for item in document["paths"].values():
        for operation in item.values():
            right = operation.get(ACCESS, Right.ADMIN)
            if right != Right.OPEN:
                role = roles[right]
                operation["security"] = [{"bearer": [role]}, {"header": [role]}]


def _add_problem(responses: dict[str, Any], status: str, meaning: str) -> None:
    """The gateway answers `status` with a problem document, beside what the service answers with it."""
    response = responses.setdefault(status, {"description": meaning})
    content = response.setdefault("content", {})
    for media, schema in PROBLEM.items():
        content.setdefault(media, schema)


def _add_components(document: dict[str, Any], name: str, theirs: Any) -> dict[str, str]:
    """Take over components; return the new reference of each that had to be renamed."""
    renamed: dict[str, str] = {}
    if not isinstance(theirs, Mapping):
        return renamed
    added = []
    for kind, components in theirs.items():
        if kind == "securitySchemes" or not isinstance(components, Mapping):
            continue
        own = document["components"].setdefault(kind, {})
        for key, component in components.items():
            place = key
            if key in own and own[key] != component:
                place = f"{name}.{key}"
                renamed[f"#/components/{kind}/{key}"] = f"#/components/{kind}/{place}"
            added.append((own, place, component))
    for own, place, component in added:
        own[place] = _renamed(component, renamed)
    return renamed


def _renamed(node: Any, renamed: Mapping[str, str]) -> Any:
    """A copy with references renamed."""
    if isinstance(node, Mapping):
        return {
            key: renamed.get(value, value) if key == "$ref" and isinstance(value, str) else _renamed(value, renamed)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_renamed(value, renamed) for value in node]
    return node
