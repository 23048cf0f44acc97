"""The one app factory: probes, metrics, problem documents, request ids, OpenAPI; a service adds its routes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import orjson
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from kappawatt.columns.batch import RowsRejected
from kappawatt.errors import KappawattError, NotReady, Overloaded
from kappawatt.serving import docs
from kappawatt.serving.bookkeeping import REQUEST_ID, Bookkeeping, request_id
from kappawatt.serving.openapi import Right, operation
from kappawatt.serving.problems import problem, rejected
from kappawatt.serving.server.fast_lane import FastLane
from kappawatt.serving.service import Context, Service
from kappawatt.settings import Settings
from kappawatt.telemetry import CONTENT_TYPE, Telemetry

__all__ = ["MODELS", "create_app"]

MODELS = "kappawatt.models"  # where a function finds the models of an app

log = logging.getLogger(__name__)


def create_app(
    service: Service,
    settings: Settings,
    *,
    telemetry: Telemetry | None = None,
    serves: bool = True,
) -> Flask:
    """Return the Flask app of `service`.

    Parameters
    ----------
    serves : bool
        False leaves only probes and metrics: the app beside a loop.
    """
    app = Flask(f"kappawatt.{service.name}", static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    context = Context(service, settings, telemetry or Telemetry(service.name))
    context.ready.append(context.drain.why_not_ready)
    app.extensions["kappawatt"] = context
    books = Bookkeeping(context.telemetry)
    _add_bookkeeping(app, books)
    _add_errors(app)
    _add_probes(app, context)
    if serves:
        if service.model is not None:
            models = service.model.doors(app, context)
            context.ready.append(models.why_not_ready)
            app.extensions[MODELS] = models
        if service.routes is not None:
            service.routes(app, context)
        docs.add_routes(app, context)
    if context.lanes:
        app.wsgi_app = FastLane(app.wsgi_app, context.lanes, books)  # type: ignore[method-assign]
    return app


def _add_bookkeeping(app: Flask, books: Bookkeeping) -> None:
    @app.before_request
    def begin() -> None:
        g.started = time.perf_counter()
        g.request_id = request_id(request.headers.get(REQUEST_ID))

    @app.after_request
    def end(response: Response) -> Response:
        route = str(request.url_rule) if request.url_rule else "unmatched"
        books.note(route, request.method, response.status_code, time.perf_counter() - g.started)
        response.headers[REQUEST_ID] = g.request_id
        return response


def _add_errors(app: Flask) -> None:
    @app.errorhandler(RowsRejected)
    def rows_rejected(error: RowsRejected) -> Response:
        return rejected(error)

    @app.errorhandler(KappawattError)
    def known(error: KappawattError) -> Response:
        if error.status >= 500:
            level = logging.ERROR if error.status == 500 else logging.WARNING
            log.log(level, "cannot answer", extra={"error": str(error), "request_id": g.get("request_id")})
        response = problem(error.status, error.title, str(error))
        if isinstance(error, Overloaded):
            response.headers["Retry-After"] = str(max(1, round(error.retry_after)))
        if isinstance(error, NotReady):
            response.headers["Retry-After"] = "1"
        return response

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        response = problem(error.code or 500, error.name, error.description or error.name)
        for header, value in error.get_headers():
            if header.lower() not in ("content-type", "content-length"):
                response.headers[header] = value
        return response

    @app.errorhandler(Exception)
    def unknown(error: Exception) -> Response:
        log.exception("request failed", extra={"request_id": g.get("request_id"), "path": request.path})
        return problem(500, "Internal error", "the request failed here; the log has the reason by request id")


def _add_probes(app: Flask, context: Context) -> None:
    def probe(questions: list[Callable[[], str | None]], yes: str) -> Response:
        reasons = [reason for question in questions if (reason := question()) is not None]
        if reasons:
            return problem(503, "Not " + yes, "; ".join(reasons))
        return Response(orjson.dumps({"status": yes}), content_type="application/json")

    @app.get("/healthz", provide_automatic_options=False)
    @operation("Is the process alive?", tag="probes", access=Right.OPEN, answers={200: STATUS, 503: "problem"})
    def healthz() -> Response:
        return probe(context.alive, "alive")

    @app.get("/readyz", provide_automatic_options=False)
    @operation(
        "Can it answer? 503 until the model gave its own example answer.",
        tag="probes",
        access=Right.OPEN,
        answers={200: STATUS, 503: "problem"},
    )
    def readyz() -> Response:
        return probe(context.alive + context.ready, "ready")

    @app.get("/metrics", provide_automatic_options=False)
    @operation("Prometheus metrics", tag="probes", access=Right.OPEN, answers={200: {"text/plain": {"type": "string"}}})
    def metrics() -> Response:
        return Response(context.telemetry.render(), content_type=CONTENT_TYPE)


STATUS = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
