"""The view of a stream of predictions: the newest value of every key, points for charts, and how well it goes."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Records
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.predictions import read_predictions
from kappawatt.streams.stream import Stream

from .rejections import Rejections, brief
from .view import PROBES, Events, Followed, KnownIds, Reread, Span

__all__ = ["CHART_POINTS", "PREDICTION", "REJECTION", "PredictionsView"]

PREDICTION = "prediction"
REJECTION = "rejection"
ANSWERS_SPAN = Span(2_000, 50_000)
DEAD_SPAN = Span(2_000, math.inf)
MOST_RECORDS = 50  # of one poll; each may be a block of 10,000 rows
MOST_KEYS = 10_000  # keys with a latest value
CHART_KEYS = 128  # keys with points for charts, the ones that wrote last
CHART_POINTS = 2_000  # a key
ERROR_WINDOW = 5_000  # predictions with a measured value that the running error looks back on
LATENCY_WINDOW = 5_000
RATE_SECONDS = 10  # throughput is the mean over so many whole seconds
LATENCY_MOST_MS = 3_600_000  # an older event time is the plant's history fed in, and says nothing about latency
SUMMARY_SECONDS = 0.25
NOMINAL_COVERAGE = 0.9

POINT = ("event_time", "predicted", "lower", "upper", "measured", "extrapolated")


class PredictionsView:
    """Newest values and running figures of one stream of predictions.

    Parameters
    ----------
    stream : Stream
        Its target is the response field that is predicted; `measured_TARGET`, `TARGET_lower` and `_upper` go with it.
    rejections : Rejections, optional
        Where refused readings of all streams are counted.
    """

    most_records = MOST_RECORDS

    def __init__(
        self,
        stream: Stream,
        rejections: Rejections | None = None,
        *,
        span: Span = ANSWERS_SPAN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.stream = stream
        self._rejections = Rejections() if rejections is None else rejections
        self._span = span
        self._target = stream.target
        self._clock = clock
        self._lock = threading.Lock()
        self._followed: Followed | None = None
        self._latest: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._points: OrderedDict[str, deque[tuple[Any, ...]]] = OrderedDict()
        self._ids = KnownIds()
        self._errors: deque[tuple[float, float, float]] = deque(maxlen=ERROR_WINDOW)
        self._latencies: deque[int] = deque(maxlen=LATENCY_WINDOW)
        self._per_second: OrderedDict[int, int] = OrderedDict()
        self._model: tuple[str | None, str | None] = (None, None)
        self._summary: tuple[float, dict[str, Any]] | None = None

    # --- written by the follower ----------------------------------------------------------------------------

    @property
    def topics(self) -> Mapping[str, Span]:
        """Predictions, and readings that were refused."""
        return {self.stream.answers.name: self._span, self.stream.dead.name: DEAD_SPAN}

    @property
    def reread(self) -> Reread:
        """Every prediction comes once to each client."""
        return read_events

    def follow(self, followed: Followed) -> None:
        """Start the running error anew if another topic serves from now on."""
        with self._lock:
            if self._followed is not None and self._followed.topic != followed.topic:
                self._errors.clear()
                self._points.clear()
            self._followed = followed
            self._summary = None

    def take(self, records: Records, start: int) -> Events:
        """Take in predictions or dead letters, and return them as events."""
        events = read_events(records, start, self._followed or Followed(self.stream))
        if events.kind == PREDICTION:
            self.add_predictions(events.documents)
        else:
            self._rejections.add(events.documents)
        return events

    def add_predictions(self, predictions: Iterable[Mapping[str, Any]]) -> None:
        """Take in predictions in the order they were published."""
        with self._lock:
            for prediction in predictions:
                self._add(prediction)

    def _add(self, prediction: Mapping[str, Any]) -> None:
        identity = prediction.get("id")
        if not isinstance(identity, str) or self._ids.has(identity):
            return
        key = prediction.get("key") or ""
        if key.startswith(PROBES):
            return
        self._latest[key] = dict(prediction)
        self._latest.move_to_end(key)
        if len(self._latest) > MOST_KEYS:
            self._latest.popitem(last=False)
        model = (prediction.get("model"), prediction.get("version"))
        if model != self._model:
            self._model = model
            self._errors.clear()  # the error of two versions together is that of neither
        moment = _milliseconds(prediction.get("event_time"))
        self._note_time(prediction["published"], prediction["published"] if moment is None else moment)
        point = self._point(prediction)
        if point is None:  # an answer in words has no place on an axis
            return
        self._add_point(key, point)
        _, predicted, lower, upper, measured, _ = point
        if measured is not None:
            inside, width = math.nan, math.nan
            if lower is not None and upper is not None:
                inside, width = float(lower <= measured <= upper), upper - lower
            self._errors.append((predicted - measured, inside, width))

    def _point(self, prediction: Mapping[str, Any]) -> tuple[Any, ...] | None:
        target = self._target
        predicted = _number(prediction.get(target))
        moment = _milliseconds(prediction.get("event_time"))
        if predicted is None:
            return None
        return (
            prediction["published"] if moment is None else moment,
            predicted,
            _number(prediction.get(f"{target}_lower")),
            _number(prediction.get(f"{target}_upper")),
            _number(prediction.get(f"measured_{target}")),
            bool(prediction.get("extrapolated")),
        )

    def _add_point(self, key: str, point: tuple[Any, ...]) -> None:
        points = self._points.get(key)
        if points is None:
            points = self._points[key] = deque(maxlen=CHART_POINTS)
            if len(self._points) > CHART_KEYS:
                self._points.popitem(last=False)
        else:
            self._points.move_to_end(key)
        points.append(point)

    def _note_time(self, published: int, event_time: int) -> None:
        latency = published - event_time
        if 0 <= latency <= LATENCY_MOST_MS:
            self._latencies.append(latency)
        second = published // 1000
        self._per_second[second] = self._per_second.get(second, 0) + 1
        while len(self._per_second) > 4 * RATE_SECONDS:
            self._per_second.popitem(last=False)

    # --- read by routes -------------------------------------------------------------------------------------

    def latest(self, key: str) -> dict[str, Any] | None:
        """Return the newest prediction of `key`; None if there is none."""
        with self._lock:
            return self._latest.get(key)

    def all_latest(self) -> list[dict[str, Any]]:
        """Return the newest prediction of each key, the key that wrote last first."""
        with self._lock:
            return list(reversed(self._latest.values()))

    def points(self, key: str | None, most: int) -> dict[str, Any]:
        """Return the last `most` points of `key` (None: that which wrote last), in columns, oldest first."""
        with self._lock:
            if key is None:
                key = next(reversed(self._points), None)
            points: Sequence[tuple[Any, ...]] = list(self._points.get(key or "", ()) if key is not None else ())
        points = points[-most:]
        columns = zip(*points, strict=True) if points else [[] for _ in POINT]
        return {"key": key, **{name: list(column) for name, column in zip(POINT, columns, strict=True)}}

    def summary(self) -> dict[str, Any]:
        """Return error, coverage, throughput, latency, refusals and what serves now."""
        now = time.monotonic()
        with self._lock:
            if self._summary is None or now - self._summary[0] > SUMMARY_SECONDS:
                self._summary = (now, self._measure())
            measured = dict(self._summary[1])
            followed = self._followed
        model, version = measured.pop("model")
        serving = None
        if followed is not None:
            promoted = followed.serving
            serving = {
                "stream": self.stream.answers.name,
                "topic": followed.topic,
                "model": model,
                "version": version or (promoted and promoted.version) or None,
                "promoted_at": (promoted and promoted.promoted_at) or None,
                "reason": (promoted and promoted.reason) or None,
            }
        return {"serving": serving, **measured, "rejections": self._rejections.counts()}

    def _measure(self) -> dict[str, Any]:
        with np.errstate(over="ignore", invalid="ignore"):  # what is infinite is null in JSON
            return self._figures(np.array(self._errors, dtype=np.float64).reshape(-1, 3))

    def _figures(self, errors: NDArray[np.float64]) -> dict[str, Any]:
        count = len(errors)
        latencies = np.array(self._latencies, dtype=np.float64)
        p50, p99 = np.percentile(latencies, (50, 99)).tolist() if len(latencies) else (None, None)
        intervals = errors[~np.isnan(errors[:, 2])]
        return {
            "model": self._model,
            "error": {
                "count": count,
                "mae": float(np.abs(errors[:, 0]).mean()) if count else None,
                "rmse": float(np.sqrt((errors[:, 0] ** 2).mean())) if count else None,
                "bias": float(errors[:, 0].mean()) if count else None,
                "window": ERROR_WINDOW,
            },
            "interval": {
                "nominal": NOMINAL_COVERAGE,
                "coverage": float(intervals[:, 1].mean()) if len(intervals) else None,
                "mean_width": float(intervals[:, 2].mean()) if len(intervals) else None,
            },
            "predictions_per_second": self._rate(),
            "latency": {"p50_ms": p50, "p99_ms": p99, "count": len(latencies)},
            "keys": len(self._latest),
        }

    def _rate(self) -> float:
        current = int(self._clock())  # the second that runs is not over, so it does not count
        seconds = range(current - RATE_SECONDS, current)
        return sum(self._per_second.get(second, 0) for second in seconds) / RATE_SECONDS


def read_events(records: Records, start: int, followed: Followed) -> Events:
    """Return what `records`, polled from `start` on, hold: dead letters, or predictions for readings of the stream."""
    documents: list[Mapping[str, Any]]
    if records.topic == followed.dead:
        kind, documents, offsets = REJECTION, [], []
        for i, offset in enumerate(records.offsets):
            for letter in read_dead_letters([records.pick([i])]):
                documents.append(brief(letter))
                offsets.append(offset)
    else:
        source = followed.stream.readings.name
        kind, documents = PREDICTION, [p for p in read_predictions([records]) if p.get("source_topic") == source]
        offsets = [prediction["offset"] for prediction in documents]
    end = records.next_offset
    rows = len(documents)
    return Events(records.topic, records.partition, start, end, kind, documents, offsets, rows=rows, log=records.log)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _milliseconds(text: Any) -> int | None:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None
