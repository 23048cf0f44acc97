"""OpenAPI 3.1, made from the routes there are and the schemas they name.

Each operation also says who may ask for it and whether asking twice is the same as asking once: `x-kappawatt-access`
and `x-kappawatt-repeatable`. Whatever stands in front of a service (the gateway does) goes by these, and not by how a
path looks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from flask import Flask
from werkzeug.routing import Rule

from kappawatt import __version__

__all__ = ["ACCESS", "JSON", "REPEATABLE", "SLASHES", "Right", "operation", "rights", "specification"]

JSON = "application/json"
PROBLEM = "application/problem+json"
ACCESS = "x-kappawatt-access"
REPEATABLE = "x-kappawatt-repeatable"
SLASHES = "x-kappawatt-slashes"  # of a parameter in the path: its value may contain some
PARAMETER = re.compile(r"<(?:(?P<converter>\w+)(?:\([^>]*\))?:)?(?P<name>\w+)>")
NOT_DESCRIBED: Mapping[str, Any] = {
    "summary": "Not described",
    "description": "",
    "tag": "not described",
    "answers": {"default": None},
    "body": None,
    "parameters": (),
    "examples": {},
}
View = TypeVar("View", bound=Callable[..., Any])

PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "RFC 9457; `errors` names row, field, value got and values allowed.",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": ["string", "null"]},
        "rejected": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "row": {"type": "integer"},
                    "code": {"type": "string"},
                    "field": {"type": ["string", "null"]},
                    "got": {},
                    "allowed": {"type": "string"},
                    "message": {"type": "string"},
                },
                "required": ["row", "code", "message"],
            },
        },
    },
    "required": ["title", "status", "detail"],
}
REASONS = {
    200: "The answer",
    202: "Accepted",
    304: "Not modified",
    400: "The body cannot be read",
    401: "An API key is needed",
    403: "The key's role does not allow this",
    404: "There is no such thing",
    406: "Not acceptable",
    409: "Conflict",
    412: "The precondition does not hold",
    413: "The body is too large",
    415: "The content type is none that is read here",
    422: "Rows were refused; those that were not are answered in the same body",
    429: "Full; try again after Retry-After seconds",
    502: "The service behind did not answer",
    503: "Not ready",
    504: "The service behind took too long",
}


class Right(StrEnum):
    """Who may ask for a route, from everybody to few."""

    OPEN = "open"
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


def operation(
    summary: str,
    *,
    tag: str,
    answers: Mapping[int, Any],
    body: Mapping[str, Any] | None = None,
    parameters: tuple[Mapping[str, Any], ...] = (),
    description: str = "",
    examples: Mapping[str, Any] | None = None,
    access: Right | None = None,
    repeatable: bool = False,
) -> Callable[[View], View]:
    """Describe a view for OpenAPI.

    Parameters
    ----------
    answers : mapping of int to object
        By status: `"problem"`, `None` (empty body), a JSON Schema (answered as JSON), or a mapping of media
        type to JSON Schema.
    body : mapping of str to object, optional
        JSON Schema by content type.
    parameters : tuple of mapping
        OpenAPI parameter objects beyond those in the path.
    examples : mapping, optional
        Example of the body by content type.
    access : Right, optional
        Who may ask. Absent, a GET is `read` and may be repeated, as HTTP has it, and anything else is for nobody but
        administrators.
    repeatable : bool
        Whether a request that may have been received may be sent again: it changes nothing, or the same again.
    """

    def describe(view: View) -> View:
        view.__openapi__ = {  # type: ignore[attr-defined]
            "summary": summary,
            "description": description,
            "tag": tag,
            "answers": answers,
            "body": body,
            "parameters": parameters,
            "examples": examples or {},
            "access": access,
            "repeatable": repeatable,
        }
        return view

    return describe


def rights(view: Callable[..., Any], method: str) -> tuple[Right, bool]:
    """Return who may ask for `view` by `method`, and whether asking may be repeated."""
    described = getattr(view, "__openapi__", None)
    if described is None:
        return Right.ADMIN, False
    access: Right | None = described["access"]
    if method in ("GET", "HEAD") and access in (None, Right.OPEN, Right.READ):
        return access or Right.READ, True
    return access or Right.ADMIN, described["repeatable"]


def specification(app: Flask, title: str, description: str) -> dict[str, Any]:
    """Return the OpenAPI document of every described route of `app`.

    One that is not described is in it, for administrators and once, where it answers what the path of a described one
    fits too: `/jobs/purge` beside a described `/jobs/<name>`.
    """
    paths: dict[str, dict[str, Any]] = {}
    rules = sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
    known = [rule for rule in rules if hasattr(app.view_functions[rule.endpoint], "__openapi__")]
    for rule in rules:
        methods = (rule.methods or set()) - {"OPTIONS", "HEAD"}
        described = getattr(app.view_functions[rule.endpoint], "__openapi__", NOT_DESCRIBED)
        if described is NOT_DESCRIBED:
            taken = [other.methods or set() for other in known if _may_take(rule, other)]
            methods &= set().union(*taken)
        path = PARAMETER.sub(r"{\g<name>}", rule.rule)
        wide = _wide(rule)
        for method in sorted(methods):
            access, repeatable = rights(app.view_functions[rule.endpoint], method)
            found = _operation(path, method, rule.endpoint, described)
            item = paths.setdefault(path, {})
            if before := item.get(method.lower()):  # rules that differ in what a parameter may be
                access = max(access, before[ACCESS], key=list(Right).index)
                repeatable = repeatable and before[REPEATABLE]
                wide |= {each["name"] for each in before.get("parameters", ()) if SLASHES in each}
            for parameter in found.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in wide:
                    parameter[SLASHES] = True
            item[method.lower()] = found | {ACCESS: access, REPEATABLE: repeatable}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "description": description, "version": __version__},
        "paths": paths,
        "components": {"schemas": {"Problem": PROBLEM_SCHEMA}},
    }


def _wide(rule: Rule) -> set[str]:
    """The parameters whose values may contain slashes."""
    return {found["name"] for found in PARAMETER.finditer(rule.rule) if found["converter"] == "path"}


def _segments(rule: Rule) -> list[tuple[int, str]]:
    """What stands between slashes: 0 and a text, 1 and something with parameters, 2 and whatever follows."""
    wide = _wide(rule)
    found = []
    for segment in PARAMETER.sub(r"{\g<name>}", rule.rule).split("/"):
        names = set(re.findall(r"{(\w+)}", segment))
        found.append((2 if names & wide else 1 if names else 0, segment))
    return found


def _may_take(rule: Rule, other: Rule) -> bool:
    """Whether a path that fits both may be answered by `rule`: texts come before parameters, and those before paths,
    and the first segment that differs decides. True where it depends on more than that.
    """
    own, others = _segments(rule), _segments(other)
    leads = False
    for (kind, text), (other_kind, other_text) in zip(own, others, strict=False):
        if (kind == other_kind == 0 and text != other_text) or (kind > other_kind and not leads):
            return False
        if 2 in (kind, other_kind):
            return True
        leads = leads or kind < other_kind
    return len(own) == len(others)


def _operation(path: str, method: str, endpoint: str, described: Mapping[str, Any]) -> dict[str, Any]:
    own = {p["name"] for p in described["parameters"]}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
        if name not in own
    ] + [dict(p) for p in described["parameters"]]
    names = set(re.findall(r"{(\w+)}", path))
    parameters = [p for p in parameters if p["in"] != "path" or p["name"] in names]
    result: dict[str, Any] = {
        "operationId": f"{endpoint.replace('.', '_')}_{method.lower()}_{len(names)}",
        "summary": described["summary"],
        "tags": [described["tag"]],
        "responses": {str(s): _response(s, answer) for s, answer in sorted(described["answers"].items())},
    }
    if described["description"]:
        result["description"] = described["description"]
    if parameters:
        result["parameters"] = parameters
    if described["body"] is not None and method in ("POST", "PUT"):
        content: dict[str, Any] = {}
        for media, schema in described["body"].items():
            content[media] = {"schema": schema}
            if media in described["examples"]:
                content[media]["example"] = described["examples"][media]
        result["requestBody"] = {"required": True, "content": content}
    return result


def _response(status: int, answer: Any) -> dict[str, Any]:
    reason = {"description": REASONS.get(status, "Answer")}
    if answer is None:
        return reason
    if answer == "problem":
        return reason | {"content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    if any("/" in key for key in answer):
        return reason | {"content": {media: {"schema": schema} for media, schema in answer.items()}}
    return reason | {"content": {JSON: {"schema": answer}}}
