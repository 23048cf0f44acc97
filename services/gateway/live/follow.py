"""A gateway process has two threads: one reads predictions and rejections, one watches the lag."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kappawatt.bus.interface import Bus, Consumer, Records, TopicPartition
from kappawatt.bus.promotions import Serving, StreamFollower, group_of
from kappawatt.bus.retrying import SurvivingThread
from kappawatt.errors import TopicUnknown
from kappawatt.telemetry import Telemetry

from .hub import Hub
from .portion import PREDICTION, Followed, read_portion, slices
from .predictions import LatestView

__all__ = ["Follower", "LagWatch"]

log = logging.getLogger(__name__)

SPAN = 2_000  # messages before the end that are read at start, over all partitions of a topic
SPAN_ROWS = 20_000  # rows to go back to after falling behind
MOST_ROWS_BEHIND = 50_000  # this is a view of the newest values: rather than fall further behind it skips
POLL_SECONDS = 0.5
POLL_RECORDS = 50  # each may be a block of 10,000 rows
GATHER_SECONDS = 0.02  # eyes do not see the difference, and a poll of many messages is cheaper than many polls
LOOK_SECONDS = 5.0  # between two looks for topics that were missing
LAG_SECONDS = 1.0
SKEW_MS = 5_000  # clocks of the machines that promote and that publish may differ by so much


class Follower(SurvivingThread):
    """Reads the topic that serves the stream, follows promotions, and reads refused readings.

    Parameters
    ----------
    open_bus : callable
        Called in the thread, again after each failure.
    stream, source, dead : str
        Topic names: predictions, the readings they answer, readings that were refused.
    service : str
        Name of the service whose workers write the predictions.
    """

    def __init__(
        self,
        open_bus: Callable[[], Bus],
        view: LatestView,
        hub: Hub,
        telemetry: Telemetry,
        *,
        stream: str,
        source: str,
        dead: str,
        service: str,
        most_rows_behind: int = MOST_ROWS_BEHIND,
    ) -> None:
        super().__init__("gateway-view")
        self._open_bus = open_bus
        self._view = view
        self._hub = hub
        self._telemetry = telemetry
        self._stream = stream
        self._source = source
        self._dead = dead
        self._service = service
        self._most_rows_behind = most_rows_behind
        self._contacted = threading.Event()
        self._missing: tuple[str, ...] = ()
        self._rows_per_message = 1.0
        self.skipped_messages = 0

    def why_not_ready(self) -> str | None:
        """Return None once the bus was reached; a page that is old says so itself."""
        if self._contacted.wait(0.5):
            return None
        return f"the bus was not reached yet ({self.failure or 'still trying'})"

    def state(self) -> dict[str, Any]:
        """Return how fresh the view is."""
        polled = self._telemetry.last_poll
        return {
            "connected": self.failure is None and self._contacted.is_set(),
            "poll_age_seconds": None if polled is None else round(time.monotonic() - polled, 3),
            "error": self.failure,
            "missing_topics": list(self._missing),
            "skipped_messages": self.skipped_messages,
        }

    def _run(self) -> None:
        bus = self._open_bus()
        promotions = StreamFollower(bus, self._stream)
        try:
            serving = promotions.read()
            while not self.stopped.is_set():
                serving = self._read(bus, promotions, self._followed(bus, serving)) or serving
        finally:
            promotions.close()
            bus.close()

    def _followed(self, bus: Bus, serving: Serving | None) -> Followed:
        if serving is None:
            group = group_of(self._service, None)
            return Followed(self._stream, self._stream, self._source, self._dead, group=group)
        start = {}
        if serving.topic != self._stream:
            start = bus.offsets_at(serving.topic, max(0, serving.promoted_at - SKEW_MS))
        return Followed(
            self._stream,
            serving.topic,
            self._source,
            self._dead,
            dict(serving.covered),
            start,
            group_of(self._service, serving),
            serving.version,
            serving.promoted_at,
            serving.reason,
        )

    def _read(self, bus: Bus, promotions: StreamFollower, followed: Followed) -> Serving | None:
        """Read until there is something else to read: a promotion (returned), or a topic that was missing."""
        if self._hub.followed is not None and self._hub.followed.topic != followed.topic:
            self._view.forget_errors()
        known = bus.topics()
        topics = [topic for topic in (followed.topic, self._dead) if topic in known]
        self._missing = tuple(topic for topic in (followed.topic, self._dead) if topic not in known)
        position = {w: at for topic in topics for w, at in self._start(bus, topic, known[topic]).items()}
        self._hub.follow(followed, position)
        reader = bus.reader(topics, position, max_records=POLL_RECORDS) if topics else None
        self.failure = None
        self._contacted.set()
        look = time.monotonic() + LOOK_SECONDS
        try:
            while not self.stopped.is_set():
                promoted = promotions.poll()
                if time.monotonic() > look:
                    look = time.monotonic() + LOOK_SECONDS
                    promoted = promotions.read() or promoted
                    if self._missing and set(self._missing) & set(bus.topics()):
                        return promoted
                if promoted is not None:
                    log.info("stream moved", extra={"topic": promoted.topic, "version": promoted.version})
                    return promoted
                if reader is None:
                    self.stopped.wait(POLL_SECONDS)
                else:
                    self._poll(reader, followed)
                self.failure = None
                self._telemetry.polled()
        finally:
            if reader is not None:
                reader.close()
        return None

    def _start(self, bus: Bus, topic: str, partitions: int) -> Mapping[TopicPartition, int]:
        """Where it was read up to already, else a bounded span before the end."""
        read = self._hub.position()
        start = {}
        for partition, offsets in bus.offsets(topic).items():
            place = read.get((topic, partition))
            at = place.offset if place is not None else offsets.end - SPAN // partitions
            start[topic, partition] = min(max(at, offsets.begin), offsets.end)
        return start

    def _poll(self, reader: Consumer, followed: Followed) -> None:
        polled = reader.poll(POLL_SECONDS)
        for records in polled:
            for part in slices(records):
                self._take(part, followed)
        if polled:
            self._skip_if_behind(reader, followed)
        if 0 < sum(map(len, polled)) < POLL_RECORDS:
            self.stopped.wait(GATHER_SECONDS)

    def _take(self, records: Records, followed: Followed) -> None:
        portion = read_portion(records, self._hub.offset((records.topic, records.partition)), followed)
        if portion.kind == PREDICTION:
            self._view.add_predictions(portion.documents)
            self._rows_per_message = max(1.0, len(portion.documents) / len(records))
        else:
            self._view.add_rejections(portion.documents)
        self._hub.publish(portion)

    def _skip_if_behind(self, reader: Consumer, followed: Followed) -> None:
        behind = {where: lag for where, lag in reader.lag().items() if where[0] == followed.topic}
        if sum(behind.values()) * self._rows_per_message <= self._most_rows_behind:
            return
        kept = int(SPAN_ROWS / self._rows_per_message / len(behind)) or 1
        for (topic, partition), lag in behind.items():
            if lag > kept:
                offset = reader.positions()[topic, partition] + lag - kept
                reader.seek(topic, partition, offset)
                self._hub.move((topic, partition), offset)
                self.skipped_messages += lag - kept


class LagWatch(SurvivingThread):
    """Measures, once a second, how far the consumer of readings is behind and how many readings arrive.

    Parameters
    ----------
    topic : str
        Topic of the readings.
    group : callable
        Returns the consumer group whose workers serve now.
    """

    def __init__(self, open_bus: Callable[[], Bus], *, topic: str, group: Callable[[], str]) -> None:
        super().__init__("gateway-lag")
        self._open_bus = open_bus
        self._topic = topic
        self._group = group
        self._ends: tuple[float, int] | None = None
        self._measured: dict[str, Any] = {"messages": None, "by_partition": {}}
        self._rate: float | None = None

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
