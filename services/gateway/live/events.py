"""`GET /api/stream`: server-sent events. Nothing is lost and nothing comes twice, also over reconnects: the
queue in memory is only the short way, and whatever it does not hold is read from the bus again.

    follower -> Hub -> queue of this client -> rows behind the client's position -> client
                        gap in the offsets?  -> bus, from the client's position on, until it meets the queue
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import orjson

from kappawatt.bus.interface import Bus, TopicPartition
from kappawatt.errors import BusError, TopicUnknown

from .hub import Hub
from .portion import PREDICTION, Event, Followed, Portion, read_portion, slices
from .position import Place, Position, format_position

__all__ = ["ClientStream", "Wanted"]

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
SUMMARY_SECONDS = 2.0
RETRY_MS = 2_000  # how long a browser waits before it reconnects
POLL_SECONDS = 0.25
POLL_RECORDS = 50
IDLE_SECONDS = 5.0  # without a message before the place the view has reached: what was there is gone


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asked for.

    Parameters
    ----------
    key : str or None
        Only events of this key; None is all.
    rate : float
        Most predictions of a key and second, for eyes; 0 is every one.
    limit : int
        End after so many predictions and rejections; 0 never.
    """

    key: str | None = None
    rate: float = 0.0
    limit: int = 0


class ClientStream:
    """What one client is sent.

    Parameters
    ----------
    position : Position or None
        Where the client has read up to; None starts now.
    summary : callable
        Returns the document of `summary` events.
    """

    def __init__(
        self,
        hub: Hub,
        open_bus: Callable[[], Bus],
        wanted: Wanted,
        position: Position | None,
        summary: Callable[[], dict[str, object]],
    ) -> None:
        self._hub = hub
        self._open_bus = open_bus
        self._wanted = wanted
        self._summary = summary
        self._subscription = hub.subscribe()
        self._at: dict[TopicPartition, Place] | None = None if position is None else dict(position)
        self._topic: str | None = None
        self._sent = 0
        self._passed: dict[str | None, int] = {}
        self._next_summary = 0.0
        self._last_byte = time.monotonic()

    def close(self) -> None:
        """Give up the queue."""
        self._hub.unsubscribe(self._subscription)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            yield from self._events()
        finally:
            self.close()

    @property
    def _is_done(self) -> bool:
        return self._hub.closed.is_set() or (0 < self._wanted.limit <= self._sent)

    def _events(self) -> Iterator[bytes]:
        behind = True
        while not self._is_done:
            yield from self._signs_of_life()
            followed = self._hub.followed
            if followed is None:  # the bus was not reached yet
                self._hub.closed.wait(POLL_SECONDS)
                continue
            if self._at is None:
                self._at = self._hub.position()
                self._topic = followed.topic
                behind = False
            if behind or self._topic != followed.topic:
                yield from self._catch_up(followed)
                behind = False
                continue
            for portion in self._subscription.take(self._patience()):
                if portion.topic not in (followed.topic, followed.dead):
                    break  # a promotion came in between; the next round sees it
                if self._gap_before(portion):
                    behind = not self._jump(portion)
                    if behind:
                        break
                yield from self._rows(portion, followed)
                if self._is_done:
                    return

    def _gap_before(self, portion: Portion) -> bool:
        assert self._at is not None
        return self._at.get(portion.where, Place(0)) < Place(portion.start)

    def _jump(self, portion: Portion) -> bool:
        """A client that asked for a sample is not sent what it missed, and goes on here."""
        assert self._at is not None
        if self._wanted.rate:
            self._at[portion.where] = Place(portion.start)
        return bool(self._wanted.rate)

    # --- from the bus ---------------------------------------------------------------------------------------

    def _catch_up(self, followed: Followed) -> Iterator[bytes]:
        """Read from the bus what lies between the client's position and the view's."""
        assert self._at is not None
        goal = self._hub.position()
        own = (followed.topic, followed.dead)
        # a position may name partitions that never were; those of followed topics are known here
        self._at = {where: place for where, place in self._at.items() if where in goal or where[0] not in own}
        former = {topic for topic, _ in self._at} - set(own)
        if not former and all(self._at.get(where) == place for where, place in goal.items()):
            self._topic = followed.topic
            return
        try:
            bus = self._open_bus()
            try:
                for topic in sorted(former):
                    yield from self._finish_former(bus, topic, followed)
                self._at = {where: place for where, place in self._at.items() if where[0] not in former}
                if former:
                    for partition, offset in followed.start.items():
                        self._at.setdefault((followed.topic, partition), Place(offset))
                self._topic = followed.topic
                self._come_back(bus, goal)
                yield from self._read_up_to(bus, goal, followed)
            finally:
                bus.close()
        except BusError as error:
            log.warning("cannot catch up yet", extra={"error": str(error)})
            self._hub.closed.wait(1.0)
            self._topic = None  # try again

    def _come_back(self, bus: Bus, goal: Position) -> None:
        """A position beyond the end is one of a bus that was set up anew: go on at the end there is."""
        assert self._at is not None
        for where, place in goal.items():
            if self._at.get(where, place).offset > place.offset:
                self._at[where] = min(self._at[where], Place(bus.offsets(where[0])[where[1]].end))

    def _finish_former(self, bus: Bus, topic: str, followed: Followed) -> Iterator[bytes]:
        """First what the topic that served before a promotion still holds for the client."""
        try:
            ends = {(topic, p): Place(o.end) for p, o in bus.offsets(topic).items()}
        except TopicUnknown:
            return
        yield from self._read_up_to(bus, ends, followed)

    def _read_up_to(self, bus: Bus, goal: Position, followed: Followed) -> Iterator[bytes]:
        assert self._at is not None
        missed = {w: place for w, place in goal.items() if self._at.get(w, Place(0)) < place}
        if not missed:
            return
        for (topic, partition), place in missed.items():
            known = bus.offsets(topic)[partition]
            if self._at.get((topic, partition), Place(0)).offset < known.begin:
                first = self._at.get((topic, partition), Place(0)).offset
                self._at[topic, partition] = Place(known.begin)
                if first and known.begin <= place.offset:
                    gone = {"topic": topic, "partition": partition, "from": first, "to": known.begin}
                    yield self._format("gap", orjson.dumps(gone))
        topics = sorted({topic for topic, _ in missed})
        start = {w: self._at[w].offset if w in self._at else 0 for w in missed}
        start |= {w: place.offset for w, place in goal.items() if w not in missed}
        reader = bus.reader(topics, start, max_records=POLL_RECORDS)
        try:
            last = time.monotonic()
            while not self._is_done and any(reader.positions().get(w, 0) < missed[w].offset for w in missed):
                yield from self._signs_of_life()
                for records in reader.poll(POLL_SECONDS):
                    last = time.monotonic()
                    where = (records.topic, records.partition)
                    for part in slices(records) if where in missed else ():
                        at = self._at.get(where, Place(0))
                        yield from self._rows(read_portion(part, at.offset, followed), followed)
                if time.monotonic() - last > IDLE_SECONDS:
                    break
        finally:
            reader.close()
        if not self._is_done:
            for where, place in missed.items():
                self._at[where] = max(self._at.get(where, Place(0)), place)

    # --- to the client --------------------------------------------------------------------------------------

    def _rows(self, portion: Portion, followed: Followed) -> Iterator[bytes]:
        assert self._at is not None
        at = self._at.get(portion.where, Place(0))
        if at >= Place(portion.end):
            return
        for event in portion.events:
            if event.at < at or not self._wants(event, portion, followed):
                continue
            self._at[portion.where] = event.next
            self._sent += 1
            yield self._format(event.kind, event.body)
            if self._is_done:
                return
        self._at[portion.where] = Place(portion.end)

    def _wants(self, event: Event, portion: Portion, followed: Followed) -> bool:
        if self._wanted.key is not None and (event.key or "") != self._wanted.key:
            return False
        if event.kind != PREDICTION:
            return True
        if not followed.is_streamed_on(portion.topic, event.document):
            return False
        if self._wanted.rate:
            published = event.document["published"]
            if published - self._passed.get(event.key, 0) < 1000 / self._wanted.rate:
                return False
            if len(self._passed) > 10_000:
                self._passed.clear()
            self._passed[event.key] = published
        return True

    def _signs_of_life(self) -> Iterator[bytes]:
        now = time.monotonic()
        if now >= self._next_summary and self._at is not None:
            self._next_summary = now + SUMMARY_SECONDS
            yield self._format("summary", orjson.dumps(self._summary()))
        elif now - self._last_byte >= HEARTBEAT_SECONDS:
            self._last_byte = now
            yield b": still here\n\n"

    def _patience(self) -> float:
        return max(0.01, min(SUMMARY_SECONDS, self._next_summary - time.monotonic()))

    def _format(self, kind: str, body: bytes) -> bytes:
        assert self._at is not None
        self._last_byte = time.monotonic()
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (format_position(self._at).encode(), kind.encode(), body)
