"""What one poll brought of one partition, as events that can be sent: predictions and rejections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from kappawatt.bus.interface import Records, TopicPartition
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.predictions import read_predictions

from .position import Place

__all__ = ["PREDICTION", "REJECTION", "Event", "Followed", "Portion", "read_portion", "slices"]

PREDICTION = "prediction"
REJECTION = "rejection"
DECODED_BYTES = 1 << 20  # of messages that are decoded at once; a row takes some 60 bytes there and 1 kB here


@dataclass(frozen=True, slots=True)
class Followed:
    """Which topics are read now.

    Parameters
    ----------
    stream : str
        Name of the stream of predictions.
    topic : str
        Where its predictions are now: the stream's own topic, or the one a replay was promoted to.
    source : str
        Topic of the readings that predictions answer; documents about anything else are left out.
    dead : str
        Topic of refused readings.
    covered : mapping of int to int
        Of a promoted topic: by source partition, up to where the replay answered (exclusive). What it
        answered was streamed from the former topic already.
    start : mapping of int to int
        Of a promoted topic: by partition, where the first answers after the promotion may be.
    group : str
        Consumer group of the workers that write `topic`.
    version : str
        Model version that was promoted.
    promoted_at : int
        ms since the epoch; 0 if nothing was promoted.
    reason : str
    """

    stream: str
    topic: str
    source: str
    dead: str
    covered: Mapping[int, int] = field(default_factory=dict)
    start: Mapping[int, int] = field(default_factory=dict)
    group: str = ""
    version: str = ""
    promoted_at: int = 0
    reason: str = ""

    def is_covered(self, prediction: Mapping[str, Any]) -> bool:
        """Whether the promoted replay had answered the same reading when it was promoted."""
        end = self.covered.get(prediction.get("source_partition", -1))
        offset = prediction.get("source_offset")
        return end is not None and isinstance(offset, int) and offset < end

    def is_streamed_on(self, topic: str, prediction: Mapping[str, Any]) -> bool:
        """Whether clients are sent this prediction of `topic`, so that over a promotion each reading comes
        once: from the former topic if it was answered there and the replay had it too, else from the promoted
        one.
        """
        if not self.promoted_at:
            return True
        if topic == self.topic:
            return not (self.is_covered(prediction) and prediction["published"] <= self.promoted_at)
        return self.is_covered(prediction)


@dataclass(slots=True)
class Event:
    """One row on its way to clients; `next` is the place to read on behind it."""

    kind: str
    key: str | None
    at: Place
    next: Place
    document: dict[str, Any]
    _body: bytes | None = None

    @property
    def body(self) -> bytes:
        """The document as JSON, encoded once for all clients."""
        if self._body is None:
            self._body = orjson.dumps(self.document)
        return self._body


@dataclass(frozen=True)
class Portion:
    """Everything between two offsets of one partition.

    Parameters
    ----------
    start, end : int
        Nothing between these offsets is missing, whether or not it was an event.
    documents : list of dict
        In offset order; predictions carry the offset of their message, rejections that of their dead letter.
    """

    topic: str
    partition: int
    start: int
    end: int
    kind: str
    documents: list[dict[str, Any]]
    offsets: list[int]

    @property
    def where(self) -> TopicPartition:
        """Topic and partition."""
        return self.topic, self.partition

    @cached_property
    def events(self) -> list[Event]:
        """One event for each document."""
        events = []
        row = 0
        last = len(self.offsets) - 1
        for i, (offset, document) in enumerate(zip(self.offsets, self.documents, strict=True)):
            behind = Place(offset, row + 1) if i < last and self.offsets[i + 1] == offset else Place(offset + 1)
            events.append(Event(self.kind, document.get("key"), Place(offset, row), behind, document))
            row = behind.row
        return events


def read_portion(records: Records, start: int, followed: Followed) -> Portion:
    """Return what `records`, polled from `start` on, hold for `followed`."""
    if records.topic == followed.dead:
        letters, offsets = [], []
        for i, offset in enumerate(records.offsets):
            for letter in read_dead_letters([_slice(records, i, i + 1)]):
                letters.append(letter)
                offsets.append(offset)
        return Portion(records.topic, records.partition, start, records.next_offset, REJECTION, letters, offsets)
    found = [p for p in read_predictions([records]) if p.get("source_topic") == followed.source]
    places = [prediction["offset"] for prediction in found]
    return Portion(records.topic, records.partition, start, records.next_offset, PREDICTION, found, places)


def slices(records: Records) -> Iterator[Records]:
    """Yield `records` in slices that fit into memory once decoded, however large the blocks in them are."""
    first = size = 0
    for i, value in enumerate(records.values):
        if size and size + len(value) > DECODED_BYTES:
            yield _slice(records, first, i)
            first, size = i, 0
        size += len(value)
    yield _slice(records, first, len(records))


def _slice(records: Records, first: int, last: int) -> Records:
    cut = slice(first, last)
    return Records(
        records.topic,
        records.partition,
        records.offsets[cut],
        records.timestamps[cut],
        records.keys[cut],
        records.values[cut],
        records.headers[cut],
    )
