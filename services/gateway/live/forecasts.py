"""The read model of one stream of forecasts: newest fans, measured values and live score of every series, bounded.
No input, no output, no thread: `forecast_follow.py` feeds it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from kappawatt.forecasting.calendar import Times

from .forecast_score import add_up, score, sums
from .forecast_series import KeptFan, Series, read_error, read_fan
from .forecast_streams import ForecastStream
from .predictions import PROBES

__all__ = ["ForecastView"]

MOST_VERSIONS = 1_000
SCORE_SECONDS = 0.5
LISTED = (
    "issue_time", "known_at", "corrected", "filled", "fallback", "fallback_reason", "model", "version", "published",
)  # fmt: skip


class ForecastView:
    """Newest forecasts and running scores of one stream.

    Parameters
    ----------
    stream : ForecastStream
    """

    def __init__(self, stream: ForecastStream) -> None:
        self.stream = stream
        self._lock = threading.Lock()
        self._series: OrderedDict[str, Series] = OrderedDict()
        self._versions: dict[str, int] = {}
        self._version: str | None = None
        self._scores: tuple[float, dict[str, Any]] | None = None

    # --- written by the follower ----------------------------------------------------------------------------

    def add_forecasts(self, documents: Iterable[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
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

    def add_errors(self, documents: Iterable[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
        """Take in realised errors in the order they were published; return them by series."""
        news = []
        with self._lock:
            for document in documents:
                key = document.get("key")
                row = read_error(document, self._number(str(document.get("version"))))
                if row is None or not _is_series(key):
                    continue
                self._one(key).add_error(row)
                news.append((key, dict(document)))
        return news

    def add_readings(
        self,
        keys: Sequence[str],
        starts: Times,
        values: NDArray[np.float64],
        steps: NDArray[np.int64],
        time_zones: Sequence[str | None],
    ) -> list[tuple[str, dict[str, Any]]]:
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
        names = np.array(keys, dtype=object)
        seconds = starts.astype("datetime64[s]").astype(np.int64)
        measured = values.astype(np.float32)
        news = []
        with self._lock:
            for key in filter(_is_series, dict.fromkeys(keys)):
                own = np.flatnonzero(names == key)
                series = self._one(key)
                last = int(own[-1])
                series.add_measured(seconds[own], measured[own], int(steps[last]), time_zones[last])
                news.append((key, {"target_time": starts[own], "value": measured[own]}))
        return news

    def forget_forecasts(self) -> None:
        """Drop forecasts: another topic serves from now on. Errors stay, they know their version."""
        with self._lock:
            for series in self._series.values():
                series.fans.clear()
            self._scores = None

    def _one(self, key: str) -> Series:
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(self.stream, key)
            if len(self._series) > self.stream.most_keys:
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
                    "unit": self.stream.target.unit,
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

    def _row(self, series: Series) -> dict[str, Any]:
        facts: Mapping[str, Any] = series.newest.facts if series.newest else {}
        return {
            "service": self.stream.service,
            "key": series.key,
            "target": self.stream.target.name,
            "unit": self.stream.target.unit,
            "time_zone": series.time_zone,
            "step_seconds": series.step or self.stream.step,
            **{name: facts.get(name) for name in LISTED},
            "measured_until": series.measured_until(),
            "score": self._score([series], self._version_of(series)),
        }

    def _forecast(self, series: Series, fan: KeptFan) -> dict[str, Any]:
        return {
            **fan.document(),
            "day_measured": series.day_measured(fan),
            "score": score(sums(series.day_errors(fan)), percent=self.stream.percent),
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
        return score(parts[0] if len(parts) == 1 else add_up(parts), percent=self.stream.percent)

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
