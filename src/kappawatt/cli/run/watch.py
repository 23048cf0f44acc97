"""What passes on the bus, as an outsider sees it, in one line."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kappawatt.bus import Bus
from kappawatt.bus.interface import Records
from kappawatt.bus.promotions import PromotionFollower
from kappawatt.messages.forecasts import read_documents
from kappawatt.messages.predictions import read_predictions
from kappawatt.streams.stream import Stream

__all__ = ["ForecastWatch", "Watch", "ends_of"]

WINDOW = 10_000  # predictions and forecast intervals the running errors look back on


Since = Mapping[tuple[str, int], int]


def ends_of(bus: Bus, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """Return the end of each partition of some topics."""
    return {(topic, p): o.end for topic in topics for p, o in bus.offsets(topic).items()}


class _Tail:
    """What comes on an output stream from now on, wherever a promotion takes it, and on some more topics."""

    def __init__(self, bus: Bus, stream: str, others: Sequence[str] = (), since: Since | None = None) -> None:
        self._bus = bus
        self._others = others
        self._follower = PromotionFollower(bus, stream)
        serving = self._follower.read()
        self._open(serving.topic if serving else stream, since or {})

    def _open(self, topic: str, since: Since) -> None:
        topics = [topic, *self._others]
        ends = ends_of(self._bus, topics) | {place: at for place, at in since.items() if place[0] in topics}
        self._reader = self._bus.reader(topics, ends, max_records=50_000)

    def read(self) -> list[Records]:
        """Return what has come since the last call."""
        promoted = self._follower.poll()
        if promoted is not None:
            self._reader.close()
            self._open(promoted.topic, {})
        return self._reader.poll(0.0)

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()
        self._follower.close()


class Watch:
    """Counts what passes on the bus: readings by offsets, predictions one by one."""

    def __init__(self, bus: Bus, stream: Stream) -> None:
        self._bus = bus
        self._source = stream.readings.name
        self._target = stream.target
        self._unit = stream.answer.field(stream.target).unit
        self._tail = _Tail(bus, stream.answers.name)
        self._first = self._end()
        self.predictions = 0
        self.errors: deque[float] = deque(maxlen=WINDOW)
        self.latencies: deque[float] = deque(maxlen=WINDOW)

    def _end(self) -> int:
        return sum(o.end for o in self._bus.offsets(self._source).values())

    def look(self) -> str:
        """Read what has come and describe it."""
        measured = f"measured_{self._target}"
        while found := read_predictions(self._tail.read()):
            for p in found:
                self.predictions += 1
                if p.get(measured) is not None:
                    self.errors.append(abs(p[measured] - p[self._target]))
                arrived = np.datetime64(p["event_time"].removesuffix("Z")).astype("datetime64[ms]").astype(np.int64)
                self.latencies.append((p["published"] - int(arrived)) / 1000)
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
    _tail: _Tail | None = None

    def look(self) -> str:
        """Read what has come and describe it."""
        if self._tail is None:
            self._tail = _Tail(self.bus, self.stream.answers.name, [self.stream.forecast_errors.name], self.since)
        while found := read_documents(self._tail.read()):
            for document in found:
                if "quantiles" in document:
                    self.forecasts += 1
                elif "error" in document:
                    self._errors.append(document)
        return f"{self.stream.name} {self.forecasts} forecasts{self._score()}"

    def _score(self) -> str:
        """Mean absolute error as a share of the mean measured, and relative to the seasonal naive's."""
        measured = sum(abs(e["measured"]) for e in self._errors)
        if not measured:
            return ""
        share = 100 * sum(abs(e["error"]) for e in self._errors) / measured
        both = [e for e in self._errors if e["naive_error"] is not None]
        naive = sum(abs(e["naive_error"]) for e in both)
        relative = f", rMAE {sum(abs(e['error']) for e in both) / naive:.2f}" if naive else ""
        return f", {len(self._errors)} intervals measured, {share:.1f} % off{relative}"

    def close(self) -> None:
        """Stop reading."""
        if self._tail is not None:
            self._tail.close()
