"""The dashboard's files, read once at start, and what browsers may do with any answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from flask import Flask, Response, request
from werkzeug.exceptions import NotFound, PreconditionFailed

from kappawatt.serving.openapi import Right, operation

from .rights import FORWARD

__all__ = ["add_pages"]

FOLDER = Path(__file__).with_name("dashboard")
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"
# Nothing from elsewhere, and no script in the page itself.
DASHBOARD_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Everything else is a document: also a page that a service sends runs no script in the gateway's name.
DOCUMENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content: bytes
    content_type: str
    etag: str


def read_assets(folder: Path = FOLDER) -> dict[str, Asset]:
    """Return the dashboard's files by name."""
    assets = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in CONTENT_TYPES:
            content = path.read_bytes()
            etag = hashlib.sha256(content).hexdigest()[:20]
            assets[path.name] = Asset(content, CONTENT_TYPES[path.suffix], etag)
    return assets


def add_pages(app: Flask) -> None:
    """Add `/` and `/static/...`, and security headers to every answer."""
    assets = read_assets()

    def answer(name: str) -> Response:
        asset = assets.get(name)
        if asset is None:
            raise NotFound(f"got {name[:100]!r}, allowed {', '.join(assets)}")
        response = Response(asset.content, content_type=asset.content_type)
        response.set_etag(asset.etag)
        response.headers["Cache-Control"] = "no-cache"  # keep it, but ask whether it is still the same
        response.headers["Content-Security-Policy"] = DASHBOARD_POLICY
        response.make_conditional(request)
        if response.status_code == HTTPStatus.PRECONDITION_FAILED:
            raise PreconditionFailed(f"If-Match: got {str(request.if_match)[:100]!r}, allowed none in a question")
        return response

    @app.get("/", provide_automatic_options=False)
    @operation(
        "The dashboard",
        tag="dashboard",
        access=Right.OPEN,
        answers={200: {"text/html": {"type": "string"}}, 304: None, **dict.fromkeys((403, 412, 429), "problem")},
    )
    def dashboard() -> Response:
        return answer(INDEX)

    @app.get("/favicon.ico", provide_automatic_options=False)
    @operation(
        "Its icon, where browsers look for one",
        tag="dashboard",
        access=Right.OPEN,
        answers={200: {"image/svg+xml": {"type": "string"}}, 304: None, **dict.fromkeys((403, 412, 429), "problem")},
    )
    def favicon() -> Response:
        return answer("icon.svg")

    media = sorted({kind.partition(";")[0] for kind in CONTENT_TYPES.values()})

    @app.get("/static/<name>", provide_automatic_options=False)
    @operation(
        "A file of the dashboard",
        tag="dashboard",
        access=Right.OPEN,
        answers={
            200: {kind: {"type": "string"} for kind in media},
            304: None,
            **dict.fromkeys((403, 404, 412, 429), "problem"),
        },
    )
    def static(name: str) -> Response:
        return answer(name)

    @app.after_request
    def harden(response: Response) -> Response:
        if request.endpoint == FORWARD:  # whatever the service says: it is the gateway's name that its page has
            response.headers["Content-Security-Policy"] = DOCUMENT_POLICY
        response.headers.setdefault("Content-Security-Policy", DOCUMENT_POLICY)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response
