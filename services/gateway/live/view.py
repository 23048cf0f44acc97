"""What a view of a stream is: what it reads, what it keeps, and what it hands on to those who look.

bus -> Follower -> View.take(records) -> Events -> Hub -> clients
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import orjson

from kappawatt.bus.interface import Records, TopicPartition
from kappawatt.bus.promotions import Serving, group_of
from kappawatt.columns.strict_json import dump_json
from kappawatt.streams.stream import Stream

from .position import Place

__all__ = ["PROBES", "Event", "Events", "Followed", "KnownIds", "Reread", "Span", "View", "encode", "slices"]

PROBES = "kappawatt-doctor"  # keys of what `kappawatt doctor` sends through begin so; they are nobody's
KNOWN_IDS = 50_000
DECODED_BYTES = 1 << 20  # of messages that are decoded at once; a row takes some 60 bytes there and 1 kB here


def encode(document: Any) -> bytes:
    """Return JSON; arrays are lists, NaN is null, instants are UTC with a Z."""
    return dump_json(document, orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)


@dataclass(frozen=True, slots=True)
class Span:
    """How much of a topic is read.

    Parameters
    ----------
    messages : int
        Before the end, at start and after falling behind, over all partitions.
    most_behind : float
        Rows behind that are too many: a view of the newest values skips rather than fall further behind.
    """

    messages: int
    most_behind: float


@dataclass(frozen=True, slots=True)
class Followed:
    """Where the answers of a stream come from now.

    Parameters
    ----------
    stream : Stream
    serving : Serving or None
        The replay that was promoted; None is the stream's own topic.
    start : mapping of int to int
        Of a promoted topic: by partition, where the first answers after the promotion may be.
    """

    stream: Stream
    serving: Serving | None = None
    start: Mapping[int, int] = field(default_factory=dict)

    @property
    def topic(self) -> str:
        """The stream's own topic, or the one a replay was promoted to."""
        return self.stream.answers.name if self.serving is None else self.serving.topic

    @property
    def dead(self) -> str:
        """Topic of refused readings."""
        return self.stream.dead.name

    @property
    def group(self) -> str:
        """Consumer group of the workers that write `topic`."""
        return group_of(self.stream.service, self.serving)

    def is_covered(self, answer: Mapping[str, Any]) -> bool:
        """Whether the promoted replay had answered the same reading when it was promoted."""
        if self.serving is None:
            return False
        end = self.serving.covered.get(answer.get("source_partition", -1))
        offset = answer.get("source_offset")
        return end is not None and isinstance(offset, int) and offset < end

    def is_streamed_on(self, topic: str, answer: Mapping[str, Any]) -> bool:
        """Whether clients are sent this answer of `topic`, so that over a promotion each reading comes once: from
        the former topic if it was answered there and the replay had it too, else from the promoted one. What the
        replay answered before it was promoted was streamed from the former topic already.
        """
        if self.serving is None:
            return True
        if topic == self.topic:
            return not (self.is_covered(answer) and answer["published"] <= self.serving.promoted_at)
        return self.is_covered(answer)


@dataclass(slots=True)
class Event:
    """One row on its way to clients; `next` is the place to read on behind it, and only some count for a limit."""

    kind: str
    key: str | None
    at: Place
    next: Place
    document: Mapping[str, Any]
    is_counted: bool = True
    _body: bytes | None = None

    @property
    def body(self) -> bytes:
        """The document as JSON, encoded once for all clients."""
        if self._body is None:
            self._body = encode(self.document)
        return self._body


@dataclass(frozen=True)
class Events:
    """Everything between two offsets of one partition that those who look may want.

    Parameters
    ----------
    start, end : int
        Nothing between these offsets is missing, whether or not it was an event.
    documents : list of dict
        In offset order, with `key`.
    offsets : list of int
        Of the message each document came in.
    rows : int
        How many rows there were, whether or not they are events.
    are_counted : bool
        Whether they count for the limit that a client may set.
    log : str
        Of the topic.
    """

    topic: str
    partition: int
    start: int
    end: int
    kind: str
    documents: list[Mapping[str, Any]]
    offsets: list[int]
    rows: int = 0
    are_counted: bool = True
    log: str = ""
    made: list[Event] | None = None  # events that are shared with whoever has more of them

    @property
    def where(self) -> TopicPartition:
        """Topic and partition."""
        return self.topic, self.partition

    def only(self, wants: Callable[[Event], bool]) -> Events:
        """Return the events that somebody wants; all of them if there is nobody else."""
        places = [i for i, event in enumerate(self.events) if wants(event)]
        if len(places) == len(self.events):
            return self
        return replace(
            self,
            documents=[self.documents[i] for i in places],
            offsets=[self.offsets[i] for i in places],
            made=[self.events[i] for i in places],
        )

    @cached_property
    def events(self) -> list[Event]:
        """One event for each document, made when somebody looks."""
        if self.made is not None:
            return self.made
        events = []
        row = 0
        last = len(self.offsets) - 1
        for i, (offset, document) in enumerate(zip(self.offsets, self.documents, strict=True)):
            behind = Place(offset, row + 1) if i < last and self.offsets[i + 1] == offset else Place(offset + 1)
            events.append(Event(self.kind, document.get("key"), Place(offset, row), behind, document, self.are_counted))
            row = behind.row
        return events


class KnownIds:
    """The newest ids there were: what is published twice (after a crash, in a replay) has its id twice and counts once.

    Parameters
    ----------
    most : int
        How many are remembered.
    """

    def __init__(self, most: int = KNOWN_IDS) -> None:
        self._most = most
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def has(self, identity: str) -> bool:
        """Whether an id was seen before; from now on it was."""
        if identity in self._ids:
            return True
        self._ids[identity] = None
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)
        return False


Reread = Callable[[Records, int, Followed], Events]
"""Records that were polled from an offset on, to what they hold for a client that missed them."""


class View(Protocol):
    """The newest values of one stream and how well it goes. Bounded; no input, no output, no thread.

    One is made for each stream of `STREAMS`, by the form of its answers or by `Stream.view.opens`: a callable that
    gets the stream and the `Rejections` of all streams.
    """

    stream: Stream

    @property
    def topics(self) -> Mapping[str, Span]:
        """What is read; of the answers' own topic also where a promotion has taken them."""
        ...

    @property
    def most_records(self) -> int:
        """Messages of one poll."""
        ...

    @property
    def reread(self) -> Reread | None:
        """How a client reads again from the bus what it missed; None if it looks at the state again instead."""
        ...

    def follow(self, followed: Followed) -> None:
        """Note where answers come from from now on."""
        ...

    def take(self, records: Records, start: int) -> Events:
        """Keep what matters of records that were polled from an offset on, and return what is news to clients."""
        ...

    def summary(self) -> dict[str, Any]:
        """Return how well it goes."""
        ...


def slices(records: Records) -> Iterator[Records]:
    """Yield `records` in slices that fit into memory once decoded, however large the blocks in them are."""
    first = size = 0
    for i, value in enumerate(records.values):
        if size and size + len(value) > DECODED_BYTES:
            yield records.pick(range(first, i))
            first, size = i, 0
        size += len(value)
    yield records.pick(range(first, len(records))) if first else records
