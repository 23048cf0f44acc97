"""Prometheus metrics, with the same names in every service."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter

__all__ = ["CONTENT_TYPE", "Telemetry"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 5, 10, 50, 100, 500, 1000, 5000, 10_000, 50_000, 100_000)


class Telemetry:
    """The metrics of one process of one service.

    With `PROMETHEUS_MULTIPROC_DIR` set (several serving processes), `render` adds up all of them.
    """

    def __init__(self, service: str) -> None:
        # Here and not above: the client looks for that folder when it is imported, and services are found before.
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.service = service
        self.started = time.time()
        self.last_poll: float | None = None
        self._waits_since: float | None = None  # monotonic: when a consumer began that has not polled yet
        self._held: set[tuple[str, int]] = set()
        self._keeps: Callable[[], int] | None = None
        self._rows_at: dict[str, Counter] = {}
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "kappawatt_requests", "HTTP requests", ["service", "route", "method", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "kappawatt_request_seconds",
            "Time to answer an HTTP request [s]",
            ["service", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.connections_ended = Counter(
            "kappawatt_connections_ended",
            "Connections ended before or within an answer, by reason",
            ["service", "reason"],
            registry=registry,
        )
        self.rows = Counter("kappawatt_rows", "Rows answered", ["service", "door"], registry=registry)
        self.rejections = Counter(
            "kappawatt_rejections",
            "Rows refused, by reason",
            ["service", "door", "reason"],
            registry=registry,
        )
        self.suspect_values = Counter(
            "kappawatt_suspect_values",
            "Measurements of the last five weeks taken for missing, by why, once in each forecast",
            ["service", "door", "why"],
            registry=registry,
        )
        self.weather = Counter(
            "kappawatt_weather_reads",
            "Stations whose weather was asked for, by source and what came of it",
            ["service", "source", "result"],
            registry=registry,
        )
        self.batch_rows = Histogram(
            "kappawatt_batch_rows", "Rows answered as one batch", ["service"], buckets=ROWS, registry=registry
        )
        self.event_seconds = Histogram(
            "kappawatt_event_to_prediction_seconds",
            "From the arrival of a reading on the bus to its answer [s]",
            ["service"],
            buckets=SECONDS,
            registry=registry,
        )
        self.consumer_lag = Gauge(
            "kappawatt_consumer_lag",
            "Messages between the position and the end",
            ["service", "topic", "partition"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.unreadable = Counter(
            "kappawatt_unreadable_batches",
            "Batches that could not be read and were left out",
            ["service", "topic", "partition"],
            registry=registry,
        )
        self.series = Gauge(
            "kappawatt_series",
            "Series whose history is in memory",
            ["service"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.poll_age = Gauge(
            "kappawatt_poll_age_seconds",
            "Age of the last poll of the bus [s]",
            ["service"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.model = Gauge(
            "kappawatt_model_info",
            "1 for the model version that answers",
            ["service", "model", "version"],
            registry=registry,
            multiprocess_mode="livemax",
        )

    def keeps(self, series: Callable[[], int]) -> None:
        """Note whom to ask how many series are in memory."""
        self._keeps = series

    def rows_at(self, door: str) -> Counter:
        """Return the counter of rows answered at a door; looked up once."""
        counter = self._rows_at.get(door)
        if counter is None:
            counter = self._rows_at[door] = self.rows.labels(self.service, door)
        return counter

    def ended(self, reason: str) -> None:
        """Note that a connection was ended that a client had not finished with."""
        self.connections_ended.labels(self.service, reason).inc()

    def suspects(self, door: str, by_why: Mapping[str, int]) -> None:
        """Note how many measurements forecasts took for missing, by why."""
        for why, count in by_why.items():
            self.suspect_values.labels(self.service, door, why).inc(count)

    def lags(self, lags: Mapping[tuple[str, int], int]) -> None:
        """Note the lag of each partition that is held now, by topic and number; others are forgotten."""
        for topic, partition in self._held - lags.keys():
            self.consumer_lag.remove(self.service, topic, str(partition))
        self._held = set(lags)
        for (topic, partition), lag in lags.items():
            self.consumer_lag.labels(self.service, topic, str(partition)).set(lag)

    def skipped(self, topic: str, partition: int) -> None:
        """Note that a batch which could not be read was left out."""
        self.unreadable.labels(self.service, topic, str(partition)).inc()

    def will_poll(self) -> None:
        """Note that this process is about to read the bus: until it does, the age of its last poll counts from here."""
        self._waits_since = time.monotonic()

    def polled(self) -> None:
        """Note that the bus was polled just now."""
        self.last_poll = time.monotonic()

    def serves(self, model: str, version: str) -> None:
        """Note which model version answers from now on."""
        self.model.clear()
        self.model.labels(self.service, model, version).set(1)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest, multiprocess

        since = self.last_poll or self._waits_since
        if since is not None:
            self.poll_age.labels(self.service).set(time.monotonic() - since)
        if self._keeps is not None:
            self.series.labels(self.service).set(self._keeps())
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self.registry)
