"""The loop: poll, write about once a second, commit. Database first, then offsets.

Nothing is lost: rows and the position up to which they were read are one transaction of the database, and an offset is
committed on the bus only after it. Nothing doubles: rows that are read twice have the ids they had the first time.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask

from kappawatt.bus import connect_as
from kappawatt.bus.interface import Bus
from kappawatt.bus.promotions import PromotionFollower
from kappawatt.bus.standing import Standing, say_away
from kappawatt.columns.batch import Columns
from kappawatt.errors import BusError, TopicUnknown
from kappawatt.settings import Settings
from kappawatt.store.interface import Rows, RowsRefused, Store, StoreChanged, StoreUnavailable
from kappawatt.store.open import open_store
from kappawatt.streams.table import STREAMS, TOPICS
from kappawatt.telemetry import Telemetry

from . import routes
from .halving import write_by_halves
from .member import Member
from .positions import ANY_ROWS, MOST, STORED, Positions, first_positions, guard_of, rows_of, stored_in
from .rows import Landing, tables_of
from .tables import LAYOUT, POSITIONS

if TYPE_CHECKING:
    from kappawatt.serving.service import Context

__all__ = ["Sink", "open_sink"]

log = logging.getLogger(__name__)

T = TypeVar("T")
POLL_SECONDS = 1.0
SHORTEST_POLL_SECONDS = 0.05  # a poll that ends at once can leave a Kafka group half joined
WRITE_SECONDS = 1.0  # rows wait at most this long for the database
WRITE_ROWS = 50_000  # or until there are so many
WRITE_BYTES = 64 * 1024 * 1024  # or until the messages they came in hold so much memory
BACKOFF_SECONDS = (0.05, 2.0)
DRAIN_SECONDS = 15.0  # after SIGTERM a database that is busy gets so long; then the rows are read again later
LAG_SECONDS = 1.0
SETTLE_SECONDS = 5.0  # for a group to share its partitions; until then nobody asks for the lag
STUCK_SECONDS = 15.0  # messages wait and none came for so long: kafka-python can lose a rebalance
WARN_SECONDS = 10.0  # between two lines of log about a database that takes nothing
LOOK_SECONDS = 10.0  # between two looks, while nothing comes, whether somebody has emptied or restored the store
ZONES = "SELECT name FROM pg_timezone_names()"  # in both databases


class _Ending(Exception):
    """The process is to end, and the database takes nothing."""


class Sink:
    """Lands readings, predictions, forecasts, their errors and rejections in a store.

    Parameters
    ----------
    bus : Bus
    store : Store
    settings : Settings
    telemetry : Telemetry
    write_seconds, write_rows : float, int
        How long rows wait, and how many, before they are written.
    """

    def __init__(
        self,
        bus: Bus,
        store: Store,
        *,
        settings: Settings,
        telemetry: Telemetry,
        write_seconds: float = WRITE_SECONDS,
        write_rows: int = WRITE_ROWS,
    ) -> None:
        self.store = store
        self._bus = bus
        self._settings = settings
        self._telemetry = telemetry
        self._write_seconds = write_seconds
        self._write_rows = write_rows
        self._stopped = threading.Event()
        self._followers = [PromotionFollower(bus, stream.answers.name) for stream in STREAMS]
        self._zones: Collection[str] = ()
        self._landing = Landing()
        self._positions = Positions(bus, self._read_positions)
        self._is_placed = False  # whether the store has the positions it starts with
        self._ending_since: float | None = None
        self._since = 0.0
        self._beat = time.monotonic()
        self._reason: str | None = "no poll of the bus yet"
        self._warned = float("-inf")
        self._next_lag = 0.0
        self.standing = Standing()
        self._next_look = 0.0
        self.landed = 0

    def stop(self) -> None:
        """Write and commit what was polled, and return from `run`.

        Takes a lock, so never called in a signal handler: `kappawatt.signals`.
        """
        self._stopped.set()

    def add_routes(self, app: Flask, context: Context) -> None:
        """Add the example queries, and what probes ask."""
        routes.add_routes(app, context, self.store)
        context.ready.append(lambda: self._reason)
        context.alive.append(self.why_not_alive)

    def why_not_alive(self) -> str | None:
        """Return None unless the loop hangs; waiting for a busy database is no hanging."""
        age = time.monotonic() - self._beat
        if age <= self._settings.poll_age_limit:
            return None
        return f"last turn of the loop: got {age:.0f} s ago, allowed {self._settings.poll_age_limit:g} s"

    def run(self) -> None:
        """Land until `stop` is called.

        Raises
        ------
        BusError
            The bus has failed for longer than the setting `retry_for`.
        """
        self._bus.ensure(TOPICS)
        try:
            self._patiently(self.store.prepare)
            self._zones = frozenset(name for (name,) in self._asked(ZONES))
            self._landing = Landing(self._zones)
            landed = {topic for topic, _, _ in stored_in(self._read_positions())}
            promoted = {serving.topic for follower in self._followers if (serving := follower.read())}
            member = Member(self._bus, self._settings, promoted, landed)
            try:
                self._loop(member)
                self._flush(member)
            finally:
                member.close()
        except _Ending:
            log.error("the database takes nothing; what waits is read again", extra={"rows": self._landing.rows})
        finally:
            for follower in self._followers:
                follower.close()
            self.store.close()

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do something with the database as soon as it lets us; `_Ending` if the process is to end before that."""
        pauses = _pauses()
        waited = False
        while True:
            self._beat = time.monotonic()
            try:
                found = action()
            except StoreUnavailable as error:
                waited = True
                self._reason = str(error)
                self._warn()
            else:
                if waited:
                    self._reason = None
                return found
            if not self._stopped.is_set():
                self._stopped.wait(next(pauses))
                continue
            self._ending_since = self._ending_since or time.monotonic()
            if not self._landing.rows or time.monotonic() - self._ending_since > DRAIN_SECONDS:
                raise _Ending
            time.sleep(min(next(pauses), 0.2))

    def _asked(self, sql: str) -> list[tuple[Any, ...]]:
        return self._patiently(lambda: self.store.query(sql, MOST)).rows

    def _read_positions(self) -> Rows:
        return self._patiently(lambda: self.store.query(STORED, MOST))

    def _place(self, member: Member) -> None:
        """Write the positions that a store starts with, where it has none or is to land everything again."""
        stored = stored_in(self._read_positions())
        from_beginning = self._settings.from_beginning
        has_rows = bool(self._asked(ANY_ROWS))
        first = first_positions(self._bus, member.topics, stored, has_rows=has_rows, from_beginning=from_beginning)
        if first:
            what = "landing everything again" if from_beginning else "the store has no positions: taking the group's"
            log.info(what, extra={"partitions": len(first)})
            guard = None if from_beginning else guard_of(dict.fromkeys(first))
            try:
                self._patiently(lambda: self.store.write({POSITIONS.name: rows_of(first)}, guard))
            except StoreChanged:
                log.info("another sink was faster")
        self._is_placed = True

    def _loop(self, member: Member) -> None:
        failing_since: float | None = None
        while not self._stopped.is_set():
            self._beat = time.monotonic()
            try:
                self._turn(member)
                failing_since = None
                self._note_lag(member)
                self._look_at_store()
            except BusError as error:
                self.standing.failed(error)
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > self._settings.retry_for:
                    raise
                self._reason = f"bus: {error}"
                say_away(log, "bus failed; reading again from where the store ends", error=str(error))
                self._stopped.wait(random.uniform(0.1, 1.0))  # noqa: S311 (jitter, not a secret)
                self._rewind(member, error)

    def _turn(self, member: Member) -> None:
        """Poll once; write and commit when it is time."""
        if not self._is_placed:
            self._place(member)
        promoted = {serving.topic for follower in self._followers if (serving := follower.poll())}
        if not promoted <= set(member.topics):
            self._flush(member)
            self._join(member, promoted)
        until_write = self._until_write()
        polled = member.poll(until_write) if until_write >= SHORTEST_POLL_SECONDS else []
        self._telemetry.polled()
        self.standing.polled(member.positions())
        if self._reason is not None:
            self._reason = None
        is_idle = not polled and not self._landing.messages
        polled = self._positions.follow(member, polled)
        if is_idle:  # after it: what was committed tells a gap of the log from what a rebalance has skipped
            member.pass_over()
        if polled and not self._landing.messages:
            self._since = time.monotonic()
        for records in polled:
            self._landing.add(records)
        is_time = self._landing.messages and self._until_write() < SHORTEST_POLL_SECONDS
        if is_time or self._landing.rows >= self._write_rows or self._landing.size >= WRITE_BYTES:
            self._flush(member)

    def _until_write(self) -> float:
        if not self._landing.messages:
            return POLL_SECONDS
        return max(0.0, min(POLL_SECONDS, self._since + self._write_seconds - time.monotonic()))

    def _flush(self, member: Member) -> None:
        """Write, then commit what was written."""
        landing = self._landing
        if not landing.messages:
            return
        try:
            self._write(landing)
        except StoreChanged as error:
            log.warning("the store is not as this sink left it; reading again from there", extra={"error": str(error)})
            self._start_over()
            return
        self._positions.written()
        self._next_look = time.monotonic() + LOOK_SECONDS
        member.commit()
        self._landing = Landing(self._zones)
        self._note(landing)

    def _write(self, landing: Landing) -> None:
        """Write rows with their positions; where the database refuses some, their messages as rejections instead."""
        positions, guard = {POSITIONS.name: self._positions.rows}, self._positions.guard
        try:
            self._patiently(lambda: self.store.write({**tables_of(landing.parts), **positions}, guard))
        except RowsRefused as error:
            log.warning("the database refuses rows; looking for them", extra={"error": str(error)})
        else:
            return

        def write(tables: Mapping[str, Columns]) -> None:
            self._patiently(lambda: self.store.write(tables, guard))

        landing.refuse_parts(write_by_halves(write, landing.parts))
        lost = write_by_halves(write, landing.parts)
        for part, why in lost:  # somebody has changed the table of rejections
            at = int(part.columns["source_offset"][0])
            log.error("a rejection cannot be kept", extra={"topic": part.records.topic, "offset": at, "error": why})
        write(positions)

    def _look_at_store(self) -> None:
        """Notice, also where nothing comes to be written, that the store is another by now."""
        now = time.monotonic()
        if self._landing.messages or now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        try:
            found = self.store.query(STORED, MOST)
        except StoreUnavailable:
            return  # nothing waits for it
        if self._positions.is_stale(found):
            log.warning("the store is not as this sink left it; reading again from there")
            self._start_over()

    def _join(self, member: Member, promoted: Collection[str] = ()) -> None:
        """Leave the group and join it again."""
        self._start_over()
        member.join(promoted)

    def _start_over(self) -> None:
        """Forget what has not landed: it is read again from where the store ends."""
        self._landing = Landing(self._zones)
        self._positions.forget()

    def _rewind(self, member: Member, error: BusError) -> None:
        self._start_over()
        if isinstance(error, TopicUnknown):  # a side topic was deleted
            try:
                member.join()
            except BusError as again:
                say_away(log, "could not join again yet", error=str(again))

    def _warn(self) -> None:
        if time.monotonic() - self._warned > WARN_SECONDS:
            self._warned = time.monotonic()
            log.warning("rows wait for the database", extra={"error": self._reason, "rows": self._landing.rows})

    def _note(self, landing: Landing) -> None:
        self.landed += landing.rows
        service = self._telemetry.service
        self._telemetry.rows.labels(service, "bus").inc(landing.rows)
        self._telemetry.batch_rows.labels(service).observe(landing.rows)
        for reason, count in landing.refused.items():
            self._telemetry.rejections.labels(service, "bus", reason).inc(count)
        if landing.refused:
            log.warning(
                "messages are kept as rejections", extra={"count": dict(landing.refused), "first": landing.first}
            )

    def _note_lag(self, member: Member) -> None:
        """Once a second measure the lag; join the group again if it grows and nothing comes."""
        now = time.monotonic()
        if now < self._next_lag or now - member.joined < SETTLE_SECONDS:
            return
        self._next_lag = now + LAG_SECONDS
        lags = member.lag()
        self._telemetry.lags(lags)
        if sum(lags.values()) and now - member.heard > STUCK_SECONDS:
            log.warning("messages wait and none come; joining the group again", extra={"lag": sum(lags.values())})
            self._flush(member)
            self._join(member)


def _pauses() -> Iterator[float]:
    """Yield how long to wait for a busy database: longer each time, with jitter."""
    pause, longest = BACKOFF_SECONDS
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 (jitter, not a secret)
        pause = min(2 * pause, longest)


def open_sink(settings: Settings, telemetry: Telemetry | None = None) -> Sink:
    """Return the sink that settings describe; bus and database are asked when it runs."""
    store = open_store(settings.database, LAYOUT)
    telemetry = telemetry or Telemetry("sink")
    return Sink(connect_as(settings, telemetry.skipped), store, settings=settings, telemetry=telemetry)
