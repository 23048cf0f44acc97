"""What is kept of one forecast series: its newest forecasts, what was measured, and the errors. Bounded arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import Times, to_local, zone_named
from kappawatt.forecasting.fan import checked_levels, level_text
from kappawatt.forecasting.grid import shown_most
from kappawatt.messages.forecasts import dated, instant, instants, with_available_at
from kappawatt.streams.stream import Stream

from .forecast_score import ERROR, Errors, Sums, last_known, sums

__all__ = ["KeptFan", "Series", "available", "read_error", "read_fan"]

KEPT_DAYS = 10  # of measured values
# Of all but the newest forecast only these quantiles are kept, and the outer ones.
BANDS = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_INTERVALS = 300  # of one forecast: 25 hours of five minutes
ISSUES = 2  # a day, whose errors of ten days are kept however short intervals are
DAY_SECONDS = 86_400
LARGEST = float(np.finfo(np.float32).max)
ROOM = 128  # errors; arrays grow by half, and by so many at least
Seconds = NDArray[np.int64]  # since the epoch, UTC
ErrorRow = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class KeptFan:
    """One forecast.

    Parameters
    ----------
    facts : mapping of str to object
        The document's fields but for times and quantiles.
    issue_time, available_at : int
        Seconds since the epoch; what a correction says was available later than it was issued.
    targets : ndarray of shape (n,)
    levels : tuple of float
    quantiles : ndarray of float32, shape (n, n_levels)
    """

    facts: Mapping[str, Any]
    issue_time: int
    available_at: float
    targets: Seconds
    levels: tuple[float, ...]
    quantiles: NDArray[np.float32]

    def reduced(self) -> KeptFan:
        """The same with fewer quantiles."""
        bands = _bands(self.levels)
        if self.levels == bands:
            return self
        places = [self.levels.index(level) for level in bands]
        return replace(self, levels=bands, quantiles=np.ascontiguousarray(self.quantiles[:, places]))

    def document(self) -> dict[str, Any]:
        """Return the forecast as the API answers it."""
        columns = np.ascontiguousarray(self.quantiles.T)
        return {
            **self.facts,
            "target_time": _texts(self.targets),
            "quantiles": {level_text(level): columns[i] for i, level in enumerate(self.levels)},
        }


FACTS = (
    "id", "key", "issue_time", "corrected", "time_zone", "step_seconds", "target", "unit", "day",
    "trusted_until", "filled", "suspect", "suspect_spans", "warnings",
    "fallback", "fallback_reason", "model", "version", "published",
)  # fmt: skip


def _bands(levels: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(level for level in levels if level in BANDS or level in (levels[0], levels[-1]))


def read_fan(document: Mapping[str, Any]) -> KeptFan | None:
    """Return a forecast off the bus; None if the document is none."""
    try:
        targets = np.array([text.removesuffix("Z") for text in document["target_time"]], "datetime64[s]")
        levels = checked_levels(tuple(float(text) for text in document["quantiles"]))
        with np.errstate(over="ignore"):
            columns = np.array(list(document["quantiles"].values()), np.float32)
        zone_named(document["time_zone"])
        if columns.shape != (len(levels), len(targets)) or not 0 < len(targets) <= MOST_INTERVALS:
            return None
        if not np.isfinite(columns).all() or int(document["step_seconds"]) <= 0:
            return None
        day = {
            str(name): {level_text(level): float(figure[level_text(level)]) for level in _bands(levels)}
            for name, figure in (document.get("day") or {}).items()
        }
        dates = available(document)
        return KeptFan(
            {**{name: document.get(name) for name in FACTS}, **dates, "day": day},
            int(_seconds(document["issue_time"])),
            _seconds(dates["available_at"]),
            targets.astype(np.int64),
            levels,
            np.ascontiguousarray(columns.T),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SettingInvalid):
        return None


def read_error(document: Mapping[str, Any], version: int) -> ErrorRow | None:
    """Return a realised error off the bus as the values of one `ERROR`; None if the document is none."""
    try:
        naive = document.get("naive_error")
        numbers = [float(document[name]) for name in ("measured", "forecast", "error", "lower", "upper", "crps")]
        numbers.insert(3, 0.0 if naive is None else float(naive))
        if not all(abs(number) <= LARGEST for number in numbers):  # false for NaN
            return None
        numbers[3] = math.nan if naive is None else numbers[3]
        issue_time, target_time = int(_seconds(document["issue_time"])), int(_seconds(document["target_time"]))
        return (issue_time, target_time, *numbers, version, document.get("fallback") is True)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def available(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return when what a document says was available, under the names that documents have."""
    return dated(with_available_at(document).get("available_at"))


def _seconds(text: str) -> float:
    moment = np.datetime64(text.removesuffix("Z"), "ms")
    if np.isnat(moment):
        raise ValueError(text)
    return float(moment.astype(np.int64)) / 1000


def _texts(seconds: Seconds) -> list[str]:
    return instants(seconds.astype("datetime64[s]"))


def _instants(seconds: Seconds) -> Times:
    return seconds.astype("datetime64[s]").astype("datetime64[ms]")


@dataclass(slots=True)
class Series:
    """One series of a stream."""

    stream: Stream
    key: str
    time_zone: str | None = None
    step: int = 0
    fans: list[KeptFan] = field(default_factory=list)  # by issue time, oldest first
    times: Seconds = field(default_factory=lambda: np.empty(0, np.int64))
    values: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    error_version: int | None = None
    _errors: Errors = field(default_factory=lambda: np.empty(0, ERROR))
    _n_errors: int = 0
    _newest_error: int = -1
    _sums: dict[tuple[int, str | None], Sums] | None = None

    @property
    def errors(self) -> Errors:
        """Realised errors, in the order they came."""
        return self._errors[: self._n_errors]

    @property
    def step_seconds(self) -> int:
        """Length of an interval [s]: as forecasts or readings say, else as what was measured shows."""
        shown = None if self.step else shown_most(self.times.astype("datetime64[s]"), self.stream.steps)
        return self.step or shown or self.stream.supposed_step

    @property
    def newest(self) -> KeptFan | None:
        """The forecast that was issued last."""
        return self.fans[-1] if self.fans else None

    # --- written ------------------------------------------------------------------------------------------------

    def add_fan(self, fan: KeptFan) -> bool:
        """Note a forecast; a correction takes the place of what it corrects. Return whether it is news."""
        at = next((i for i, known in enumerate(self.fans) if known.issue_time == fan.issue_time), None)
        if at is not None:
            known = self.fans[at]
            if known.facts["version"] == fan.facts["version"] and known.available_at > fan.available_at:
                return False  # a worker that starts again publishes the forecast again, and then the correction
            self.fans[at] = fan
        else:
            self.fans.append(fan)
            self.fans.sort(key=lambda fan: fan.issue_time)
            del self.fans[: -self.stream.view.kept_answers]
        self.fans[:-1] = [fan.reduced() for fan in self.fans[:-1]]
        if self.time_zone != fan.facts["time_zone"]:
            self.time_zone = fan.facts["time_zone"]
            self._sums = None
        self.step = int(fan.facts["step_seconds"])
        return True

    def add_error(self, row: ErrorRow) -> None:
        """Note a realised error; the same interval of the same forecast again is a revision of the truth."""
        self._sums = None
        issue_time, target_time, self.error_version = row[0], row[1], row[-2]
        if target_time <= self._newest_error:
            known = self.errors
            same = (known["target_time"] == target_time) & (known["issue_time"] == issue_time)
            at = np.flatnonzero(same & (known["version"] == row[-2]))
            if len(at):
                known[at[-1]] = row
                return
        self._newest_error = max(self._newest_error, target_time)
        if self._n_errors == len(self._errors):
            kept = self.errors
            most = max(self.stream.view.kept_errors, ISSUES * KEPT_DAYS * DAY_SECONDS // self.step_seconds)
            if len(kept) >= most:
                kept = kept[len(kept) - most + most // 8 :]  # make room for some, not for each
            room = np.empty(min(most, max(len(kept) * 3 // 2, len(kept) + ROOM)), ERROR)
            room[: len(kept)] = kept
            self._errors, self._n_errors = room, len(kept)
        self._errors[self._n_errors] = row
        self._n_errors += 1

    def add_measured(self, times: Seconds, values: NDArray[np.float32], step: int, time_zone: str | None) -> None:
        """Note measured intervals; the last word on an interval counts."""
        if time_zone and self.time_zone is None:
            self.time_zone = time_zone
        if step and not self.fans:
            self.step = step
        if not len(self.times) or times[0] > self.times[-1]:
            all_times, all_values = np.concatenate([self.times, times]), np.concatenate([self.values, values])
            if len(times) > 1 and not (np.diff(times) > 0).all():
                all_times, all_values = _newest_word(all_times, all_values)
        else:
            all_times = np.concatenate([self.times, times])
            all_values = np.concatenate([self.values, values])
            all_times, all_values = _newest_word(all_times, all_values)
        first = np.searchsorted(all_times, all_times[-1] - KEPT_DAYS * DAY_SECONDS, side="right")
        self.times, self.values = all_times[first:].copy(), all_values[first:].copy()

    # --- read ---------------------------------------------------------------------------------------------------

    def sums(self) -> dict[tuple[int, str | None], Sums]:
        """Return what scores are made of, by version: of the forecast known last before each interval (None),
        and by the local time of day at which forecasts are issued.
        """
        if self._sums is None:
            found: dict[tuple[int, str | None], Sums] = {}
            versions = set(self.errors["version"].tolist())
            for version in versions:
                own = self.errors if len(versions) == 1 else self.errors[self.errors["version"] == version]
                issues, place = np.unique(own["issue_time"], return_inverse=True)
                clocks = self._clocks(issues)
                names = sorted(set(clocks))
                found[version, None] = sums(last_known(own))
                if len(names) == 1:
                    found[version, names[0]] = found[version, None]
                else:
                    by_place = np.array(clocks, dtype=np.str_)[place]
                    found.update({(version, name): sums(own[by_place == name]) for name in names})
            self._sums = found
        return self._sums

    def day_errors(self, fan: KeptFan) -> Errors:
        """Return the errors of one forecast."""
        errors: Errors = self.errors[self.errors["issue_time"] == fan.issue_time]
        return errors

    def day_measured(self, fan: KeptFan) -> dict[str, Any]:
        """Return what was measured of the day as a whole: each figure, and of how many intervals."""
        end = fan.targets[-1] + int(fan.facts["step_seconds"])
        inside = (self.times >= fan.targets[0]) & (self.times < end)
        values = self.values[inside].astype(np.float64)
        found: dict[str, Any] = {"intervals": len(values), "of": len(fan.targets)}
        for name, how in self.stream.view.day_figures:
            found[name] = None if not len(values) else float(values.sum() if how == "sum" else values.max())
        return found

    def measured(self) -> dict[str, Any]:
        """Return the measured intervals in columns."""
        return {"target_time": _texts(self.times), "value": self.values}

    def error_columns(self) -> dict[str, Any]:
        """Return the errors of the days that are kept, in columns."""
        first = self.times[0] if len(self.times) else 0
        recent = self.errors[self.errors["target_time"] >= first]
        names = ("measured", "forecast", "error", "naive_error", "lower", "upper", "crps", "fallback")
        return {
            "issue_time": _texts(recent["issue_time"]),
            "target_time": _texts(recent["target_time"]),
            **{name: np.ascontiguousarray(recent[name]) for name in names},
        }

    def measured_until(self) -> str | None:
        """Return the end of the newest measured interval."""
        if not len(self.times):
            return None
        return instant(np.datetime64(int(self.times[-1]) + self.step_seconds, "s"))

    def _clocks(self, seconds: Seconds) -> list[str]:
        """The local time of day of each instant, `12:00`."""
        local = to_local(_instants(seconds), self.time_zone or "UTC")
        return [text[11:] for text in np.datetime_as_string(local, unit="m").tolist()]


def _newest_word(times: Seconds, values: NDArray[np.float32]) -> tuple[Seconds, NDArray[np.float32]]:
    """Sort by time; of several values of one interval keep the one that came last."""
    found, places = np.unique(times[::-1], return_index=True)
    return found, values[::-1][places]
