"""`/openapi.json`, and `/docs`: the same for people, one page without any script from elsewhere."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask, Response
from jinja2 import ChainableUndefined, Environment

from kappawatt.serving.openapi import operation, specification

if TYPE_CHECKING:
    from kappawatt.serving.service import Context

__all__ = ["add_routes", "render"]

TEMPLATE = Path(__file__).with_name("docs.html")


def render(document: dict[str, Any]) -> str:
    """Return an OpenAPI document as an HTML page. What an operation does not say, or in a reference, is left out."""
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=ChainableUndefined)
    page.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    return page.from_string(TEMPLATE.read_text()).render(document=document)


def add_routes(app: Flask, context: Context) -> None:
    """Add `/openapi.json` and `/docs`, unless the service answers them itself."""
    service = context.service
    if any(rule.rule == "/openapi.json" for rule in app.url_map.iter_rules()):
        return

    @cache  # routes are all added before the first request
    def document() -> dict[str, Any]:
        return specification(app, f"kappawatt {service.name}", service.summary)

    @cache
    def text() -> bytes:
        return orjson.dumps(document())

    @cache
    def html() -> str:
        return render(document())

    @app.get("/openapi.json", provide_automatic_options=False)
    @operation("This document", tag="docs", answers={200: {"type": "object"}})
    def openapi() -> Response:
        return Response(text(), content_type="application/json")

    @app.get("/docs", provide_automatic_options=False)
    @operation("This document as a page", tag="docs", answers={200: {"text/html": {"type": "string"}}})
    def page() -> Response:
        return Response(html(), content_type="text/html; charset=utf-8")
