"""What other systems wrap readings in: CloudEvents, Kafka Connect's `{schema, payload}`, and a schema registry's frame.

A setting says which topic has which; nothing is guessed from what a message looks like. Readings that kappawatt itself
writes say in a header that they have none, so that its ingestor may write to the same topic. What is inside is read as
if it had come alone; an envelope that is broken is a refused message, whose field is the envelope's.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kappawatt.bus.interface import Headers, header
from kappawatt.bus.wrapped_keys import FRAME
from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.blocks import joined
from kappawatt.columns.budget import LISTED_TOGETHER, STANDARD, Budget, said
from kappawatt.columns.bulk_rows import few_refused
from kappawatt.columns.codec import decode, join_messages, read_each
from kappawatt.columns.content import JSON, READABLE, ManyDecoded, bare_type
from kappawatt.columns.json_rows import decode_objects, decode_parsed
from kappawatt.columns.schema import SHORTEST, Schema, nothing, shorten
from kappawatt.columns.strict_json import Repeated, load_json
from kappawatt.errors import PayloadInvalid, PayloadTooLarge, SettingInvalid
from kappawatt.streams.table import STREAMS

__all__ = [
    "BARE",
    "PACKED",
    "check_topics",
    "decode_enveloped",
    "enveloped_kind",
    "is_bare",
    "is_enveloped",
    "packed_in",
]

log = logging.getLogger(__name__)

BARE = ("kappawatt-envelope", b"none")  # the header
OF_ENVELOPE = "application/vnd.kappawatt.envelope."
CONNECT, REGISTRY = f"{OF_ENVELOPE}connect", f"{OF_ENVELOPE}registry"
EVENT, EVENTS = "application/cloudevents+json", "application/cloudevents-batch+json"
BROKEN_EVENT = f"{OF_ENVELOPE}cloudevents;missing="  # and the header that is not there
OTHER_EVENT = f"{OF_ENVELOPE}cloudevents;specversion="  # and the version of the specification that nobody reads
VERSION_1 = "1."  # of the specification: 1.0, and what is compatible with it
ATTRIBUTES = ("specversion", "id", "source", "type")  # that every event has
PACKED = re.compile(rb"(?i)base64|csv|\\u")  # stands in each event whose rows do not show in its text
KEPT = STANDARD.unpacked * 2 // 3  # bytes that rows of a message's events take together; the rest is the next one's
AN_EVENT = 2_048  # bytes that rows take beside their columns, if they are read alone


def check_topics(envelopes: Mapping[str, str]) -> None:
    """Raise SettingInvalid if a topic that is said to have an envelope holds no readings: nobody would open it."""
    allowed = [stream.readings.name for stream in STREAMS]
    for topic in envelopes:
        if topic not in allowed:
            raise SettingInvalid.of("KAPPAWATT_ENVELOPES: topic", repr(topic[:80]), ", ".join(allowed))


def enveloped_kind(envelope: str, headers: Headers) -> str | None:
    """Return the kind of message that `decode_enveloped` opens; None where the whole value is readings: of a message
    that says so, and of a binary event.

    References
    ----------
    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
    """
    if is_bare(headers):
        return None
    if envelope != "cloudevents":
        return f"{OF_ENVELOPE}{envelope}"
    named = bare_type((header(headers, "content-type") or b"").decode("latin-1"))
    if named in (EVENT, EVENTS):
        return named
    for name in ATTRIBUTES:
        if not header(headers, f"ce_{name}"):
            return f"{BROKEN_EVENT}{name}"
    version = (header(headers, "ce_specversion") or b"")[:SHORTEST].decode("latin-1")
    if not version.startswith(VERSION_1):
        return f"{OTHER_EVENT}{version}"
    return JSON if _is_json(named) else None


def _is_json(kind: str) -> bool:
    """Whether a content type declares JSON, as the specification of CloudEvents has it: json or +json behind the slash.

    References
    ----------
    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md#31-handling-of-data
    """
    subtype = kind.partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def is_bare(headers: Headers) -> bool:
    """Whether a message says that it has no envelope, whatever the others on its topic have."""
    return header(headers, BARE[0]) == BARE[1]


def is_enveloped(kind: str) -> bool:
    """Whether a kind of message is opened by `decode_enveloped`."""
    return kind.startswith(OF_ENVELOPE) or kind in (EVENT, EVENTS)


def decode_enveloped(values: Sequence[bytes], kind: str, schema: Schema) -> ManyDecoded:
    """Open and decode messages of one kind."""
    opened = [_open(value, kind) for value in values]
    rows = _rows(opened, schema)
    if rows is not None:
        every = np.arange(len(values), dtype=np.intp)
        return ManyDecoded(rows, every, np.zeros(len(values), dtype=np.intp))
    both = zip(opened, values, strict=True)
    return join_messages(read_each(both, lambda one, budget: _batch(*one, schema, budget), STANDARD), schema)


def packed_in(value: bytes, headers: Headers) -> Iterator[bytes]:
    """Yield what stands in a message's CloudEvents as base64 or text, opened; nothing if it cannot be."""
    kind = bare_type((header(headers, "content-type") or b"").decode("latin-1"))
    opened = _open(value, kind) if kind in (EVENT, EVENTS) else None
    for found in opened if isinstance(opened, _Events) else [opened]:
        if isinstance(found, _Data):
            yield found[0]


def _rows(opened: Sequence[Any], schema: Schema) -> Batch | None:
    """All messages at once, where each is one row; None if they have to be looked at one by one."""
    if not _are_plain(opened):
        return None
    try:
        return few_refused(decode_objects(opened, schema, listed=LISTED_TOGETHER))
    except MemoryError:
        raise
    except Exception:  # one by one it shows which of them it is
        return None


def _are_plain(opened: Sequence[Any]) -> bool:
    """Whether each is a row of parsed JSON."""
    return all(type(found) is dict and found.keys() != {"columns"} for found in opened)


def _open(value: bytes, kind: str) -> Any:
    """Return what is inside: JSON that is parsed, `_Data`, a list of both (`_Events`), or why there is nothing."""
    if kind.startswith(BROKEN_EVENT):
        name = kind.removeprefix(BROKEN_EVENT)
        return Rejection(0, "missing_field", f"ce_{name}", None, "this header of a CloudEvent, or a structured one")
    if kind.startswith(OTHER_EVENT):
        return Rejection(0, "malformed", "ce_specversion", kind.removeprefix(OTHER_EVENT), "1.0")
    try:
        if kind == REGISTRY:
            if value[:1] != b"\0" or len(value) < FRAME:
                raise PayloadInvalid.of("frame", repr(value[:FRAME]), "a zero byte, a schema's id in four, then JSON")
            return load_json(value[FRAME:])
        parsed = load_json(value)
        if kind == CONNECT:
            return _payload(parsed)
        if kind == EVENT:
            return _event(parsed)
        if not isinstance(parsed, list) or not parsed:
            raise PayloadInvalid.of("body", repr(shorten(parsed)), "a list of CloudEvents")
        return _Events(_event(each) for each in parsed)
    except PayloadInvalid as error:
        return Rejection.of(0, "malformed", error)


class _Data(tuple[bytes, str]):
    """Bytes inside an event, and their content type."""


class _Events(list[Any]):
    """What is inside the events of a batch."""


def _payload(parsed: Any) -> Any:
    """Return the payload of a message of Kafka Connect's JsonConverter (`schemas.enable`)."""
    if isinstance(parsed, Repeated):
        return _repeated(parsed)
    if not isinstance(parsed, Mapping):
        raise PayloadInvalid.of("body", repr(shorten(parsed)), '{"schema": ..., "payload": ...}')
    for name in ("schema", "payload"):
        if name not in parsed:
            raise PayloadInvalid.of(name, "nothing", '{"schema": ..., "payload": ...}')
    unknown = parsed.keys() - {"schema", "payload"}
    if unknown:
        raise PayloadInvalid.of(min(unknown)[:SHORTEST], "a field", '{"schema": ..., "payload": ...} and no other')
    if not isinstance(parsed["payload"], dict | list):
        raise PayloadInvalid.of("payload", repr(shorten(parsed["payload"])), "an object or a list of objects")
    return parsed["payload"]


def _event(parsed: Any) -> Any:
    """Return the data of a CloudEvent in JSON format, where null is absent."""
    if isinstance(parsed, Repeated):
        return _repeated(parsed)
    if not isinstance(parsed, Mapping):
        raise PayloadInvalid.of("body", repr(shorten(parsed)), "a CloudEvent")
    for name in ATTRIBUTES:
        if not isinstance(parsed.get(name), str) or not parsed[name]:
            raise PayloadInvalid.of(name, repr(shorten(parsed.get(name))), f"text: the {name} of a CloudEvent")
    if not parsed["specversion"].startswith(VERSION_1):
        raise PayloadInvalid.of("specversion", repr(shorten(parsed["specversion"])), "1.0")
    given = parsed.get("datacontenttype")
    kind = JSON if given is None else bare_type(given) if isinstance(given, str) else ""
    kind = JSON if _is_json(kind) else kind
    if kind not in READABLE:
        raise PayloadInvalid.of("datacontenttype", repr(shorten(given)), ", ".join((*READABLE, "application/*+json")))
    if parsed.get("data_base64") is not None:
        try:
            return _Data((base64.b64decode(parsed["data_base64"], validate=True), kind))
        except (binascii.Error, TypeError, ValueError):
            got = repr(shorten(parsed["data_base64"]))
            raise PayloadInvalid.of("data_base64", got, "base64 (RFC 4648)") from None
    data = parsed.get("data")
    if isinstance(data, str) and kind != JSON:
        return _Data((data.encode(), kind))
    if not isinstance(data, dict | list) or kind != JSON:
        raise PayloadInvalid.of("data", repr(shorten(data)), f"rows as {kind}")
    return data


def _repeated(parsed: Repeated) -> Rejection:
    return Rejection(0, "duplicate_field", parsed.key[:SHORTEST], "this field twice", "each field once")


def _batch(found: Any, value: bytes, schema: Schema, budget: Budget) -> Batch:
    try:
        if isinstance(found, Rejection):
            return _refused(schema, found.code, found.field, found.got, found.allowed)
        if isinstance(found, _Events):
            return _together(found, value, schema, budget)
        if isinstance(found, _Data):
            return decode(*found, schema, budget).batch
        return decode_parsed(found, schema, budget).batch
    except PayloadInvalid as error:
        allowed = f"rows of {schema.name} in an envelope ({str(error)[:400]})"
        return _refused(schema, "malformed", error.field, value[:SHORTEST], allowed)
    except MemoryError:
        raise
    except Exception as error:  # a message that nobody thought of is refused, and ends nobody who reads it
        log.exception("an envelope cannot be read", extra={"bytes": len(value)})
        allowed = f"rows that can be read (could not be read: {type(error).__name__}: {str(error)[:400]})"
        return _refused(schema, "internal", None, value[:SHORTEST], allowed)


def _together(events: _Events, value: bytes, schema: Schema, budget: Budget) -> Batch:
    """The rows of all events of a message, which have the budget of one.

    Raises
    ------
    PayloadTooLarge
        They are too many, or would take more memory.
    """
    if _are_plain(events):
        return decode_objects(events, schema, budget)
    batches: list[Batch] = []
    rows = kept = 0
    for found in events:
        batch = _batch(found, value, schema, budget)
        rows += len(batch)
        budget.allow_rows(rows)
        kept += _size(batch)
        if kept > KEPT:
            raise PayloadTooLarge.of("body", f"events whose rows take {said(kept)} or more", said(KEPT))
        batches.append(batch)
    return joined(batches, schema, budget.listed)


def _size(batch: Batch) -> int:
    """Bytes that rows take while other events are read."""
    columns = batch.columns.values()
    texts = {text for column in columns if column.dtype == object for text in column.tolist()}
    return AN_EVENT + sum(column.nbytes for column in columns) + sum(map(sys.getsizeof, texts))


def _refused(schema: Schema, code: str, field: str | None, got: Any, allowed: str) -> Batch:
    """One row that is refused for this reason alone: its fields are not missing, they were not read."""
    columns = {f.name: nothing(f, 1) for f in schema.fields}
    rejection = Rejection(0, code, None if field is None else field[:SHORTEST], shorten(got), allowed)
    return Batch(columns, np.zeros(1, dtype=np.bool_), (rejection,))
