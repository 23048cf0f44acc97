"""The view of a stream of forecasts: newest fans, measured values and live score of every series."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Records
from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import Times, zone_named
from kappawatt.forecasting.forecaster import UNNAMED
from kappawatt.forecasting.grid import AHEAD_MOST
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.forecasts import read_documents
from kappawatt.messages.keys import key_text
from kappawatt.messages.portions import portions
from kappawatt.messages.readings import decode_records, runs_of_content_type
from kappawatt.streams.series import INTERVAL_SECONDS, INTERVAL_START, TIME_ZONE
from kappawatt.streams.stream import Form, Stream

from .forecast_score import add_up, score, sums
from .forecast_series import KeptFan, Series, available, read_error, read_fan
from .rejections import Rejections
from .view import PROBES, Events, Followed, Span

__all__ = ["ForecastsView"]

FORECAST = "forecast"
FORECAST_ERROR = "forecast-error"
READING = "reading"
FORECASTS_SPAN = Span(4_000, 8_000)
ERRORS_SPAN = Span(50_000, 200_000)
READINGS_SPAN = Span(20_000, 2_000_000)  # each may be a block of 10,000 rows
DEAD_SPAN = Span(500, 20_000)
MOST_RECORDS = 2_000  # of one poll
MOST_VERSIONS = 1_000
SCORE_SECONDS = 0.5
LISTED = (
    "issue_time", "available_at", "known_at", "corrected", "filled", "suspect", "fallback", "fallback_reason",
    "model", "version", "published",
)  # fmt: skip


Measured = tuple[Sequence[str], Times, NDArray[np.float64], NDArray[np.int64], Sequence[str | None]]
"""Series, starts, values, lengths [s] and time zones of intervals, as `ForecastsView.add_readings` takes them."""
News = list[tuple[str, dict[str, Any]]]
"""What is new, by series."""


class ForecastsView:
    """Newest forecasts and running scores of one stream.

    Parameters
    ----------
    stream : Stream
        One that is forecast.
    rejections : Rejections, optional
        Where refused readings of all streams are counted.
    """

    most_records = MOST_RECORDS
    reread = None  # a forecast is a state that the next one replaces

    def __init__(self, stream: Stream, rejections: Rejections | None = None) -> None:
        self.stream = stream
        self._rejections = Rejections() if rejections is None else rejections
        self._target = stream.schema.field(stream.target)
        self._forms = {topic.name: form for topic, form in stream.forms}
        self._topic: str | None = None
        self._lock = threading.Lock()
        self._series: OrderedDict[str, Series] = OrderedDict()
        self._versions: dict[str, int] = {}
        self._version: str | None = None
        self._scores: tuple[float, dict[str, Any]] | None = None

    # --- written by the follower ----------------------------------------------------------------------------

    @property
    def topics(self) -> Mapping[str, Span]:
        """Forecasts, realised errors, readings, and readings that were refused."""
        return {
            self.stream.answers.name: FORECASTS_SPAN,
            self.stream.forecast_errors.name: ERRORS_SPAN,
            self.stream.readings.name: READINGS_SPAN,
            self.stream.dead.name: DEAD_SPAN,
        }

    def follow(self, followed: Followed) -> None:
        """Drop forecasts if another topic serves from now on. Errors stay, they know their version."""
        with self._lock:
            if self._topic not in (None, followed.topic):
                for series in self._series.values():
                    series.fans.clear()
                self._scores = None
            self._topic = followed.topic

    def take(self, records: Records, start: int) -> Events:
        """Take in what a topic of the stream holds, and return what is news."""
        form = self._forms.get(records.topic, Form.FORECASTS)  # a promoted replay has a topic of its own
        kind, news, rows = READING, [], len(records)
        if form is Form.FORECASTS:
            kind, news = FORECAST, self.add_forecasts(read_documents([records]))
        elif form is Form.FORECAST_ERRORS:
            kind, news = FORECAST_ERROR, self.add_errors(read_documents([records]))
        elif form is Form.DEAD_LETTERS:
            self._rejections.add(read_dead_letters([records]))
        else:
            rows = 0
            for n, measured in self._read(records):
                rows += n
                news += self.add_readings(*measured)
        documents: list[Mapping[str, Any]] = [
            {"service": self.stream.service, "key": key, **document} for key, document in news
        ]
        return Events(
            records.topic,
            records.partition,
            start,
            records.next_offset,
            kind,
            documents,
            [records.offsets[-1]] * len(documents),
            rows=rows,
            are_counted=kind != READING,
            log=records.log,
        )

    def _read(self, records: Records) -> Iterator[tuple[int, Measured]]:
        """Yield how many rows messages of one kind have, and those of them that the worker takes: they keep the
        schema, have a value, and do not come from a wrong clock.
        """
        runs = ((kind, part) for kind, run in runs_of_content_type(records) for few in portions([run]) for part in few)
        for kind, part in runs:
            decoded = decode_records([part], kind, self.stream.schema)  # what is refused is a dead letter
            columns = decoded.batch.columns
            now = time.time_ns() // 1_000_000  # who sends says when a message arrived, and may say anything
            arrived = np.array([min(stamp, now) for stamp in part.timestamps], "datetime64[ms]")[decoded.message]
            values, starts = columns[self._target.name], columns[INTERVAL_START.name]
            kept = np.flatnonzero(decoded.batch.valid & ~np.isnan(values) & (starts <= arrived + AHEAD_MOST))
            sent = [part.keys[m] for m in decoded.message[kept].tolist()]
            named = columns[self.stream.key.name][kept].tolist() if self.stream.names_key else [None] * len(kept)
            keys = [own or _text(key) for own, key in zip(named, sent, strict=True)]
            seconds = columns.get(INTERVAL_SECONDS, np.zeros(len(values)))[kept]
            steps = np.where(np.isnan(seconds), 0, seconds).astype(np.int64)
            zones = _known_zones(columns[TIME_ZONE.name][kept].tolist())
            yield len(decoded.batch), (keys, starts[kept], values[kept], steps, zones)

    def add_forecasts(self, documents: Iterable[Mapping[str, Any]]) -> News:
        """Take in forecasts in the order they were published; return those that are news, by series."""
        news = []
        with self._lock:
            for document in documents:
                fan = read_fan(document)
                key = document.get("key")
                if fan is None or not _is_series(key):
                    continue
                if self._one(key).add_fan(fan):
                    self._version = str(fan.facts["version"])
                    news.append((key, fan.document()))
        return news

    def add_errors(self, documents: Iterable[Mapping[str, Any]]) -> News:
        """Take in realised errors in the order they were published; return them by series."""
        news = []
        with self._lock:
            for document in documents:
                key = document.get("key")
                row = read_error(document, self._number(str(document.get("version"))))
                if row is None or not _is_series(key):
                    continue
                self._one(key).add_error(row)
                news.append((key, {**document, **available(document)}))
        return news

    def add_readings(
        self,
        keys: Sequence[str],
        starts: Times,
        values: NDArray[np.float64],
        steps: NDArray[np.int64],
        time_zones: Sequence[str | None],
    ) -> News:
        """Take in measured intervals in the order they were published; return them by series.

        Parameters
        ----------
        keys : sequence of str, length n
        starts : ndarray of datetime64, shape (n,)
        values : ndarray of shape (n,)
        steps : ndarray of int, shape (n,)
            Length of each interval [s]; 0 where the reading does not say.
        time_zones : sequence of str or None, length n
        """
        places: dict[str, list[int]] = {}  # numpy would take a name that ends in NULs for the one without
        for place, key in enumerate(keys):
            places.setdefault(key, []).append(place)
        seconds = starts.astype("datetime64[s]").astype(np.int64)
        measured = values.astype(np.float32)
        news = []
        with self._lock:
            for key in filter(_is_series, places):
                own = np.array(places[key])
                series = self._one(key)
                last = int(own[-1])
                series.add_measured(seconds[own], measured[own], int(steps[last]), time_zones[last])
                news.append((key, {"target_time": starts[own], "value": measured[own]}))
        return news

    def _one(self, key: str) -> Series:
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(self.stream, key)
            if len(self._series) > self.stream.view.most_keys:
                self._series.popitem(last=False)
        else:
            self._series.move_to_end(key)
        return series

    def _number(self, version: str) -> int:
        if version not in self._versions and len(self._versions) < MOST_VERSIONS:
            self._versions[version] = len(self._versions)
        return self._versions.get(version, 0)

    # --- read by routes -------------------------------------------------------------------------------------

    def listed(self) -> list[dict[str, Any]]:
        """Return every series with its newest forecast and score, by name."""
        with self._lock:
            return [self._row(series) for _, series in sorted(self._series.items())]

    def row(self, key: str) -> dict[str, Any] | None:
        """Return one row of the list; None if there is no such series."""
        with self._lock:
            series = self._series.get(key)
            return None if series is None else self._row(series)

    def one(self, key: str) -> dict[str, Any] | None:
        """Return all that is kept of one series; None if there is no such series."""
        with self._lock:
            series = self._series.get(key)
            if series is None:
                return None
            forecasts = [self._forecast(series, fan) for fan in reversed(series.fans)]
            return {
                **self._row(series),
                "forecast": forecasts[0] if forecasts else None,
                "earlier": forecasts[1:],
                "measured": series.measured(),
                "errors": series.error_columns(),
                "scores": self._by_version([series]),
            }

    def scores(self) -> dict[str, Any]:
        """Return the score of the stream, by version and issue clock, and of each of its series."""
        now = time.monotonic()
        with self._lock:
            if self._scores is None or now - self._scores[0] > SCORE_SECONDS:
                every = list(self._series.values())
                found = {
                    "service": self.stream.service,
                    "unit": self._target.unit,
                    "version": self._version,
                    "score": self._score(every, self._version),
                    "by_version": self._by_version(every),
                    "series": [
                        {"key": series.key, "version": version, "score": self._score([series], version)}
                        for series in sorted(every, key=lambda series: series.key)
                        if (version := self._version_of(series)) is not None
                    ],
                }
                self._scores = (now, found)
            return self._scores[1]

    def summary(self) -> dict[str, Any]:
        """Return the score of the stream."""
        return self.scores()

    def _row(self, series: Series) -> dict[str, Any]:
        facts: Mapping[str, Any] = series.newest.facts if series.newest else {}
        return {
            "service": self.stream.service,
            "key": series.key,
            "target": self._target.name,
            "unit": self._target.unit,
            "time_zone": series.time_zone,
            "step_seconds": series.step_seconds,
            **{name: facts.get(name) for name in LISTED},
            "measured_until": series.measured_until(),
            "score": self._score([series], self._version_of(series)),
        }

    def _forecast(self, series: Series, fan: KeptFan) -> dict[str, Any]:
        return {
            **fan.document(),
            "day_measured": series.day_measured(fan),
            "score": score(sums(series.day_errors(fan)), percent=self.stream.view.percent),
        }

    def _version_of(self, series: Series) -> str | None:
        """The version that answers a series: of its newest forecast if anything of it was measured already."""
        numbers = {number for number, _ in series.sums()}
        newest = str(series.newest.facts["version"]) if series.newest else None
        if newest is not None and self._versions.get(newest) in numbers:
            return newest
        if series.error_version is None:
            return newest
        return next(name for name, number in self._versions.items() if number == series.error_version)

    def _score(self, every: Sequence[Series], version: str | None, clock: str | None = None) -> dict[str, Any] | None:
        number = self._versions.get(version or "")
        if number is None:
            return None
        parts = [found[number, clock] for series in every if (number, clock) in (found := series.sums())]
        if not parts:
            return None
        return score(parts[0] if len(parts) == 1 else add_up(parts), percent=self.stream.view.percent)

    def _by_version(self, every: Sequence[Series]) -> list[dict[str, Any]]:
        known = {pair for series in every for pair in series.sums()}
        return [
            {
                "version": name,
                "score": self._score(every, name),
                "by_issue_time": {
                    clock: self._score(every, name, clock)
                    for clock in sorted(c for n, c in known if n == number and c is not None)
                },
            }
            for name, number in self._versions.items()
            if (number, None) in known
        ]


def _is_series(key: Any) -> TypeGuard[str]:
    return isinstance(key, str) and not key.startswith(PROBES)


def _known_zones(zones: Sequence[str | None]) -> list[str | None]:
    """The zones that exist, None for others."""
    known: dict[str | None, str | None] = {None: None}
    for zone in set(zones) - {None}:
        try:
            known[zone] = zone_named(zone or "")
        except SettingInvalid:
            known[zone] = None
    return [known[zone] for zone in zones]


def _text(key: bytes | None) -> str:
    return key_text(key) if key else UNNAMED
