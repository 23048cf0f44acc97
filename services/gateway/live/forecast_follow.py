"""One thread for each stream of forecasts reads its four topics into the view."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from kappawatt.bus.interface import Bus, Consumer, Records, TopicPartition
from kappawatt.bus.promotions import Serving, StreamFollower
from kappawatt.bus.retrying import SurvivingThread
from kappawatt.columns.codec import decode_many
from kappawatt.columns.content import READABLE
from kappawatt.forecasting.forecaster import UNNAMED
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.forecasts import read_documents
from kappawatt.messages.readings import content_type
from kappawatt.worker.histories import AHEAD_MOST

from .forecast_hub import FORECAST, FORECAST_ERROR, READING, ForecastHub
from .forecasts import ForecastView
from .portion import slices
from .predictions import LatestView

__all__ = ["ForecastFollower"]

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
POLL_RECORDS = 2_000
GATHER_SECONDS = 0.02  # eyes do not see the difference, and a poll of many messages is cheaper than many polls
LOOK_SECONDS = 5.0  # between two looks for topics that were missing


@dataclass(frozen=True, slots=True)
class Span:
    """How far back a topic is read at start and after falling behind [messages], and how many rows behind is too
    far."""

    messages: int
    most_behind: int


FORECASTS_SPAN = Span(4_000, 8_000)
ERRORS_SPAN = Span(50_000, 200_000)
READINGS_SPAN = Span(20_000, 2_000_000)  # each may be a block of 10,000 rows
DEAD_SPAN = Span(500, 20_000)


class ForecastFollower(SurvivingThread):
    """Reads forecasts (following promotions), realised errors, readings, and refused readings of one stream.

    Parameters
    ----------
    open_bus : callable
        Called in the thread, again after each failure.
    rejections : LatestView
        Where refused readings of all streams are counted.
    """

    def __init__(
        self, open_bus: Callable[[], Bus], view: ForecastView, hub: ForecastHub, rejections: LatestView
    ) -> None:
        super().__init__(f"gateway-{view.stream.service}")
        self._open_bus = open_bus
        self._view = view
        self._hub = hub
        self._rejections = rejections
        self._stream = view.stream
        self._topic: str | None = None
        self._spans: dict[str, Span] = {}
        self._read_up_to: dict[TopicPartition, int] = {}
        self._rows_per_message: dict[str, float] = {}
        self._missing: tuple[str, ...] = ()
        self._contacted = threading.Event()
        self._polled: float | None = None
        self.skipped_messages = 0

    @property
    def service(self) -> str:
        """Whose forecasts it reads."""
        return self._stream.service

    def state(self) -> dict[str, Any]:
        """Return how fresh the view is."""
        return {
            "service": self._stream.service,
            "topic": self._topic or self._stream.forecasts.name,
            "connected": self.failure is None and self._contacted.is_set(),
            "poll_age_seconds": None if self._polled is None else round(time.monotonic() - self._polled, 3),
            "error": self.failure,
            "missing_topics": list(self._missing),
            "skipped_messages": self.skipped_messages,
        }

    def _run(self) -> None:
        bus = self._open_bus()
        promotions = StreamFollower(bus, self._stream.forecasts.name)
        try:
            serving = promotions.read()
            while not self.stopped.is_set():
                serving = self._read(bus, promotions, serving) or serving
        finally:
            promotions.close()
            bus.close()

    def _read(self, bus: Bus, promotions: StreamFollower, serving: Serving | None) -> Serving | None:
        """Read until there is something else to read: a promotion (returned), or a topic that was missing."""
        topic = self._stream.forecasts.name if serving is None else serving.topic
        if self._topic not in (None, topic):
            self._view.forget_forecasts()
        self._topic = topic
        self._spans = {
            topic: FORECASTS_SPAN,
            self._stream.errors.name: ERRORS_SPAN,
            self._stream.readings.name: READINGS_SPAN,
            self._stream.dead: DEAD_SPAN,
        }
        known = bus.topics()
        self._missing = tuple(name for name in self._spans if name not in known)
        topics = [name for name in self._spans if name in known]
        start = {where: at for name in topics for where, at in self._start(bus, name, known[name]).items()}
        reader = bus.reader(topics, start, max_records=POLL_RECORDS) if topics else None
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
                if promoted is not None and (serving is None or promoted != serving):
                    log.info("stream moved", extra={"topic": promoted.topic, "version": promoted.version})
                    return promoted
                if reader is None:
                    self.stopped.wait(POLL_SECONDS)
                else:
                    self._poll(reader)
                self.failure = None
                self._polled = time.monotonic()
        finally:
            if reader is not None:
                reader.close()
        return None

    def _start(self, bus: Bus, topic: str, partitions: int) -> Mapping[TopicPartition, int]:
        """Where it was read up to already, else a bounded span before the end."""
        start = {}
        for partition, offsets in bus.offsets(topic).items():
            at = self._read_up_to.get((topic, partition), offsets.end - self._spans[topic].messages // partitions)
            start[topic, partition] = min(max(at, offsets.begin), offsets.end)
        return start

    def _poll(self, reader: Consumer) -> None:
        polled = reader.poll(POLL_SECONDS)
        for records in polled:
            for part in slices(records):
                self._take(part)
            self._read_up_to[records.topic, records.partition] = records.next_offset
        if polled:
            self._skip_if_behind(reader)
        if 0 < sum(map(len, polled)) < POLL_RECORDS:
            self.stopped.wait(GATHER_SECONDS)

    def _take(self, records: Records) -> None:
        view, service = self._view, self._stream.service
        if records.topic == self._topic:
            self._hub.publish(FORECAST, service, view.add_forecasts(read_documents([records])))
        elif records.topic == self._stream.errors.name:
            self._hub.publish(FORECAST_ERROR, service, view.add_errors(read_documents([records])))
        elif records.topic == self._stream.dead:
            self._rejections.add_rejections(read_dead_letters([records]))
        else:
            self._take_readings(records)

    def _take_readings(self, records: Records) -> None:
        stream = self._stream
        kinds = [content_type(h, v) for h, v in zip(records.headers, records.values, strict=True)]
        rows = 0
        for kind, group in groupby(range(len(kinds)), key=lambda i: kinds[i]):
            places = list(group)
            if kind not in READABLE:
                continue  # the worker refuses it, and a dead letter says so
            decoded = decode_many([records.values[i] for i in places], kind, stream.schema)
            columns = decoded.batch.columns
            rows += len(decoded.batch)
            arrived = np.array([records.timestamps[i] for i in places], "datetime64[ms]")[decoded.message]
            values, starts = columns[stream.target.name], columns["interval_start"]
            # what the worker takes: rows that keep the schema, have a value, and do not come from a wrong clock
            kept = np.flatnonzero(decoded.batch.valid & ~np.isnan(values) & (starts <= arrived + AHEAD_MOST))
            if not len(kept):
                continue
            messages = [records.keys[places[m]] for m in decoded.message[kept].tolist()]
            named = columns[stream.key.name][kept].tolist()
            keys = [own or _text(key) for own, key in zip(named, messages, strict=True)]
            seconds = columns.get("interval_seconds", np.zeros(len(values)))[kept]
            steps = np.where(np.isnan(seconds), 0, seconds).astype(np.int64)
            zones = columns["time_zone"][kept].tolist()
            news = self._view.add_readings(keys, starts[kept], values[kept], steps, zones)
            self._hub.publish(READING, stream.service, news)
        self._rows_per_message[records.topic] = max(1.0, rows / len(records))

    def _skip_if_behind(self, reader: Consumer) -> None:
        lag = reader.lag()
        for topic, span in self._spans.items():
            behind = {where: n for where, n in lag.items() if where[0] == topic}
            rows = self._rows_per_message.get(topic, 1.0)
            if sum(behind.values()) * rows <= span.most_behind:
                continue
            kept = max(1, int(min(span.messages, span.most_behind / rows / 2) / len(behind)))
            for (_, partition), n in behind.items():
                if n > kept:
                    reader.seek(topic, partition, reader.positions()[topic, partition] + n - kept)
                    self.skipped_messages += n - kept


def _text(key: bytes | None) -> str:
    return key.decode("utf-8", "replace") if key else UNNAMED
