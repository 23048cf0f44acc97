"""The histories a serving process keeps from the bus, so that a request for a forecast need only name a series."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus import connect_as
from kappawatt.bus.interface import Bus, Records, left_to_read
from kappawatt.bus.reading import ends_of
from kappawatt.bus.retrying import RetryingThread
from kappawatt.columns.batch import Batch
from kappawatt.errors import TopicUnknown
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.forecasting.history import History
from kappawatt.forecasting.holidays import holidays_set
from kappawatt.messages.readings import decoded_messages
from kappawatt.serving.service import Context
from kappawatt.settings import Settings
from kappawatt.streams.stream import Stream
from kappawatt.telemetry import Telemetry
from kappawatt.worker.heap import Heap
from kappawatt.worker.histories import NO_SETTING, Histories

__all__ = ["EXTENSION", "HistoryFollower", "KnownHistories", "NoHistories", "follow_histories"]

log = logging.getLogger(__name__)

EXTENSION = "kappawatt.histories"  # where a test finds the histories of an app, to stop following

POLL_SECONDS = 0.5
WAIT_SECONDS = 2.0  # between two looks for a bus or topic that is not there


def _bus_to_follow(settings: Settings, telemetry: Telemetry) -> Callable[[], Bus | None]:
    """Return what opens the bus; None while an embedded bus has no file yet (and is not to be made by looking)."""

    def open_bus() -> Bus | None:
        scheme, _, path = settings.bus.partition(":")
        if scheme == "embedded" and not Path(path).exists():
            return None
        return connect_as(settings, telemetry.skipped)

    return open_bus


class KnownHistories(Protocol):
    """The histories of series that requests only name."""

    def history(self, key: str) -> History | None:
        """Return the history of a series; None if none is known (yet)."""
        ...

    def keys(self) -> list[str]:
        """Return the names of all series known."""
        ...


class NoHistories:
    """Nothing is known: requests bring their histories."""

    def history(self, key: str) -> History | None:
        """Return None."""
        return None

    def keys(self) -> list[str]:
        """Return nothing."""
        return []


def follow_histories(context: Context, forecaster: Forecaster, stream: Stream | None) -> KnownHistories:
    """Start to keep the histories of a stream, unless there is none or settings say that requests bring theirs."""
    if stream is None or not context.settings.follow_histories:
        return NoHistories()
    holidays = holidays_set(context.settings.holidays)
    follower = HistoryFollower(
        _bus_to_follow(context.settings, context.telemetry), stream.readings.name, forecaster, holidays
    )
    follower.start()
    context.ready.append(follower.why_behind)
    context.alive.append(follower.why_dead)
    context.telemetry.keeps(lambda: len(follower))
    return follower


class HistoryFollower(RetryingThread):
    """Reads a topic of readings from its beginning and keeps the history of every series in it.

    Parameters
    ----------
    open_bus : callable
        Called in the thread, again after each failure; None means there is none yet.
    source : str
        Topic name.
    holidays : mapping of str or None to str
        Whose holidays series have whose rows do not say, see `Histories`.
    """

    def __init__(
        self,
        open_bus: Callable[[], Bus | None],
        source: str,
        forecaster: Forecaster,
        holidays: Mapping[str | None, str] = NO_SETTING,
    ) -> None:
        super().__init__("histories")
        self._open_bus = open_bus
        self._source = source
        self._forecaster = forecaster
        self._holidays = holidays
        self._known = Histories(forecaster, holidays)
        self._behind = "not looked at the bus yet"

    def why_behind(self) -> str | None:
        """Return None once everything was read that the bus had when reading began, or while there is no bus."""
        return None if self.failure is not None or not self._behind else f"histories: {self._behind}"

    def history(self, key: str) -> History | None:
        """Return the history of a series; None if none is known (yet)."""
        return self._known.history(key)

    def keys(self) -> list[str]:
        """Return the names of all series known."""
        return self._known.keys()

    def __len__(self) -> int:
        return len(self._known)

    def _run(self) -> None:
        bus = self._open_bus()
        if bus is None:
            self._behind = ""
            self.stopped.wait(WAIT_SECONDS)
            return
        try:
            self._read(bus)
        except TopicUnknown:
            self._behind = ""
            self.stopped.wait(WAIT_SECONDS)
        finally:
            bus.close()

    def _read(self, bus: Bus) -> None:
        ends = ends_of(bus, [self._source])
        histories = Histories(
            self._forecaster, self._holidays
        )  # what was read before stays until this one has caught up
        reader = bus.reader([self._source], {})
        try:
            heap = Heap()
            while not self.stopped.is_set():
                heap.give_back()
                left = left_to_read(reader, ends)
                if left == 0:
                    self._known = histories
                self._behind = f"{left} messages of {self._source} left to read" if left else ""
                self.failure = None
                for records in reader.poll(POLL_SECONDS):
                    self._take(histories, records)
        finally:
            reader.close()

    def _take(self, histories: Histories, records: Records) -> None:
        for message, batch, rows in self._decoded(records):
            valid = rows[batch.valid[rows]]
            if not len(valid):
                continue
            try:
                for _ in histories.steps(records.keys[message], batch, valid, records.timestamps[message]):
                    pass  # what is refused here is a dead letter of the worker's
            except MemoryError:
                raise
            except Exception:  # a message that nobody thought of must not keep the others from being read
                _say_not_taken(records, message)

    def _decoded(self, records: Records) -> Iterator[tuple[int, Batch, NDArray[np.intp]]]:
        """Yield each message and its rows; where decoding fails the rest comes one by one, without what it fails on."""
        first = 0
        try:
            for message, batch, rows in decoded_messages(records, self._forecaster.request):
                first = message + 1
                yield message, batch, rows
        except MemoryError:
            raise
        except Exception:
            if len(records) == 1:
                _say_not_taken(records, 0)
                return
            for place in range(first, len(records)):
                for _, batch, rows in self._decoded(records.pick([place])):
                    yield place, batch, rows


def _say_not_taken(records: Records, message: int) -> None:
    """Log the exception that a message raised, and where that message is."""
    place = {"partition": records.partition, "offset": records.offsets[message]}
    log.exception("a message could not be taken", extra={"topic": records.topic, **place})
