"""The loop: poll, write about once a second, commit. Database first, then offsets.

Nothing is lost: an offset is committed only after the database has committed every row before it. Nothing
doubles: rows that are read twice have the ids they had the first time.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from flask import Flask

from kappawatt.bus import connect
from kappawatt.bus.interface import Bus, Consumer
from kappawatt.bus.promotions import StreamFollower
from kappawatt.bus.topic import LOAD_FORECASTS, METER_FORECASTS, PLANT_PREDICTIONS, STREAMS, TOPICS
from kappawatt.errors import BusError, TopicUnknown
from kappawatt.serving.service import Service
from kappawatt.settings import Settings
from kappawatt.store.interface import Store, StoreBusy
from kappawatt.store.open import open_store
from kappawatt.telemetry import Telemetry

from . import routes
from .rows import Landing

if TYPE_CHECKING:
    from kappawatt.serving.context import Context

__all__ = ["GROUP", "Sink", "build"]

log = logging.getLogger(__name__)

GROUP = "sink"
PORT = 8090
POLL_SECONDS = 1.0
SHORTEST_POLL_SECONDS = 0.05  # a poll that ends at once can leave a Kafka group half joined
WRITE_SECONDS = 1.0  # rows wait at most this long for the database
WRITE_ROWS = 50_000  # or until there are so many
POLL_MESSAGES = 200  # a message can be a block of some 900 kB: at most 180 MB come at once
BACKOFF_SECONDS = (0.05, 2.0)
DRAIN_SECONDS = 15.0  # after SIGTERM a database that is busy gets so long; then the rows are read again later
LAG_SECONDS = 1.0
SETTLE_SECONDS = 5.0  # for a group to share its partitions; until then nobody asks for the lag
STUCK_SECONDS = 15.0  # messages wait and none came for so long: kafka-python can lose a rebalance
WARN_SECONDS = 10.0  # between two lines of log about the same busy database
LANDED = tuple(topic.name for topic in TOPICS if topic is not STREAMS)
PROMOTABLE = (PLANT_PREDICTIONS.name, LOAD_FORECASTS.name, METER_FORECASTS.name)


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
        self._followers = [StreamFollower(bus, stream) for stream in PROMOTABLE]
        self._consumer: Consumer | None = None
        self._topics: tuple[str, ...] = ()
        self._landing = Landing()
        self._since = 0.0
        self._opened = self._heard = time.monotonic()
        self._beat = time.monotonic()
        self._reason: str | None = "no poll of the bus yet"
        self._warned = float("-inf")
        self._next_lag = 0.0
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
        promoted = {serving.topic for follower in self._followers if (serving := follower.read())}
        try:
            self._open(promoted)
            self._loop()
            self._flush()
        finally:
            if self._consumer is not None:
                self._consumer.close()
            for follower in self._followers:
                follower.close()
            self.store.close()

    def _loop(self) -> None:
        failing_since: float | None = None
        while not self._stopped.is_set():
            self._beat = time.monotonic()
            try:
                self.step()
                failing_since = None
                self._note_lag()
            except BusError as error:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > self._settings.retry_for:
                    raise
                log.warning("bus failed; reading again from the last commit", extra={"error": str(error)})
                self._stopped.wait(random.uniform(0.1, 1.0))  # noqa: S311 (jitter, not a secret)
                self._rewind(error)

    def step(self) -> None:
        """Poll once; write and commit when it is time."""
        assert self._consumer is not None
        promoted = {serving.topic for follower in self._followers if (serving := follower.poll())}
        if not promoted <= set(self._topics):
            self._flush()
            self._open(promoted)
        until_write = self._until_write()
        polled = self._consumer.poll(until_write) if until_write >= SHORTEST_POLL_SECONDS else []
        self._telemetry.polled()
        if self._reason is not None:
            self._reason = None
        if polled:
            self._heard = time.monotonic()
            if not self._landing.messages:
                self._since = self._heard
        for records in polled:
            self._landing.add(records)
        is_time = self._landing.messages and self._until_write() < SHORTEST_POLL_SECONDS
        if is_time or self._landing.rows >= self._write_rows:
            self._flush()

    def _until_write(self) -> float:
        if not self._landing.messages:
            return POLL_SECONDS
        return max(0.0, min(POLL_SECONDS, self._since + self._write_seconds - time.monotonic()))

    def _flush(self) -> None:
        """Write, then commit what was written."""
        landing = self._landing
        if not landing.messages:
            return
        assert self._consumer is not None
        if landing.rows and not self._write(landing):
            return
        self._consumer.commit()
        self._landing = Landing()
        self._heard = time.monotonic()
        self._note(landing)

    def _write(self, landing: Landing) -> bool:
        """Write until it succeeds; False if the process is to end and the database is still busy."""
        tables = landing.tables()
        pause, longest = BACKOFF_SECONDS
        deadline: float | None = None
        while True:
            self._beat = time.monotonic()
            try:
                self.store.write(tables)
            except StoreBusy as error:
                self._reason = str(error)
                self._warn(landing)
            else:
                self._reason = None
                return True
            if self._stopped.is_set():
                deadline = deadline or time.monotonic() + DRAIN_SECONDS
                if time.monotonic() > deadline:
                    log.error("database still busy; its rows will be read again", extra={"rows": landing.rows})
                    return False
                time.sleep(min(pause, 0.2))
            else:
                self._stopped.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)
            pause = min(2 * pause, longest)

    def _open(self, promoted: set[str]) -> None:
        """Join the group on all topics there are to land.

        A topic that was promoted once and then superseded is read to its end: the group's own commit on it
        tells, after a restart, that it belongs here.
        """
        if self._consumer is not None:
            self._consumer.close()
        there = self._bus.topics()
        own = {topic.name for topic in TOPICS}
        sides = {t for t in there if t not in own and (t in self._topics or self._bus.committed(GROUP, t))}
        sides |= promoted & set(there)
        self._topics = LANDED + tuple(sorted(sides - set(LANDED)))
        self._consumer = self._bus.consumer(
            self._topics,
            GROUP,
            instance_id=self._settings.instance_id or None,
            max_records=min(self._settings.max_records, POLL_MESSAGES),
        )
        self._opened = self._heard = time.monotonic()
        log.info("landing", extra={"topics": list(self._topics)})

    def _rewind(self, error: BusError) -> None:
        """Forget what is not committed, and read it again."""
        self._landing = Landing()
        assert self._consumer is not None
        try:
            if isinstance(error, TopicUnknown):  # a side topic was deleted
                self._open(set())
            else:
                self._consumer.rewind()
        except BusError as again:
            log.warning("could not go back yet", extra={"error": str(again)})

    def _warn(self, landing: Landing) -> None:
        if time.monotonic() - self._warned > WARN_SECONDS:
            self._warned = time.monotonic()
            log.warning("database is busy; rows wait", extra={"error": self._reason, "rows": landing.rows})

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

    def _note_lag(self) -> None:
        """Once a second measure the lag; join the group again if it grows and nothing comes."""
        now = time.monotonic()
        if now < self._next_lag or now - self._opened < SETTLE_SECONDS:
            return
        self._next_lag = now + LAG_SECONDS
        assert self._consumer is not None
        lags = self._consumer.lag()
        self._telemetry.lags(lags)
        if sum(lags.values()) and now - self._heard > STUCK_SECONDS:
            log.warning("messages wait and none come; joining the group again", extra={"lag": sum(lags.values())})
            self._flush()
            self._open(set())


def build(settings: Settings, telemetry: Telemetry | None = None) -> tuple[Service, Sink]:
    """Return the sink that settings describe, and the record its app is made from.

    `create_app(service, settings, telemetry=telemetry)` then has probes, metrics and `/queries`.
    """
    bus = connect(settings.bus, settings.bus_options())
    sink = Sink(bus, open_store(settings.database), settings=settings, telemetry=telemetry or Telemetry("sink"))
    service = Service(
        name="sink",
        summary="Lands readings, predictions, forecasts and rejections in a database, and runs example queries on it.",
        port=PORT,
        routes=sink.add_routes,
    )
    return service, sink
