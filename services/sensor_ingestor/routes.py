"""`POST /readings/{key}`: rows in, acknowledged once the bus has them."""

from __future__ import annotations

import logging
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from flask import Flask, Response, request

from kappawatt.batch import Batch
from kappawatt.bus import Bus, Producer, connect
from kappawatt.bus.interface import Headers
from kappawatt.bus.topics import PLANT_READINGS
from kappawatt.codec import CSV, JSON, content_type_of, decode
from kappawatt.errors import BusError, NotReady, PayloadInvalid, RowsRejected
from kappawatt.events.plant import READING
from kappawatt.ingest import new_traceparent, reading_messages
from kappawatt.serving.body import read_body
from kappawatt.serving.context import Context
from kappawatt.serving.openapi import operation
from kappawatt.serving.predict import csv_example, example_of, rows_body
from kappawatt.serving.problems import problem, rejected
from kappawatt.settings import Settings
from services.sensor_ingestor.idempotency import Idempotency, Stored, Verdict, fingerprint

__all__ = ["add_routes"]

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 10.0  # below what clients, gateways and the lease of an Idempotency-Key wait
READY_SECONDS = 1.0  # between two questions to the bus about its health
# a name of dots alone would be taken for a folder on its way here
KEY = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,99}")
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}")
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")

PARAMETERS: tuple[dict[str, Any], ...] = (
    {
        "name": "key",
        "in": "path",
        "required": True,
        "description": "Name of the plant; readings of one plant keep their order.",
        "schema": {"type": "string", "pattern": f"^{KEY.pattern}$"},
        "example": "plant-1",
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "The same key with the same body within 24 hours is answered as before, with"
        " `Idempotent-Replay: true`, and stores nothing again.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
    },
    {
        "name": "traceparent",
        "in": "header",
        "required": False,
        "description": "W3C trace context, carried on with the readings; a new one if absent or invalid.",
        "schema": {"type": "string"},
    },
)
ACCEPTED = {
    "title": "Accepted",
    "type": "object",
    "properties": {
        "accepted": {"type": "integer", "description": "rows the bus has acknowledged"},
        "rejected": {"type": "integer", "const": 0},
        "messages": {"type": "integer", "description": "single events, or blocks of many rows"},
        "topic": {"type": "string"},
        "key": {"type": "string"},
    },
    "required": ["accepted", "rejected", "messages", "topic", "key"],
}


def add_routes(app: Flask, context: Context) -> None:
    """Add `/readings/{key}`, and ask the bus when asked for readiness."""
    door = _Door(context.settings)
    answers = Idempotency(idempotency_file(context.settings))
    context.ready.append(door.why_not_ready)

    @app.post("/readings/<key>", provide_automatic_options=False)
    @operation(
        "Put readings of one plant on the bus",
        tag="readings",
        description="202 when the bus has all of them. 422 when rows were refused: `errors` names row, "
        "field, value got and values allowed, `accepted` counts the others, which are on the bus. 429 when "
        "the buffer is full, with nothing stored. 409 while the first request of a key is under way.",
        body=rows_body(READING),
        examples={JSON: example_of(READING), CSV: csv_example(READING)},
        parameters=PARAMETERS,
        answers={202: ACCEPTED, **dict.fromkeys((400, 404, 409, 413, 415, 422, 429, 503), "problem")},
    )
    def readings(key: str) -> Response:
        if not KEY.fullmatch(key):
            raise PayloadInvalid(f"key: got {key[:100]!r}, allowed 1 to 100 of A-Z a-z 0-9 . _ ~ - not led by a dot")
        content_type = content_type_of(request.content_type)
        body = read_body()
        claim = request.headers.get("Idempotency-Key")
        if claim is None:
            return publish(key, content_type, body)
        if not IDEMPOTENCY_KEY.fullmatch(claim):
            raise PayloadInvalid(f"Idempotency-Key: got {claim[:80]!r}, allowed 1 to 200 printable ASCII characters")
        return once(claim, key, content_type, body)

    def publish(key: str, content_type: str, body: bytes) -> Response:
        batch = decode(body, content_type, READING).batch
        messages = door.publish(batch, key)
        accepted = int(batch.valid.sum())
        context.telemetry.rows.labels(context.service.name, "http").inc(accepted)
        for rejection in batch.rejections:
            context.telemetry.rejections.labels(context.service.name, "http", rejection.code).inc()
        document = {"accepted": accepted, "messages": messages, "topic": PLANT_READINGS.name, "key": key}
        if batch.rejections:
            return rejected(RowsRejected(batch.rejections), **document)
        return Response(orjson.dumps(document | {"rejected": 0}), 202, content_type=JSON)

    def once(claim: str, key: str, content_type: str, body: bytes) -> Response:
        found = answers.begin(claim, fingerprint(key.encode(), content_type.encode(), body))
        if isinstance(found, Stored):
            replay = Response(found.body, found.status, content_type=found.content_type)
            replay.headers["Idempotent-Replay"] = "true"
            return replay
        if found is Verdict.OTHER_REQUEST:
            detail = f"Idempotency-Key: got {claim!r} with another key, content type or body than before, allowed"
            return problem(422, "Idempotency key reused", f"{detail} a new Idempotency-Key for a new request")
        if found is Verdict.IN_PROGRESS:
            response = problem(409, "Request in progress", f"Idempotency-Key {claim!r}: {found.value}; ask again")
            response.headers["Retry-After"] = "1"
            return response
        is_published = False
        try:
            response = publish(key, content_type, body)
            is_published = True
        finally:
            if not is_published:
                _survive(lambda: answers.forget(claim))
        stored = Stored(response.status_code, response.content_type or JSON, response.get_data())
        _survive(lambda: answers.finish(claim, stored))
        return response


def _survive(remember: Callable[[], None]) -> None:
    """What the bus has done stands, whether or not it can be remembered."""
    try:
        remember()
    except NotReady as error:
        log.error("a repeat of this request would not be recognised", extra={"error": str(error)})


def idempotency_file(settings: Settings) -> Path:
    """Return where answers are remembered: the folder `state`, beside the embedded bus, or the temporary folder."""
    name = "sensor-ingestor.idempotency"
    if settings.state is not None:
        return settings.state / name
    scheme, _, rest = settings.bus.partition(":")
    if scheme == "embedded":
        bus = Path(rest).expanduser().absolute()
        return bus.with_name(bus.name + ".idempotency")
    return Path(tempfile.gettempdir()) / name


class _Door:
    """The bus, connected at first use: after the fork, and not before anything is to be said."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._bus: Bus | None = None
        self._producer: Producer | None = None
        self._asked = float("-inf")
        self._reason: str | None = "bus: not asked yet"

    def publish(self, batch: Batch, key: str) -> int:
        """Publish the valid rows and return once they are acknowledged; how many messages they were."""
        messages = reading_messages(batch, key, headers=_trace(), block_rows=self._settings.block_rows)
        if messages:
            _, producer = self._connected()
            producer.publish(messages, timeout=PUBLISH_SECONDS, wait_for_room=False)
        return len(messages)

    def why_not_ready(self) -> str | None:
        """Return None if the bus has the topic. One thread asks; the others hear the last answer."""
        if self._asking.acquire(blocking=False):
            try:
                if time.monotonic() - self._asked > READY_SECONDS:
                    self._reason = self._ask()
                    self._asked = time.monotonic()
            finally:
                self._asking.release()
        return self._reason

    def _ask(self) -> str | None:
        try:
            bus, _ = self._connected()
            there = bus.topics()
        except BusError as error:
            return f"bus: {error}"
        return None if PLANT_READINGS.name in there else f"bus: topic {PLANT_READINGS.name} is not on {bus.url}"

    def _connected(self) -> tuple[Bus, Producer]:
        with self._lock:
            if self._bus is None or self._producer is None:
                self._bus = connect(self._settings.bus, self._settings.bus_options())
                self._producer = self._bus.producer()
            return self._bus, self._producer


def _trace() -> Headers:
    """The trace context of this request, or a new one."""
    given = request.headers.get("traceparent", "")
    if not TRACEPARENT.fullmatch(given):
        return (("traceparent", new_traceparent()),)
    state = request.headers.get("tracestate", "")
    more: Headers = (("tracestate", state.encode()),) if TRACESTATE.fullmatch(state) else ()
    return (("traceparent", given.encode()), *more)
