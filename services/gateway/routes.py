"""The gateway's routes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask, Request, Response, g, request
from werkzeug.exceptions import MethodNotAllowed, NotFound

from kappawatt.columns.strict_json import dump_json, load_document
from kappawatt.errors import ContentTypeUnsupported, KappawattError, PayloadInvalid
from kappawatt.messages.tracing import trace_parent
from kappawatt.serving import docs
from kappawatt.serving.body import read_body
from kappawatt.serving.openapi import JSON, Right, operation, specification
from kappawatt.serving.service import Context

from .access import COOKIE, ROLE_NAMES
from .answers import OBJECT, REFUSED, json_answer
from .live_routes import add_live_routes
from .pages import add_pages
from .paths import READ_ONLY, Own
from .proxy import openapi_merge
from .proxy.forward import METHODS, Target
from .rights import FORWARD, Rights
from .wiring import EXTENSION, Gateway, open_gateway

__all__ = ["add_routes"]

PROBE_SECONDS = 1.5
DOCUMENT_SECONDS = 3.0
KEPT_SECONDS = 2.0  # answers about other services are kept for so long


def add_routes(app: Flask, context: Context) -> None:
    """Add everything, and start reading the bus."""
    gateway = open_gateway(context)
    app.extensions[EXTENSION] = gateway
    rights = Rights(app, gateway.proxy, gateway.descriptions)
    gateway.access.guard(app, rights)
    _add_trace(app)
    add_live_routes(app, gateway)
    _add_session(app, gateway)
    _add_services(app, gateway)
    _add_documents(app, context, gateway)
    _add_proxy(app, gateway, rights)
    add_pages(app)


def _add_trace(app: Flask) -> None:
    @app.before_request
    def begin() -> None:
        g.trace_parent = trace_parent(request.headers.get("traceparent"))

    @app.after_request
    def end(response: Response) -> Response:
        if "trace_parent" in g:
            response.headers["traceparent"] = g.trace_parent
        return response


def _add_session(app: Flask, gateway: Gateway) -> None:
    body = {
        "type": "object",
        "properties": {"key": {"type": "string", "minLength": 1, "maxLength": 512, "pattern": "^[!-~]+$"}},
        "required": ["key"],
    }

    @app.get(Own.SESSION, provide_automatic_options=False)
    @operation(
        "Whether keys are asked for, and who is signed in",
        tag="session",
        access=Right.OPEN,
        answers={200: OBJECT, 403: "problem", 429: "problem"},
    )
    def session() -> Response:
        key = g.get("api_key")
        who = {"name": key.name, "role": key.role.name.lower()} if key else None
        return json_answer({"keys_needed": gateway.access.is_on, "signed_in": who})

    @app.post(Own.SESSION, provide_automatic_options=False)
    @operation(
        "Sign a browser in with an API key: sets a session cookie",
        tag="session",
        access=Right.OPEN,
        body={JSON: body},
        answers={200: OBJECT, **dict.fromkeys((400, 401, 403, 413, 415, 429), "problem")},
    )
    def sign_in() -> Response:
        if request.mimetype != JSON:
            raise ContentTypeUnsupported(f"content type: got {request.mimetype[:80]!r}, allowed {JSON}")
        key = load_document(read_body()).get("key")
        if not isinstance(key, str) or not 0 < len(key) <= 512:
            raise PayloadInvalid('body: allowed {"key": "..."}')
        if not key.isascii() or not key.isprintable() or " " in key:
            raise PayloadInvalid("key: allowed printable ASCII characters without blanks")
        response = json_answer({})
        if gateway.access.is_on:
            found = gateway.access.sign_in(key, response)
            response.data = dump_json({"name": found.name, "role": found.role.name.lower()})
        return response

    @app.delete(Own.SESSION, provide_automatic_options=False)
    @operation("Sign out", tag="session", access=Right.OPEN, answers={204: None, 403: "problem", 429: "problem"})
    def sign_out() -> Response:
        response = Response(status=204)
        response.delete_cookie(COOKIE, httponly=True, samesite="Strict")
        return response


class _Kept:
    """Answers about other services, asked anew when they are older than KEPT_SECONDS."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._kept: dict[str, tuple[float, Mapping[str, Target], Any]] = {}

    def ask(self, path: str, seconds: float) -> dict[str, tuple[int, bytes] | str]:
        """GET `path` of every service at once; by name, status and body, or why there is none."""
        targets = self._gateway.proxy.targets
        kept = self._kept.get(path)
        if kept is not None and time.monotonic() - kept[0] < KEPT_SECONDS and kept[1] is targets:
            return kept[2]  # type: ignore[no-any-return]

        def fetch(target: Target) -> tuple[int, bytes] | str:
            try:
                return self._gateway.proxy.fetch(target, path, seconds)
            except KappawattError as error:
                return str(error)

        answers: dict[str, tuple[int, bytes] | str] = {}
        if targets:
            with ThreadPoolExecutor(min(8, len(targets))) as pool:
                answers = dict(zip(targets, pool.map(fetch, targets.values()), strict=True))
        self._kept[path] = (time.monotonic(), targets, answers)
        return answers


def _add_services(app: Flask, gateway: Gateway) -> None:
    kept = _Kept(gateway)

    @app.get(Own.SERVICES, provide_automatic_options=False)
    @operation(
        "The services behind the gateway, and whether they are ready",
        tag="services",
        answers={200: OBJECT, **REFUSED},
    )
    def services() -> Response:
        rows = []
        answers, targets = kept.ask("/readyz", PROBE_SECONDS), gateway.proxy.targets
        for name, answer in answers.items():
            if name not in targets:  # it has just gone
                continue
            reason = None if isinstance(answer, tuple) and answer[0] == 200 else _why(answer)
            circuit = targets[name].breaker.state
            rows.append({"name": name, "ready": reason is None, "reason": reason, "circuit": circuit})
        discovery = None if gateway.discovery is None else {"kind": "kubernetes", "failure": gateway.discovery.failure}
        return json_answer({"services": rows, "discovery": discovery})


def _why(answer: tuple[int, bytes] | str) -> str:
    if isinstance(answer, str):
        return answer
    try:
        return str(load_document(answer[1])["detail"])
    except (PayloadInvalid, KeyError):
        return f"answered {answer[0]}"


def _add_documents(app: Flask, context: Context, gateway: Gateway) -> None:
    kept = _Kept(gateway)
    made: deque[tuple[Any, dict[str, Any]]] = deque(maxlen=1)  # the answers it was made of, and the document

    def merged() -> dict[str, Any]:
        description = (
            f"{context.service.summary} Every route of a service NAME is below /api/NAME, with the gateway's "
            "time-outs, request id (X-Request-Id) and trace (traceparent)."
        )
        answers = kept.ask("/openapi.json", DOCUMENT_SECONDS)
        if made and made[-1][0] is answers:
            return made[-1][1]
        document = specification(app, "kappawatt", description)
        unreachable = {}
        for name, answer in answers.items():
            if isinstance(answer, str) or answer[0] != 200:
                unreachable[name] = _why(answer)
                continue
            try:
                openapi_merge.add_service(document, name, load_document(answer[1]))
            except (PayloadInvalid, ValueError, AttributeError, TypeError) as error:
                unreachable[name] = f"its document cannot be read: {error}"
        document["x-unreachable"] = unreachable
        if gateway.access.is_on:
            openapi_merge.protect(document, ROLE_NAMES)
        made.append((answers, document))
        return document

    @app.get("/openapi.json", provide_automatic_options=False)
    @operation("This document: every route of every reachable service", tag="docs", answers={200: OBJECT, **REFUSED})
    def openapi() -> Response:
        return json_answer(merged())

    @app.get("/docs", provide_automatic_options=False)
    @operation("This document as a page", tag="docs", answers={200: {"text/html": {"type": "string"}}, **REFUSED})
    def page() -> Response:
        return Response(docs.render(merged()), content_type="text/html; charset=utf-8")


def _is_repeatable(rights: Rights, asked: Request) -> bool:
    """Whether a request may be sent again. An Idempotency-Key does not make it so: each ingestor remembers keys in a
    file of its own, and one that has just died would hand the second request on to another one.
    """
    try:
        return rights.of(asked).repeatable
    except KappawattError:  # its service has never said so, and does not answer
        return False


def _add_proxy(app: Flask, gateway: Gateway, rights: Rights) -> None:
    """The way to services. It is described by the services' own documents, which /openapi.json contains."""

    def forward(name: str, rest: str) -> Response:
        target = gateway.proxy.targets.get(name)
        if target is None:
            if name in READ_ONLY and request.method not in ("GET", "HEAD"):
                raise MethodNotAllowed(["GET", "HEAD"])
            known = ", ".join(gateway.proxy.targets) or f"none: {gateway.why_no_services()}"
            raise NotFound(f"service: got {name[:80]!r}, allowed {known}")
        return gateway.proxy.forward(
            target, rest, request, g.request_id, g.trace_parent, lambda: _is_repeatable(rights, request)
        )

    app.add_url_rule(
        "/api/<name>/<path:rest>",
        FORWARD,
        forward,
        methods=METHODS,
        provide_automatic_options=False,
        merge_slashes=False,
    )
