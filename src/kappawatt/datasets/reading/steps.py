"""Series of one interval as another: means of power, sums of energy, differences of a register."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.reading.table import Fact
from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import Times, to_local
from kappawatt.forecasting.registers import daily_resets

__all__ = ["differences", "resampled"]

NOTHING = np.datetime64("NaT", "ms")
COUNTED = 0.25  # of the usual rise: from which on a reading at midnight holds an interval of the new day


def resampled(series: SeriesFile, step: int, *, sums: bool) -> SeriesFile:
    """Return a series in longer intervals of the local clock.

    An interval of which a part is missing is missing: a mean of the rest would be a guess.

    Parameters
    ----------
    step : int
        Length wanted [s], a multiple of the series' own.
    sums : bool
        Whether values add up (energy) instead of being averaged (power).

    Raises
    ------
    PayloadInvalid
        The wanted intervals are no multiples.
    """
    own = series.step
    if step < own or step % own:
        raise PayloadInvalid.of(
            "--resample", f"{step // 60} min of rows every {own / 60:g} min", "a multiple of theirs"
        )
    parts = step // own
    wall = to_local(series.starts, series.time_zone)
    offset = wall - series.starts
    begin: Times = np.subtract(
        (wall.astype(np.int64) // (step * 1000) * (step * 1000)).astype("datetime64[ms]"), offset
    )
    places, first = np.unique(begin, return_inverse=True)
    n = len(places)

    def joined(values: NDArray[np.float64]) -> NDArray[np.float64]:
        known = ~np.isnan(values)
        whole = np.bincount(first[known], minlength=n) == parts
        totals = np.bincount(first[known], weights=values[known], minlength=n)
        return np.where(whole, totals if sums else totals / parts, np.nan)

    covariates = {}
    for name, column in series.covariates.items():
        there = ~np.isnan(column)
        count = np.bincount(first[there], minlength=n)
        total = np.bincount(first[there], weights=column[there], minlength=n)
        covariates[name] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    published = np.full(n, np.iinfo(np.int64).min)
    dated = ~np.isnat(series.known)
    np.maximum.at(published, first[dated], series.known[dated].astype(np.int64))
    known_at = np.where(published > np.iinfo(np.int64).min, published, 0).astype("datetime64[ms]")
    known_at[published == np.iinfo(np.int64).min] = NOTHING
    return replace(
        series,
        step=step,
        starts=places,
        values=joined(series.values),
        known=known_at,
        covariates=covariates,
        forecasts={name: joined(column) for name, column in series.forecasts.items()},
    )


def differences(series: SeriesFile, facts: list[Fact]) -> SeriesFile:
    """Return what a register counted in each interval.

    Each interval is the difference from its reading to the next. Where the next is missing, or the register fell (it
    was reset, changed or rolled over), the interval is missing. A counter that begins every day anew loses nothing: the
    first reading after midnight is what was counted since. Where that one stands at 00:00 and is not zero, readings
    stand at the end of intervals that their labels begin.

    Raises
    ------
    PayloadInvalid
        There are less than two readings.
    """
    if len(series) < 2:
        raise PayloadInvalid.of(series.key or "series", f"{len(series)} readings of a register", "2 or more")
    gaps = np.diff(series.starts).astype(np.int64) != series.step * 1000
    found = np.diff(series.values)
    falls = found < 0
    found[gaps | falls] = np.nan
    facts.append(Fact("register", "differences of readings, each the interval's that begins with it", "--register"))
    resets = daily_resets(series.starts, series.values, series.step, series.time_zone)
    if len(resets):
        wall = to_local(series.starts[resets], series.time_zone)
        is_later = bool((wall != wall.astype("datetime64[D]")).any())
        if is_later or float(np.median(series.values[resets])) >= COUNTED * _usual_rise(found):
            return _of_days(series, found, resets, facts, is_later=is_later)
    if falls.any():
        at = str(series.starts[1:][falls][0].astype("datetime64[m]"))
        facts.append(
            Fact("register falls", f"{int(falls.sum())} times, first at {at}Z", "a reset or a rollover: missing")
        )
    return _between(series, found)


def _between(series: SeriesFile, values: NDArray[np.float64]) -> SeriesFile:
    """The series of what lies between each reading and the next."""
    covariates = {name: column[:-1] for name, column in series.covariates.items()}
    return replace(
        series, starts=series.starts[:-1], values=values, known=series.known[1:], covariates=covariates, forecasts={}
    )


def _of_days(
    series: SeriesFile, found: NDArray[np.float64], resets: NDArray[np.intp], facts: list[Fact], *, is_later: bool
) -> SeriesFile:
    """What a counter of each day counted, from its differences.

    Parameters
    ----------
    is_later : bool
        Whether its first reading of a day stands an interval after midnight, at the end of its interval.
    """
    step = np.timedelta64(series.step * 1000, "ms")
    whole = resets[series.starts[resets] - series.starts[resets - 1] == step]
    found[whole - 1] = series.values[whole]
    first = str(series.starts[resets[0]].astype("datetime64[m]"))
    why = f"first at {first}Z; the reading after it is what was counted since"
    facts.append(Fact("register is reset", f"every midnight, {len(resets)} times", why))
    if is_later:
        return _between(series, found)
    why = "the reading at 00:00 is of the day that begins, and not zero: each stands at the end of its interval"
    at = next((i for i, fact in enumerate(facts) if fact.name == "labels"), len(facts))
    facts[at : at + 1] = [Fact("labels", "start", why)]
    facts[:] = [fact for fact in facts if fact.name != "register"]
    facts.append(Fact("register", "differences of readings, each the interval's that ends with it", "--register"))
    local = to_local(series.starts[:1], series.time_zone)
    begins = bool((local == local.astype("datetime64[D]")).all())
    values = np.concatenate([[series.values[0] if begins else np.nan], found])
    return replace(series, values=values)


def _usual_rise(found: NDArray[np.float64]) -> float:
    rises = found[np.isfinite(found) & (found > 0)]
    return float(np.median(rises)) if len(rises) else np.inf
