"""`POST /readings/{key}`, `/load/{key}`, `/meters/{key}`: rows in, acknowledged once the bus has them.

`POST /load/{key}/confirm` and `/meters/{key}/confirm` take spans whose values were real, and are rows on the bus too.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from flask import Flask, Response, request

from kappawatt.bus import Bus, Producer, connect_as
from kappawatt.bus.interface import Headers, Outgoing
from kappawatt.columns.batch import RowsRejected
from kappawatt.columns.content import CSV, JSON, READABLE, bare_type, content_type_of
from kappawatt.columns.schema import Schema
from kappawatt.datasets.reading.content import GZIP
from kappawatt.datasets.reading.options import NOTHING_SAID, Options
from kappawatt.datasets.reading.told import READ_AS
from kappawatt.datasets.reading.units import UNITS
from kappawatt.errors import (
    BusError,
    ContentTypeUnsupported,
    DeliveryLate,
    NotReady,
    PayloadInvalid,
    SettingInvalid,
    WritesRefused,
)
from kappawatt.forecasting.grid import CONFIRMED
from kappawatt.ingest.bodies import Rows, read_rows
from kappawatt.ingest.confirmations import can_be_confirmed, confirmation_schema, read_confirmation
from kappawatt.messages.readings import reading_messages
from kappawatt.messages.tracing import new_traceparent
from kappawatt.serving.body import read_body
from kappawatt.serving.doors.predict import csv_example, example_of, rows_body
from kappawatt.serving.openapi import Right, operation
from kappawatt.serving.problems import problem, rejected
from kappawatt.serving.service import Context
from kappawatt.settings import Settings
from kappawatt.streams.series import INTERVAL_SECONDS
from kappawatt.streams.stream import Stream, resolve
from kappawatt.streams.table import STREAMS

from . import weather
from .idempotency import Idempotency, Stored, Verdict, fingerprint

__all__ = ["add_routes"]

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 10.0  # below what clients and gateways wait; the bus may go on, see DeliveryLate
LOG_SECONDS = 0.25  # between two questions whether a topic's log is still the same
REFUSED_SECONDS = 15.0  # not ready after the bus did not take messages
READY_SECONDS = 1.0  # between two questions to the bus about its health
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}")
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")

HEADERS: tuple[dict[str, Any], ...] = (
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
KNOWN: dict[str, Any] = {
    "name": "known",
    "in": "query",
    "required": False,
    "description": "When an export's values became known: `end` of their interval (or arrival, if that is later),"
    " or as `published` by the file.",
    "schema": {"type": "string", "enum": ["end", "published"], "default": "end"},
}
FILE_TYPES = (  # that people send, and this door does not read
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.ms-excel",
    "application/vnd.apache.parquet",
    "application/x-parquet",
)
XML_TYPES = ("application/xml", "text/xml", "application/atom+xml")  # of Green Button
READING: tuple[dict[str, Any], ...] = tuple(
    {"name": name, "in": "query", "required": False, "description": said, "schema": {"type": "string", **more}}
    for name, said, more in (
        ("time_column", "Of a table of another layout: the column of times.", {}),
        ("value_column", "The column of measurements.", {}),
        ("covariate_column", "A column of numbers known ahead; weather by its field's name needs none.", {}),
        ("epoch", "Times count seconds or milliseconds since 1970.", {"enum": ["s", "ms"]}),
        ("labels", "What a row's time stands for in its interval.", {"enum": ["start", "end"]}),
        ("sep", "Character between cells.", {}),
        ("decimal", "Character before decimals.", {}),
        ("thousands", "Character between groups of three digits.", {}),
        ("day_first", "Whether 01/02/2024 is the first of February.", {"enum": ["true", "false"]}),
        ("unit", "Of the measurements.", {"enum": list(UNITS)}),
        ("time_zone", "IANA name of the clock of times without an offset, and of days.", {}),
        ("clock", "Clock of the times if it is not that of days, or `time_zone` once more.", {}),
        ("resample", "Intervals wanted, such as 15min or 1h: means of power, sums of energy.", {}),
        ("register", "Whether values are a counter's, whose differences are wanted.", {"enum": ["true", "false"]}),
    )
)
ACCEPTED: dict[str, Any] = {
    "title": "Accepted",
    "type": "object",
    "properties": {
        "accepted": {"type": "integer", "description": "rows the bus has acknowledged"},
        "rejected": {"type": "integer", "const": 0},
        "messages": {"type": "integer", "description": "single events, or blocks of many rows"},
        "topic": {"type": "string"},
        "key": {"type": "string", "description": "the one in the path; empty if rows named their own"},
    },
    "required": ["accepted", "rejected", "messages", "topic", "key"],
}
STATUSES = (400, 404, 409, 413, 415, 422, 429, 503)
DESCRIPTION = (
    "202 when the bus has all of them. 422 when rows were refused: `errors` names row, "
    "field, value got and values allowed, `accepted` counts the others, which are on the bus. 429 when "
    "the buffer is full, with nothing stored. 409 while the first request of a key is under way."
)


def add_routes(app: Flask, context: Context) -> None:
    """Add a door for each stream that can be ingested, and ask the bus when asked for readiness."""
    door = _Door(context.settings)
    answers = Idempotency(idempotency_file(context.settings))
    context.ready.append(door.why_not_ready)
    for stream in STREAMS:
        _add_door(app, stream, _Post(context, door, answers, stream))
        if can_be_confirmed(stream):
            _add_confirm(app, stream, _Confirm(context, door, answers, stream))
    weather.start(app, context)


def _add_door(app: Flask, stream: Stream, post: _Post) -> None:
    """`POST /PATH/{key}`, and `POST /PATH` where rows can name their own."""
    schema = stream.schema
    described: dict[str, Any] = {
        "tag": "readings",
        "access": Right.WRITE,  # and not repeatable: an Idempotency-Key is known to one instance alone
        "body": rows_body(schema),
        "answers": {202: _accepted(stream), **dict.fromkeys(STATUSES, "problem")},
    }
    known = ", ".join(layout.name for layout in resolve(stream.files)) if stream.files else ""
    export = (
        f" `text/csv` may also be a table of another layout ({known}, or any with times and numbers), also with"
        " `Content-Encoding: gzip`, and Green Button as `application/xml`; the answer says"
        " in `read_as` how it was read."
        if known
        else ""
    )
    key = _key_parameter(stream)
    more = (*HEADERS, KNOWN, *READING) if stream.files else HEADERS

    @operation(
        f"Put readings of one {stream.key.noun} on the bus",
        description=DESCRIPTION + export,
        parameters=(key, *more),
        examples=_examples(schema, *stream.values),
        **described,
    )
    def keyed(key: str) -> Response:
        return post(stream.key.checked(key))

    app.add_url_rule(f"/{stream.path}/<key>", stream.path, keyed, methods=["POST"], provide_automatic_options=False)
    if not stream.names_key:
        return

    @operation(
        f"Put readings of any {stream.key.noun} on the bus",
        description=f"Each row names its own as `{stream.key.name}`. {DESCRIPTION}{export}",
        parameters=more,
        examples=_examples(schema, stream.key.name, *stream.values),
        **described,
    )
    def any_key() -> Response:
        return post("")

    app.add_url_rule(
        f"/{stream.path}", f"{stream.path}_any", any_key, methods=["POST"], provide_automatic_options=False
    )


def _add_confirm(app: Flask, stream: Stream, post: _Confirm) -> None:
    """`POST /PATH/{key}/confirm`."""
    noun = stream.key.noun

    @operation(
        f"Say that values of one {noun} were real, which a forecast finds suspect",
        description="A span, several (such as `suspect_spans` of a forecast), or the starts of intervals with"
        f" `{INTERVAL_SECONDS}`. Values that are known by then are believed by every later forecast; one that comes"
        " for the same interval later is not confirmed, and where there is none, nothing is. On the bus each span"
        f" is a row with `{CONFIRMED}` and no value. {DESCRIPTION}",
        tag="readings",
        access=Right.WRITE,
        parameters=(_key_parameter(stream), *HEADERS),
        body={JSON: confirmation_schema(stream)},
        examples={JSON: {"start": "2024-05-13T16:00:00Z", "end": "2024-05-13T17:00:00Z"}},
        answers={202: ACCEPTED, **dict.fromkeys(STATUSES, "problem")},
    )
    def confirm(key: str) -> Response:
        return post(stream.key.checked(key))

    app.add_url_rule(
        f"/{stream.path}/<key>/confirm",
        f"{stream.path}_confirm",
        confirm,
        methods=["POST"],
        provide_automatic_options=False,
    )


def _key_parameter(stream: Stream) -> dict[str, Any]:
    return {
        "name": "key",
        "in": "path",
        "required": True,
        "description": f"Name of the {stream.key.noun}; readings of one {stream.key.noun} keep their order.",
        "schema": {"type": "string", "pattern": f"^{stream.key.pattern.pattern}$"},
        "example": stream.key.example,
    }


def _accepted(stream: Stream) -> dict[str, Any]:
    """The schema of what a door answers, with how a table was read where it takes tables."""
    if not stream.files:
        return ACCEPTED
    return {**ACCEPTED, "title": "AcceptedSeries", "properties": {**ACCEPTED["properties"], "read_as": READ_AS}}


def _options() -> Options:
    """How a table is read, from the request's query; PayloadInvalid names an option that cannot be."""
    said = {name: value for name, value in request.args.items() if name != "known"}
    if "key" in said:
        raise PayloadInvalid.of("key", "it in the query", "the last part of the path")
    empty = next((name for name, value in said.items() if not value), None)
    if empty is not None:
        raise PayloadInvalid.of(empty, "nothing", "a value, or the query without it")
    try:
        return Options.of(said)
    except SettingInvalid as error:
        raise PayloadInvalid(str(error)) from None


def _examples(schema: Schema, *also: str) -> dict[str, Any]:
    """A row that is accepted, by content type."""
    return {JSON: example_of(schema, *also), CSV: csv_example(schema, *also)}


@dataclass(frozen=True, slots=True)
class _Read:
    """A body that was read: what goes on the bus, and the answer once it is there."""

    messages: list[Outgoing]
    accepted: int
    refused: Counter[str]
    answer: Stored


class _Post:
    """One request to one door: read, publish, answer; once for each Idempotency-Key."""

    def __init__(self, context: Context, door: _Door, answers: Idempotency, stream: Stream) -> None:
        self._path = stream.path
        self._context = context
        self._door = door
        self._answers = answers
        self._stream = stream

    def __call__(self, key: str) -> Response:
        if bare_type(request.content_type or "") in FILE_TYPES:
            allowed = f"{', '.join(READABLE)}; `kappawatt ingest` reads workbooks and Parquet"
            raise ContentTypeUnsupported.of("content-type", repr(bare_type(request.content_type or "")), allowed)
        takes_files = bool(self._stream.files)
        is_xml = takes_files and bare_type(request.content_type or "") in XML_TYPES
        content_type = CSV if is_xml else content_type_of(request.content_type)
        known = request.args.get("known", "end")
        if known not in ("end", "published"):
            raise PayloadInvalid(f"known: got {known[:80]!r}, allowed end or published")
        options = _options() if self._stream.files else NOTHING_SAID
        body = read_body(gzip=takes_files and content_type == CSV)
        if request.headers.get("Content-Encoding", "").strip().lower() == "gzip" and not body.startswith(GZIP):
            raise PayloadInvalid.of("body", "bytes that are no gzip", "gzip, as Content-Encoding says")
        return self._claimed(key, content_type, body, known, options)

    def _claimed(self, key: str, content_type: str, body: bytes, known: str, options: Options) -> Response:
        """Do what is asked, once for each Idempotency-Key."""
        claim = request.headers.get("Idempotency-Key")
        if claim is None:
            rows = self._read(key, content_type, body, known, options)
            self._publish(rows)
            return _response(rows.answer)
        if not IDEMPOTENCY_KEY.fullmatch(claim):
            raise PayloadInvalid(f"Idempotency-Key: got {claim[:80]!r}, allowed 1 to 200 printable ASCII characters")
        return self._once(claim, key, content_type, body, known, options)

    def _read(self, key: str, content_type: str, body: bytes, known: str, options: Options) -> _Read:
        stream, budget = self._stream, self._context.budget
        rows = read_rows(
            stream, body, content_type, key, as_published=known == "published", budget=budget, options=options
        )
        return self._ready(key, rows)

    def _ready(self, key: str, rows: Rows) -> _Read:
        """What goes on the bus, and the answer once it is there."""
        stream = self._stream
        messages = reading_messages(
            stream, rows.batch, key, headers=_trace(), block_rows=self._context.settings.block_rows
        )
        accepted = int(rows.batch.valid.sum())
        document: dict[str, Any] = {
            "accepted": accepted,
            "messages": len(messages),
            "topic": stream.readings.name,
            "key": key,
        }
        if rows.read_as is not None:
            document["read_as"] = rows.read_as
        if rows.rejections:
            response = rejected(_rejected_rows(rows), **document)
        else:
            response = Response(orjson.dumps(document | {"rejected": 0}), 202, content_type=JSON)
        answer = Stored(response.status_code, response.content_type or JSON, response.get_data())
        return _Read(messages, accepted, rows.refused, answer)

    def _publish(self, rows: _Read) -> None:
        self._door.publish(rows.messages)
        self._count(rows)

    def _count(self, rows: _Read) -> None:
        telemetry, name = self._context.telemetry, self._context.service.name
        telemetry.rows.labels(name, "http").inc(rows.accepted)
        for code, count in rows.refused.items():
            telemetry.rejections.labels(name, "http", code).inc(count)

    def _once(self, claim: str, key: str, content_type: str, body: bytes, known: str, options: Options) -> Response:
        parts = (self._path, key, content_type, known, *((repr(options),) if options else ()))
        print_ = fingerprint(*(part.encode() for part in parts), body)
        found = self._answers.begin(claim, print_)
        if isinstance(found, Stored) and found.log not in ("", self._log_id() or found.log):
            self._answers.drop(claim, found.log)
            found = self._answers.begin(claim, print_)
        if isinstance(found, Stored):
            replay = _response(found)
            replay.headers["Idempotent-Replay"] = "true"
            return replay
        if found is Verdict.OTHER_REQUEST:
            detail = f"Idempotency-Key: got {claim!r} with another key, content type or body than before, allowed"
            return problem(422, "Idempotency key reused", f"{detail} a new Idempotency-Key for a new request")
        if found is Verdict.IN_PROGRESS:
            response = problem(409, "Request in progress", f"Idempotency-Key {claim!r}: {found.value}; ask again")
            response.headers["Retry-After"] = "1"
            return response
        try:
            rows = self._read(key, content_type, body, known, options)
            self._publish(rows)
        except DeliveryLate as late:
            late.outcome.add_done_callback(lambda outcome: self._decided(claim, print_, rows, outcome.result()))
            raise
        except BaseException:
            _survive(lambda: self._answers.forget(claim))
            raise
        self._remember(claim, print_, rows)
        return _response(rows.answer)

    def _decided(self, claim: str, print_: str, rows: _Read, is_stored: bool) -> None:
        """The bus has said at last what became of a request that was answered 503; repeats were answered 409."""
        if is_stored:
            self._count(rows)
            self._remember(claim, print_, rows)
        else:
            _survive(lambda: self._answers.forget(claim))

    def _remember(self, claim: str, print_: str, rows: _Read) -> None:
        _survive(lambda: self._answers.finish(claim, print_, replace(rows.answer, log=self._log_id())))

    def _log_id(self) -> str:
        return self._door.log_id(self._stream.readings.name)


class _Confirm(_Post):
    """The same of spans whose values were real."""

    def __init__(self, context: Context, door: _Door, answers: Idempotency, stream: Stream) -> None:
        super().__init__(context, door, answers, stream)
        self._path = f"{stream.path}/confirm"

    def __call__(self, key: str) -> Response:
        if request.mimetype != JSON:
            raise ContentTypeUnsupported.of("content-type", repr(request.mimetype[:80]), JSON)
        return self._claimed(key, JSON, read_body(), "", NOTHING_SAID)

    def _read(self, key: str, content_type: str, body: bytes, known: str, options: Options) -> _Read:
        return self._ready(key, read_confirmation(self._stream, body, key, self._context.budget))


def _rejected_rows(rows: Rows) -> RowsRejected:
    """The error of rows that are refused, and of lines of an export that are in no row."""
    refused = int((~rows.batch.valid).sum()) + rows.unread
    return RowsRejected(rows.rejections, sum(rows.unlisted.values()), refused)


def _response(answer: Stored) -> Response:
    return Response(answer.body, answer.status, content_type=answer.content_type)


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
        self._logs: dict[str, tuple[float, str]] = {}
        self._asked = float("-inf")
        self._refused: tuple[float, str] | None = None  # when the bus did not take messages, and why
        self._reason: str | None = "bus: not asked yet"

    def publish(self, messages: list[Outgoing]) -> None:
        """Publish and return once everything is acknowledged."""
        if messages:
            _, producer = self._connected()
            try:
                producer.publish(messages, timeout=PUBLISH_SECONDS, wait=False)
            except DeliveryLate as late:
                self._refused = time.monotonic(), str(late)
                late.outcome.add_done_callback(lambda outcome: self._taken() if outcome.result() else None)
                raise
            except WritesRefused as refused:
                self._refused = time.monotonic(), str(refused)
                raise
            self._taken()

    def _taken(self) -> None:
        self._refused = None

    def log_id(self, topic: str) -> str:
        """Return the identity of a topic's log as of a moment ago, "" if the bus has not told it."""
        asked, known = self._logs.get(topic, (float("-inf"), ""))
        if time.monotonic() - asked > LOG_SECONDS and self.why_not_ready() is None:
            with contextlib.suppress(BusError):
                known = self._connected()[0].log_id(topic)
                self._logs[topic] = time.monotonic(), known
        return known

    def why_not_ready(self) -> str | None:
        """Return None if the bus takes readings. One thread asks; the others hear the last answer."""
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
        missing = [stream.readings.name for stream in STREAMS if stream.readings.name not in there]
        if missing:
            return f"bus: topic {', '.join(missing)} is not on {bus.url}; `kappawatt topics --create` makes it"
        refused = self._refused
        if refused is not None and time.monotonic() - refused[0] < REFUSED_SECONDS:
            return f"bus: {refused[1]}"  # nobody writes to what is not ready: after a while it is tried again
        try:
            reason = bus.why_not_writable([stream.readings.name for stream in STREAMS])
        except BusError as error:
            return f"bus: {error}"
        return None if reason is None else f"bus: {reason}"

    def _connected(self) -> tuple[Bus, Producer]:
        with self._lock:
            if self._bus is None or self._producer is None:
                self._bus = connect_as(self._settings)
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
