"""Which topic and model version serve a stream of predictions now, and how a replay takes over.

Each output topic has a consumer group of its own. A promotion first commits, for the group of the new topic,
the offsets up to which the replay has answered; workers that follow join that group and go on from there. What
the old group answered beyond them is answered once more, into the new topic, so that it has no gap, whoever
crashes when.

The topic `kappawatt.streams` is compacted and has one message for each stream that was ever promoted. A
stream without one is served by the topic of its own name and the current model version.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kappawatt.bus.interface import Bus, Consumer, Outgoing, Records, left_to_read
from kappawatt.bus.topic import TOPIC_NAME, Topic
from kappawatt.columns.schema import shorten
from kappawatt.columns.strict_json import load_document
from kappawatt.errors import LogRenewed, PayloadInvalid, TopicUnknown

__all__ = ["PROMOTIONS", "PromotionFollower", "Serving", "group_of", "promote"]

log = logging.getLogger(__name__)

LONGEST = 400  # characters of a version, a reason
PARTITION = re.compile(r"[0-9]{1,9}")

PROMOTIONS = Topic(
    "kappawatt.streams",
    "stream",
    None,
    1,
    None,
    ("replay --promote",),
    ("workers", "gateway", "sink"),
    "which topic and model version currently serve each stream of answers",
)


@dataclass(frozen=True, slots=True)
class Serving:
    """One promotion.

    Parameters
    ----------
    stream : str
        Name of the stream.
    topic : str
        Where its predictions are from now on.
    version : str
        Model version that makes them.
    covered : mapping of int to int
        By source partition, the offset up to which the replay has answered (exclusive).
    reason : str
        Why, for whoever reads the log later.
    promoted_at : int
        ms since the epoch, UTC.
    """

    stream: str
    topic: str
    version: str
    covered: Mapping[int, int]
    reason: str = ""
    promoted_at: int = 0


def group_of(service: str, serving: Serving | None) -> str:
    """Return the consumer group of a service's workers: one for each output topic."""
    return service if serving is None else f"{service}.{serving.topic}"


def promote(bus: Bus, serving: Serving, service: str, source: str) -> None:
    """Make `serving` what readers and workers of its stream follow from now on."""
    bus.commit_for(group_of(service, serving), {(source, p): end for p, end in serving.covered.items()})
    document = {
        "stream": serving.stream,
        "topic": serving.topic,
        "version": serving.version,
        "covered": {str(partition): end for partition, end in serving.covered.items()},
        "reason": serving.reason,
        "promoted_at": serving.promoted_at or time.time_ns() // 1_000_000,
    }
    producer = bus.producer()
    try:
        producer.publish([Outgoing(PROMOTIONS.name, orjson.dumps(document), serving.stream.encode())])
    finally:
        producer.close()


class PromotionFollower:
    """Reads promotions of one stream as they come."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self._bus = bus
        self._stream = stream
        self._reader: Consumer | None = None

    def read(self) -> Serving | None:
        """Return the newest promotion there is now; None if the stream was never promoted."""
        try:
            return self._read()
        except LogRenewed:
            self.close()
            return self._read()
        except TopicUnknown:
            return None

    def _read(self) -> Serving | None:
        newest, reader = None, self._open()
        known = self._bus.offsets(PROMOTIONS.name)
        ends = {(PROMOTIONS.name, p): o.end for p, o in known.items() if o.end > o.begin}
        while left_to_read(reader, ends):
            newest = self._newest(reader.poll(0.5)) or newest
        return newest

    def poll(self) -> Serving | None:
        """Return a promotion that has come since the last call; does not wait."""
        try:
            return self._newest(self._open().poll(0.0))
        except LogRenewed:
            self.close()
            return self.read()
        except TopicUnknown:
            return None

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _open(self) -> Consumer:
        if self._reader is None:
            self._reader = self._bus.reader([PROMOTIONS.name], {})
        return self._reader

    def _newest(self, polled: list[Records]) -> Serving | None:
        newest = None
        for records in polled:
            for i, (key, value) in enumerate(zip(records.keys, records.values, strict=True)):
                if key != self._stream.encode():
                    continue
                try:
                    newest = _parse(value, self._stream)
                except PayloadInvalid as error:  # not written by `promote`: nothing to follow
                    place = {"partition": records.partition, "offset": records.offsets[i], "error": str(error)}
                    log.warning("a promotion that cannot be read is left out", extra={"topic": records.topic, **place})
        return newest


def _parse(value: bytes, stream: str) -> Serving:
    """Return a promotion; PayloadInvalid if it is none."""
    document = load_document(value)
    for name, allowed, is_right in (
        ("stream", stream, lambda given: given == stream),
        (
            "topic",
            "a name of 1 to 249 of A-Z a-z 0-9 . _ -",
            lambda given: _is_text(given) and TOPIC_NAME.fullmatch(given),
        ),
        ("version", "text", lambda given: _is_text(given) and given),
        ("covered", "offsets by partition", _are_offsets),
        ("promoted_at", "milliseconds since the epoch", _is_offset),
        ("reason", "text", lambda given: given is None or _is_text(given)),
    ):
        given = document.get(name)
        if not is_right(given):
            raise PayloadInvalid.of(name, repr(shorten(given)), allowed)
    covered = {int(partition): end for partition, end in document["covered"].items()}
    reason = document.get("reason") or ""
    return Serving(stream, document["topic"], document["version"], covered, reason, document["promoted_at"])


def _is_text(given: Any) -> bool:
    return isinstance(given, str) and len(given) <= LONGEST


def _is_offset(given: Any) -> bool:
    return type(given) is int and 0 <= given < 2**63


def _are_offsets(given: Any) -> bool:
    return isinstance(given, dict) and all(map(PARTITION.fullmatch, given)) and all(map(_is_offset, given.values()))
