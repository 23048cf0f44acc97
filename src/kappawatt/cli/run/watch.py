"""What passes on the bus, as an outsider sees it, in one line."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kappawatt.bus import Bus
from kappawatt.bus.interface import Offsets, Records, TopicPartition
from kappawatt.bus.reading import Tail
from kappawatt.columns.values import parse_timestamp
from kappawatt.messages.forecasts import read_documents
from kappawatt.messages.predictions import read_predictions
from kappawatt.streams.stream import Stream

__all__ = ["ForecastWatch", "Watch"]

MOST_RECORDS = 50_000  # of one look
WINDOW = 10_000  # predictions and forecast intervals the running errors look back on


Since = Mapping[TopicPartition, int]


def _read(tail: Tail) -> list[Records]:
    """Return what has come since the last call, and go where a promotion says."""
    tail.move()
    return tail.poll(0.0)


class Watch:
    """Counts what passes on the bus: readings by offsets, predictions one by one."""

    def __init__(self, bus: Bus, stream: Stream) -> None:
        self._bus = bus
        self._source = stream.readings.name
        self._target = stream.target
        self._unit = stream.answer.field(stream.target).unit
        self._tail = Tail(bus, stream.answers.name, max_records=MOST_RECORDS)
        self._first = self._end()
        self.predictions = 0
        self.errors: deque[float] = deque(maxlen=WINDOW)
        self.latencies: deque[float] = deque(maxlen=WINDOW)

    def _end(self) -> int:
        return sum(o.end for o in self._bus.offsets(self._source).values())

    def look(self) -> str:
        """Read what has come and describe it."""
        measured = f"measured_{self._target}"
        while found := read_predictions(_read(self._tail)):
            for p in found:
                self.predictions += 1
                if isinstance(p.get(measured), (int, float)) and isinstance(p.get(self._target), (int, float)):
                    self.errors.append(abs(p[measured] - p[self._target]))
                arrived = parse_timestamp(p.get("event_time"))
                if arrived is not None:
                    self.latencies.append((p["published"] - arrived) / 1000)
        mae = f"{np.mean(self.errors):.3f} {self._unit}" if self.errors else "no measurement yet"
        p99 = f"{np.percentile(self.latencies, 99) * 1000:.0f} ms" if self.latencies else "-"
        return (
            f"readings {self._end() - self._first:>8}  predictions {self.predictions:>8}  MAE {mae}  p99 latency {p99}"
        )

    def close(self) -> None:
        """Stop reading."""
        self._tail.close()


@dataclass(slots=True)
class ForecastWatch:
    """Counts forecasts of one service, and compares them with what was measured and with the seasonal naive.

    Parameters
    ----------
    bus : Bus
        Of the thread that looks.
    stream : Stream
    since : mapping of (topic, partition) to int
        Offsets it counts from.
    """

    bus: Bus
    stream: Stream
    since: Since
    forecasts: int = 0
    _errors: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _tail: Tail | None = None

    def look(self) -> str:
        """Read what has come and describe it."""
        if self._tail is None:
            errors = self.stream.forecast_errors.name
            self._tail = Tail(self.bus, self.stream.answers.name, [errors], start=self._start, max_records=MOST_RECORDS)
        while found := read_documents(_read(self._tail)):
            for document in found:
                if "quantiles" in document:
                    self.forecasts += 1
                elif "error" in document:
                    self._errors.append(document)
        return f"{self.stream.name} {self.forecasts} forecasts{self._score()}"

    def _start(self, topic: str, log: str, offsets: Mapping[int, Offsets]) -> dict[int, int]:
        return {p: self.since.get((topic, p), known.end) for p, known in offsets.items()}

    def _score(self) -> str:
        """Mean absolute error as a share of the mean measured, and relative to the seasonal naive's."""
        measured = sum(abs(e["measured"]) for e in self._errors)
        if not measured:
            return ""
        share = 100 * sum(abs(e["error"]) for e in self._errors) / measured
        both = [e for e in self._errors if e.get("naive_error") is not None]
        naive = sum(abs(e["naive_error"]) for e in both)
        relative = f", rMAE {sum(abs(e['error']) for e in both) / naive:.2f}" if naive else ""
        return f", {len(self._errors)} intervals measured, {share:.1f} % off{relative}"

    def close(self) -> None:
        """Stop reading."""
        if self._tail is not None:
            self._tail.close()
