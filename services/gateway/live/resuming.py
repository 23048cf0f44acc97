"""The way of a client that resumes by place: nothing is lost and nothing comes twice, also over reconnects. The queue
in memory is only the short way, and whatever it does not hold is read from the bus again.

    Hub -> queue of this client -> rows behind the client's position -> client
                gap in the offsets?  -> bus, from the client's position on, until it meets the queue
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from functools import partial

from kappawatt.bus.interface import Bus, Records, TopicPartition
from kappawatt.bus.reading import read_span
from kappawatt.errors import BusError, SpanIncomplete, TopicUnknown

from .events import Sent, Wanted
from .hub import Hub, Subscription
from .isolating import isolated
from .position import Logs, Place, Position, format_position
from .view import Event, Events, Followed, Reread, encode, slices

__all__ = ["Resumed"]

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
POLL_RECORDS = 50
IDLE_SECONDS = 5.0  # without a message before the place the view has reached: what was there is gone
WAIT_SECONDS = 1.0  # before the bus is asked again
MOST_KEYS = 10_000  # that a sample is taken of by key
BEGIN = Place(0)


class Resumed:
    """The client goes on exactly where it was.

    Parameters
    ----------
    reread : callable
        The view's.
    position : Position or None
        Where the client has read up to; None starts now.
    logs : Logs
        What the position is of, as far as the client says; of topics it does not name, the logs there are.
    """

    def __init__(
        self,
        hub: Hub,
        reread: Reread,
        open_bus: Callable[[], Bus],
        wanted: Wanted,
        position: Position | None,
        logs: Logs,
    ) -> None:
        self._hub = hub
        self._reread = reread
        self._open_bus = open_bus
        self._wanted = wanted
        self._at: dict[TopicPartition, Place] = dict(position or {})
        self._logs = logs
        self._topic: str | None = None  # whose answers it has caught up with
        self._passed: dict[str | None, int] = {}
        self.has_begun = position is not None
        self.subscription = Subscription()
        hub.add(self.subscription)

    @property
    def id(self) -> str:
        """The client's position as text."""
        return format_position(self._at, self._logs)

    def close(self) -> None:
        """Give up the queue."""
        self._hub.remove(self.subscription)

    def follow(self, polled: Sequence[Events], *, lost: bool) -> Generator[Event | Sent | None]:
        """Yield what is behind the client's position, from the queue or, where that has a gap, from the bus."""
        followed, reached, logs = self._hub.standing()
        if followed is None:  # the bus was not reached yet
            return
        if not self.has_begun:
            self._at, self._topic, self.has_begun = reached, followed.topic, True
        self._follow_logs(logs)
        if self._topic != followed.topic:
            yield from self._catch_up(followed, reached)
        for events in polled:
            if events.log != logs.get(events.topic):
                continue  # of a log that was, or one that the next round sees
            if self._topic != followed.topic or events.topic not in (followed.topic, followed.dead):
                return  # the bus is away, or a promotion came in between: the next round sees it
            if self._at.get(events.where, BEGIN) < Place(events.start):
                if self._wanted.rate:  # a client that asked for a sample goes on here
                    self._at[events.where] = Place(events.start)
                else:
                    now, reached, logs_now = self._hub.standing()
                    if now is None or now.topic != followed.topic or logs_now != logs:
                        return
                    yield from self._catch_up(now, reached)
                    if self._topic != followed.topic:
                        return
            yield from self._rows(events, followed)

    def _follow_logs(self, logs: Logs) -> None:
        """Of a topic that was made again the client has seen nothing yet."""
        renewed = {topic for topic, log in logs.items() if self._logs.get(topic, log) != log}
        if renewed:
            self._at = {where: place for where, place in self._at.items() if where[0] not in renewed}
            self._topic = None
        self._logs = {**self._logs, **logs}

    # --- from the bus ---------------------------------------------------------------------------------------

    def _catch_up(self, followed: Followed, goal: Position) -> Generator[Event | Sent | None]:
        """Read from the bus what lies between the client's position and the view's."""
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
            self.subscription.closed.wait(WAIT_SECONDS)
            self._topic = None  # try again

    def _come_back(self, bus: Bus, goal: Position) -> None:
        """A position beyond the end is one of a bus that was set up anew: go on at the end there is."""
        for where, place in goal.items():
            if self._at.get(where, place).offset > place.offset:
                self._at[where] = min(self._at[where], Place(bus.offsets(where[0])[where[1]].end))

    def _finish_former(self, bus: Bus, topic: str, followed: Followed) -> Generator[Event | Sent | None]:
        """First what the topic that served before a promotion still holds for the client."""
        try:
            ends = {(topic, p): Place(o.end) for p, o in bus.offsets(topic).items()}
        except TopicUnknown:
            return
        yield from self._read_up_to(bus, ends, followed)

    def _read_up_to(self, bus: Bus, goal: Position, followed: Followed) -> Generator[Event | Sent | None]:
        missed = {w: place for w, place in goal.items() if self._at.get(w, BEGIN) < place}
        for (topic, partition), place in missed.items():
            known = bus.offsets(topic)[partition]
            first = self._at.get((topic, partition), BEGIN).offset
            if first < known.begin:
                self._at[topic, partition] = Place(known.begin)
                if first and known.begin <= place.offset:
                    gone = {"topic": topic, "partition": partition, "from": first, "to": known.begin}
                    yield "gap", encode(gone)
        span = read_span(
            bus,
            sorted({topic for topic, _ in missed}),
            {where: self._at.get(where, BEGIN).offset for where in missed},
            {where: place.offset for where, place in missed.items()},
            max_records=POLL_RECORDS,
            poll_seconds=POLL_SECONDS,
            idle_seconds=IDLE_SECONDS,
        )
        try:
            for polled in span:
                yield None
                for records in polled:
                    for part in slices(records):
                        start = self._at.get((part.topic, part.partition), BEGIN).offset
                        for events in isolated(partial(self._reread_for, followed), part, start):
                            yield from self._rows(events, followed)
        except SpanIncomplete:
            log.warning("what was to be caught up with is gone", extra={"topics": sorted({t for t, _ in missed})})
        finally:
            span.close()
        for where, place in missed.items():
            self._at[where] = max(self._at.get(where, BEGIN), place)

    def _reread_for(self, followed: Followed, records: Records, start: int) -> Events:
        return self._reread(records, start, followed)

    # --- to the client --------------------------------------------------------------------------------------

    def _rows(self, events: Events, followed: Followed) -> Generator[Event | Sent | None]:
        at = self._at.get(events.where, BEGIN)
        if at >= Place(events.end):
            return
        for event in events.events:
            if event.at < at or not self._wants(event, events.topic, followed):
                continue
            self._at[events.where] = event.next
            yield event
        self._at[events.where] = Place(events.end)

    def _wants(self, event: Event, topic: str, followed: Followed) -> bool:
        if self._wanted.key is not None and (event.key or "") != self._wanted.key:
            return False
        if topic == followed.dead:
            return True
        if not followed.is_streamed_on(topic, event.document):
            return False
        if self._wanted.rate:
            published = event.document["published"]
            if published - self._passed.get(event.key, 0) < 1000 / self._wanted.rate:
                return False
            if len(self._passed) > MOST_KEYS:
                self._passed.clear()
            self._passed[event.key] = published
        return True
