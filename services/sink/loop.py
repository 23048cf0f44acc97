"""The loop: poll, write about once a second, commit. Database first, then offsets.

Nothing is lost: an offset is committed only after the database has committed every row before it. Nothing
doubles: rows that are read twice have the ids they had the first time.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flask import Flask

from kappawatt.bus import connect_as
from kappawatt.bus.interface import Bus
from kappawatt.bus.promotions import PromotionFollower
from kappawatt.bus.standing import Standing, say_away
from kappawatt.errors import BusError, TopicUnknown
from kappawatt.settings import Settings
from kappawatt.store.interface import Store, StoreBusy
from kappawatt.store.open import open_store
from kappawatt.streams.table import STREAMS, TOPICS
from kappawatt.telemetry import Telemetry

from . import routes
from .member import Member
from .rows import Landing
from .tables import LAYOUT

if TYPE_CHECKING:
    from kappawatt.serving.service import Context

__all__ = ["Sink", "open_sink"]

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
SHORTEST_POLL_SECONDS = 0.05  # a poll that ends at once can leave a Kafka group half joined
WRITE_SECONDS = 1.0  # rows wait at most this long for the database
WRITE_ROWS = 50_000  # or until there are so many
BACKOFF_SECONDS = (0.05, 2.0)
DRAIN_SECONDS = 15.0  # after SIGTERM a database that is busy gets so long; then the rows are read again later
LAG_SECONDS = 1.0
SETTLE_SECONDS = 5.0  # for a group to share its partitions; until then nobody asks for the lag
STUCK_SECONDS = 15.0  # messages wait and none came for so long: kafka-python can lose a rebalance
WARN_SECONDS = 10.0  # between two lines of log about the same busy database


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
        self._landing = Landing()
        self._since = 0.0
        self._beat = time.monotonic()
        self._reason: str | None = "no poll of the bus yet"
        self._warned = float("-inf")
        self._next_lag = 0.0
        self.standing = Standing()
        self.landed = 0

    def stop(self) -> None:
        """Write and commit what was polled, and return from `run`. Safe in a signal handler."""
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
            self._prepare()
            promoted = {serving.topic for follower in self._followers if (serving := follower.read())}
            member = Member(self._bus, self._settings, promoted)
            try:
                self._loop(member)
                self._flush(member)
            finally:
                member.close()
        finally:
            for follower in self._followers:
                follower.close()
            self.store.close()

    def _prepare(self) -> None:
        """Bring the database up to date, as soon as it can be written."""
        pauses = _pauses()
        while not self._stopped.is_set():
            self._beat = time.monotonic()
            try:
                self.store.prepare()
            except StoreBusy as error:
                self._reason = str(error)
                self._warn(0)
                self._stopped.wait(next(pauses))
            else:
                return

    def _loop(self, member: Member) -> None:
        failing_since: float | None = None
        while not self._stopped.is_set():
            self._beat = time.monotonic()
            try:
                self._turn(member)
                failing_since = None
                self._note_lag(member)
            except BusError as error:
                self.standing.failed(error)
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > self._settings.retry_for:
                    raise
                say_away(log, "bus failed; reading again from the last commit", error=str(error))
                self._stopped.wait(random.uniform(0.1, 1.0))  # noqa: S311 (jitter, not a secret)
                self._rewind(member, error)

    def _turn(self, member: Member) -> None:
        """Poll once; write and commit when it is time."""
        promoted = {serving.topic for follower in self._followers if (serving := follower.poll())}
        if not promoted <= set(member.topics):
            self._flush(member)
            member.join(promoted)
        until_write = self._until_write()
        polled = member.poll(until_write) if until_write >= SHORTEST_POLL_SECONDS else []
        self._telemetry.polled()
        self.standing.polled(member.positions())
        if not polled and not self._landing.messages:
            member.pass_over()
        if self._reason is not None:
            self._reason = None
        if polled and not self._landing.messages:
            self._since = time.monotonic()
        for records in polled:
            self._landing.add(records)
        is_time = self._landing.messages and self._until_write() < SHORTEST_POLL_SECONDS
        if is_time or self._landing.rows >= self._write_rows:
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
        if landing.rows and not self._write(landing):
            return
        member.commit()
        self._landing = Landing()
        self._note(landing)

    def _write(self, landing: Landing) -> bool:
        """Write until it succeeds; False if the process is to end and the database is still busy."""
        tables = landing.tables()
        pauses = _pauses()
        deadline: float | None = None
        while True:
            self._beat = time.monotonic()
            try:
                self.store.write(tables)
            except StoreBusy as error:
                self._reason = str(error)
                self._warn(landing.rows)
            else:
                self._reason = None
                return True
            if self._stopped.is_set():
                deadline = deadline or time.monotonic() + DRAIN_SECONDS
                if time.monotonic() > deadline:
                    log.error("database still busy; its rows will be read again", extra={"rows": landing.rows})
                    return False
                time.sleep(min(next(pauses), 0.2))
            else:
                self._stopped.wait(next(pauses))

    def _rewind(self, member: Member, error: BusError) -> None:
        """Forget what is not committed, and read it again."""
        self._landing = Landing()
        try:
            if isinstance(error, TopicUnknown):  # a side topic was deleted
                member.join()
            else:
                member.rewind()
        except BusError as again:
            say_away(log, "could not go back yet", error=str(again))

    def _warn(self, rows: int) -> None:
        if time.monotonic() - self._warned > WARN_SECONDS:
            self._warned = time.monotonic()
            log.warning("database is busy; rows wait", extra={"error": self._reason, "rows": rows})

    def _note(self, landing: Landing) -> None:
        self.landed += landing.rows
        service = self._telemetry.service
        self._telemetry.rows.labels(service, "bus").inc(landing.rows)
        self._telemetry.batch_rows.labels(service).observe(landing.rows)
        if landing.malformed:
            self._telemetry.rejections.labels(service, "bus", "malformed").inc(len(landing.malformed))
            log.warning(
                "messages cannot be read",
                extra={"count": len(landing.malformed), "first": landing.malformed[0]},
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
            member.join()


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
