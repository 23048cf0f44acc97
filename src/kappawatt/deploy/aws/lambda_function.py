"""AWS Lambda: events in, answers out, by the same app and the same worker as everywhere else.

`make_handler` is called once while a function starts, which is when it has a whole processor to itself: settings are
read, the model is fetched and has answered its example before the first event comes.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
from flask import Flask, request

from kappawatt import logs
from kappawatt.bus import connect_as
from kappawatt.columns.schema import shorten
from kappawatt.deploy.aws.api_gateway import REFUSED, Reply, Request, read_event, send, to_environ
from kappawatt.deploy.aws.cross_origin import CrossOrigin
from kappawatt.errors import ArtifactInvalid, KappawattError, NotReady, PayloadInvalid, PayloadTooLarge, SettingInvalid
from kappawatt.messages.envelopes import check_topics
from kappawatt.models.s3 import S3Model, StoredModel
from kappawatt.serving.app import MODELS, create_app
from kappawatt.serving.service import OpenedModels, Service, find_service
from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry

__all__ = ["Function", "function_settings", "make_handler"]

log = logging.getLogger(__name__)

MOST_BYTES = 6 * 1024 * 1024  # of an event and of an answer, both as JSON
ENVELOPE_BYTES = 1024  # a runtime may write spaces that are not counted here
RETRY_SECONDS = 1.0  # between two looks for a model while there is none
LOOK_SECONDS = 10.0  # a look may take as long as S3's time-outs; with less left it waits for the next call
SPARE_SECONDS = 2.0  # of a call's time, kept for saying that the bus did not answer
PUBLISH_SECONDS = 30.0
PROBES = ("/healthz", "/readyz", "/metrics")
ALLOWED = 'a request of API Gateway, records of a Kafka event source, or {"rows": [...]}'


def make_handler(environ: Mapping[str, str] = os.environ) -> Function:
    """Return the function that KAPPAWATT_* describe, ready to answer.

    Raises
    ------
    SettingInvalid
        A variable is missing or has a value that cannot be used; the message names it.
    """
    name = environ.get("KAPPAWATT_SERVICE", "")
    try:
        service = find_service(name)
    except SettingInvalid as error:
        raise SettingInvalid(f"KAPPAWATT_SERVICE: {error}") from None
    if service.model is None:
        raise SettingInvalid(f"KAPPAWATT_SERVICE: {name} has no model")
    settings = function_settings(environ)
    check_topics(settings.envelopes)
    logs.set_up(settings)
    function = Function(service, settings, has_bus=bool(environ.get("KAPPAWATT_BUS")))
    if not settings.model_url:
        gc.freeze()  # what was loaded stays
    return function


def function_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings of a function: no thread of its own, and nothing larger than the platform carries."""
    settings = Settings.read(environ, workers=1, threads=1, follow_histories=False)
    return replace(settings, max_body_bytes=min(settings.max_body_bytes, MOST_BYTES))


class Function:
    """What the platform calls, once at a time.

    Parameters
    ----------
    has_bus : bool
        Whether `settings.bus` was given: the default is a file that a function does not have.
    """

    def __init__(self, service: Service, settings: Settings, *, has_bus: bool) -> None:
        self._service = service
        self._has_bus = has_bus
        self._settings = settings
        self._warm = _WarmApp(service, settings)
        self._cross_origin = CrossOrigin(settings.cors_origins)
        self._source: Any = None

    def __call__(self, event: Any, context: Any = None) -> Any:
        """Answer an event.

        Raises
        ------
        KappawattError
            Another try may mend it (the platform makes one where it does), or the event is none that is read here.
        """
        left = math.inf if context is None else context.get_remaining_time_in_millis() / 1000
        if isinstance(event, Mapping):
            if isinstance(event.get("records"), Mapping):
                return self._answer_kafka(event, left)
            if "requestContext" in event or "httpMethod" in event:
                return self._answer_http(event, left)
            if event.keys() == {"rows"}:
                return self._answer_rows(event["rows"], left, getattr(context, "aws_request_id", ""))
        raise PayloadInvalid(f"event: got {shorten(event)!r}, allowed {ALLOWED}")

    def _answer_http(self, event: Mapping[str, Any], left: float) -> dict[str, Any]:
        asked = read_event(event)
        preflight = self._cross_origin.preflight(asked.method, asked.headers)
        if preflight is not None:
            return Reply(204, preflight).to_event(asked.payload)
        answer = self._send(asked, left).to_event(asked.payload)
        # Cheap to know of most: text at most doubles when it becomes a JSON string, and base 64 does not grow at all.
        most = MOST_BYTES - ENVELOPE_BYTES
        if len(answer["body"]) * 2 > most and (size := len(orjson.dumps(answer))) > most:
            error = PayloadTooLarge(f"answer: got {size} bytes, allowed {most}; send fewer rows")
            answer = self._send(replace(asked, refused=error), left).to_event(asked.payload)
        return answer

    def _answer_rows(self, rows: Any, left: float, request_id: str) -> Any:
        """Answer a direct invocation with the document that `/predict` answers rows with."""
        headers = {"content-type": "application/json"}
        try:
            body = orjson.dumps(rows)
        except orjson.JSONEncodeError as error:
            raise PayloadInvalid(f"rows: {error}") from None
        asked = Request("", "POST", "/predict", "", headers, body, "", request_id)
        reply = self._send(asked, left)
        document = orjson.loads(reply.body)
        if reply.status >= 500:
            raise NotReady(document["detail"]) if reply.status == 503 else KappawattError(document["detail"])
        return document

    def _answer_kafka(self, event: Mapping[str, Any], left: float) -> dict[str, int]:
        kind, stream = self._service.modelled(), self._service.stream
        models: OpenedModels | None = self._warm.get(left).extensions.get(MODELS)
        if models is None:
            raise NotReady(self._warm.reason)
        model = models.current
        if stream is None or kind.needs_history:
            why = "it reads no topic" if stream is None else "its worker keeps histories, see `kappawatt consume`"
            raise PayloadInvalid(f"event: got Kafka records for {self._service.name}, allowed HTTP: {why}")
        if self._source is None:
            if not self._has_bus:
                raise SettingInvalid("KAPPAWATT_BUS: got nothing, allowed kafka://HOST:PORT, where answers go")
            from kappawatt.deploy.aws.kafka_event import EventSource

            settings = self._settings
            self._source = EventSource(lambda: connect_as(settings), kind, stream, settings)
        timeout = max(SPARE_SECONDS, min(PUBLISH_SECONDS, left - SPARE_SECONDS))
        counts: dict[str, int] = self._source.answer(event, model, timeout)
        return counts

    def _send(self, asked: Request, left: float) -> Reply:
        reply = send(self._warm.get(left), to_environ(asked))
        reply.headers += self._cross_origin.answer(asked.headers)
        return reply


class _WarmApp:
    """The app with the model that answers now, made anew when another lies in S3; the old one answers until then."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service = service
        self._settings = settings
        self._telemetry = Telemetry(service.name)
        self._lock = threading.Lock()
        self._looked = -math.inf
        self._model: StoredModel | None = None
        self._store = S3Model(settings.model_url) if settings.model_url else None
        self.reason = ""
        if self._store is None:
            self._app = self._make(settings)
        else:
            self._app = self._waiting()
            self._look(self._store)

    def get(self, left: float) -> Flask:
        """Return the app; looks for another model first if that is due and `left` seconds are enough."""
        if self._store is not None and self._is_due() and left > LOOK_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._look(self._store)
            finally:
                self._lock.release()
        return self._app

    def _is_due(self) -> bool:
        wait = RETRY_SECONDS if self._model is None else self._settings.model_check_seconds
        return not 0 <= time.time() - self._looked < wait  # wall time: the other clocks may stand while it is frozen

    def _look(self, store: S3Model) -> None:
        self._looked = time.time()
        try:
            found = store.look()
            if found is None:
                return
            app = self._make(replace(self._settings, artifacts=found.folder))
            reason = app.extensions[MODELS].why_not_ready()
            if reason is not None:
                raise ArtifactInvalid(reason)
        except (NotReady, ArtifactInvalid) as error:
            self.reason = str(error)
            serving = "nothing yet" if self._model is None else "the model fetched before"
            log.warning(
                "no other model from S3", extra={"address": store.address, "error": self.reason, "serving": serving}
            )
        else:
            self._app, self._model = app, found
            log.info("model from S3", extra={"address": store.address, "etag": found.etag})
        store.keep_only(self._model)

    def _make(self, settings: Settings) -> Flask:
        app = create_app(self._service, settings, telemetry=self._telemetry)

        @app.before_request
        def refuse() -> None:
            error = request.environ.get(REFUSED)
            if error is not None:
                raise error

        return app

    def _waiting(self) -> Flask:
        """An app that has no model and says why."""
        app = create_app(self._service, self._settings, telemetry=self._telemetry, serves=False)
        app.extensions["kappawatt"].ready.append(lambda: self.reason)

        @app.before_request
        def refuse() -> None:
            if request.path not in PROBES:
                raise NotReady(self.reason)

        return app
