"""The thread of a view reads the bus; that of a stream of predictions has one beside it that watches the lag."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kappawatt.bus.interface import Bus, Offsets, Records
from kappawatt.bus.reading import Tail
from kappawatt.bus.retrying import RetryingThread
from kappawatt.errors import TopicUnknown
from kappawatt.streams.stream import Stream
from kappawatt.telemetry import Telemetry

from .hub import Hub
from .isolating import isolated
from .view import Followed, Span, View, slices

__all__ = ["Follower", "LagWatch"]

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
GATHER_SECONDS = 0.02  # eyes do not see the difference, and a poll of many messages is cheaper than many polls
LOOK_SECONDS = 5.0  # between two looks for topics that were missing
LAG_SECONDS = 1.0
SKEW_MS = 5_000  # clocks of the machines that promote and that publish may differ by so much


class Follower(RetryingThread):
    """Reads the topics of a view, its answers wherever promotions take them, and skips rather than fall behind.

    Parameters
    ----------
    open_bus : callable
        Called in the thread, again after each failure.
    """

    def __init__(self, open_bus: Callable[[], Bus], view: View, hub: Hub, telemetry: Telemetry) -> None:
        super().__init__(f"gateway-{view.stream.name}")
        self._open_bus = open_bus
        self._view = view
        self._hub = hub
        self._telemetry = telemetry
        self._stream = view.stream
        self._contacted = threading.Event()
        self._missing: tuple[str, ...] = ()
        self._rows_per_message: dict[str, float] = {}
        self._polled: float | None = None
        self.skipped_messages = 0

    @property
    def topic(self) -> str:
        """Where the answers come from."""
        return (self._hub.followed or Followed(self._stream)).topic

    def why_not_ready(self) -> str | None:
        """Return None once the bus was reached; a page that is old says so itself."""
        if self._contacted.wait(0.5):
            return None
        return f"the bus was not reached yet ({self.failure or 'still trying'})"

    def state(self) -> dict[str, Any]:
        """Return how fresh the view is."""
        return {
            "connected": self.failure is None and self._contacted.is_set(),
            "poll_age_seconds": None if self._polled is None else round(time.monotonic() - self._polled, 3),
            "error": self.failure,
            "missing_topics": list(self._missing),
            "skipped_messages": self.skipped_messages,
        }

    def _run(self) -> None:
        bus = self._open_bus()
        answers = self._stream.answers.name
        try:
            tail = Tail(
                bus,
                answers,
                [topic for topic in self._view.topics if topic != answers],
                start=self._start,
                max_records=self._view.most_records,
                look_seconds=LOOK_SECONDS,
            )
            try:
                self._follow(bus, tail)
                while not self.stopped.is_set():
                    if tail.move():
                        log.info("answers moved", extra={"topic": tail.topic, "missing": tail.missing})
                        self._follow(bus, tail)
                    self._poll(tail)
                    self.failure = None
                    self._polled = time.monotonic()
                    self._telemetry.polled()
            finally:
                tail.close()
        finally:
            bus.close()

    def _follow(self, bus: Bus, tail: Tail) -> None:
        """Say what is read from now on."""
        serving, start = tail.serving, {}
        if serving is not None and serving.topic != self._stream.answers.name and serving.topic not in tail.missing:
            start = bus.offsets_at(serving.topic, max(0, serving.promoted_at - SKEW_MS))
        followed = Followed(self._stream, serving, start)
        self._missing = tail.missing
        self._view.follow(followed)
        self._hub.follow(followed, tail.begun, tail.logs)
        self.failure = None
        self._contacted.set()

    def _span(self, topic: str) -> Span:
        spans = self._view.topics
        return spans.get(topic, spans[self._stream.answers.name])  # a promoted replay has a topic of its own

    def _start(self, topic: str, log: str, offsets: Mapping[int, Offsets]) -> Mapping[int, int]:
        """Where this log was read up to already, else a bounded span before the end."""
        _, read, logs = self._hub.standing()
        if logs.get(topic) != log:
            read = {}
        back = self._span(topic).messages // max(1, len(offsets))
        start = {}
        for partition, known in offsets.items():
            place = read.get((topic, partition))
            at = known.end - back if place is None else place.offset
            start[partition] = min(max(at, known.begin), known.end)
        return start

    def _poll(self, tail: Tail) -> None:
        if tail.waits:
            self.stopped.wait(POLL_SECONDS)
            return
        polled = tail.poll(POLL_SECONDS)
        for records in polled:
            for part in slices(records):
                self._take(part)
        if polled:
            self._skip_if_behind(tail)
        if 0 < sum(map(len, polled)) < self._view.most_records:
            self.stopped.wait(GATHER_SECONDS)

    def _take(self, records: Records) -> None:
        rows = 0
        start = self._hub.offset((records.topic, records.partition))
        for events in isolated(self._view.take, records, start, self._count_failed):
            rows += events.rows
            self._hub.publish(events)
        self._rows_per_message[records.topic] = max(1.0, rows / len(records))

    def _count_failed(self) -> None:
        self._telemetry.rejections.labels(self._telemetry.service, "view", "internal").inc()

    def _skip_if_behind(self, tail: Tail) -> None:
        lag = tail.lag()
        for topic in {topic for topic, _ in lag}:
            behind = {where: n for where, n in lag.items() if where[0] == topic}
            span, rows = self._span(topic), self._rows_per_message.get(topic, 1.0)
            if sum(behind.values()) * rows <= span.most_behind:
                continue
            kept = max(1, int(min(span.messages, span.most_behind / rows / 2) / len(behind)))
            for where, n in behind.items():
                if n > kept:
                    self._hub.move(where, tail.skip(where, n - kept))
                    self.skipped_messages += n - kept


class LagWatch(RetryingThread):
    """Measures, once a second, how far the consumer of readings is behind and how many readings arrive.

    Parameters
    ----------
    stream : Stream
    hub : Hub
        Knows which workers serve now.
    """

    def __init__(self, open_bus: Callable[[], Bus], stream: Stream, hub: Hub) -> None:
        super().__init__(f"gateway-{stream.name}-lag")
        self._open_bus = open_bus
        self._stream = stream
        self._topic = stream.readings.name
        self._hub = hub
        self._ends: tuple[float, int] | None = None
        self._measured: dict[str, Any] = {"messages": None, "by_partition": {}}
        self._rate: float | None = None

    def _group(self) -> str:
        return (self._hub.followed or Followed(self._stream)).group

    def lag(self) -> dict[str, Any]:
        """Return topic, group and the messages between the group's commit and the end; None while unknown."""
        known = self._measured if self.failure is None else {"messages": None, "by_partition": {}}
        return {"group": self._group(), "topic": self._topic, **known}

    def readings_per_second(self) -> float | None:
        """Return how many messages a second arrived lately; None while unknown."""
        return self._rate if self.failure is None else None

    def _run(self) -> None:
        bus = self._open_bus()
        try:
            while not self.stopped.is_set():
                try:
                    self._measure(bus)
                except TopicUnknown:
                    self._measured, self._rate, self._ends = (
                        {"messages": None, "by_partition": {}},
                        None,
                        None,
                    )
                self.failure = None
                self.stopped.wait(LAG_SECONDS)
        finally:
            bus.close()

    def _measure(self, bus: Bus) -> None:
        offsets = bus.offsets(self._topic)
        now, end = time.monotonic(), sum(o.end for o in offsets.values())
        if self._ends is not None:
            before, old = self._ends
            rate = max(0, end - old) / max(now - before, 1e-3)
            self._rate = rate if self._rate is None else 0.7 * self._rate + 0.3 * rate
            self._rate = self._rate if self._rate > 0.05 else 0.0
        self._ends = (now, end)
        committed = bus.committed(self._group(), self._topic)
        if not committed:  # the group never was there, so nothing says where it would start
            self._measured = {"messages": None, "by_partition": {}}
            return
        lag = {p: max(0, o.end - max(committed.get(p, o.begin), o.begin)) for p, o in offsets.items()}
        self._measured = {"messages": sum(lag.values()), "by_partition": {str(p): n for p, n in lag.items()}}
