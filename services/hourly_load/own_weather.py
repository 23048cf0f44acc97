"""What weather changes, as a series' own last weeks show it: for models that were not trained with it.

A model answers from the load's own past, which holds the weather of yesterday and of last week. What is new tomorrow is
how far its weather lies from these. A small ridge regression for each hour of the day, on the weeks that calibration
forecasts again anyway, learns what such a change has brought beside the model's answer: a season's slope of heating or
cooling, the sun on roofs, anything a user knows ahead. Every covariate of the series is used alike, and answers move by
as much as would have been best on days that were not learned from: not at all where it told nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .own_weeks import days_apart
from .skill import share_of
from .temperature import Course, course_of, newest_day
from .wall_clock import HOURS, Cells, WallClock

__all__ = ["Covariate", "covariates_of", "shifts_of", "with_weather"]

Matrix = NDArray[np.float64]

OWN = "covariate"  # of a user's, each another thing
NUMBER = re.compile(r"_[0-9]+$")
HEATING, COOLING = 14.0, 18.0  # degC below and above which buildings are heated and cooled
FEWEST_DAYS = 28  # known, of the weeks before
PENALTY = 10.0  # in days; terms are standardised
USUAL_TERMS = 8  # of a temperature; with more each weighs less


@dataclass(frozen=True, slots=True)
class Covariate:
    """Something known ahead of a series: a temperature, a user's own, or other weather."""

    course: Course
    is_temperature: bool
    is_own: bool


def covariates_of(clock: WallClock, but_temperature: bool) -> tuple[Covariate, ...]:
    """Return what is known ahead of a series: stations of one kind as their mean, a user's own each by itself."""
    kinds: dict[str, list[str]] = {}
    for name in clock.covariates:
        kind = name if name.startswith(OWN) else NUMBER.sub("", name)
        if not (but_temperature and name in clock.stations):
            kinds.setdefault(kind, []).append(name)
    found = []
    for names in kinds.values():
        course = course_of(clock, tuple(names), np.full(len(names), 1 / len(names)))
        if course is not None:
            found.append(Covariate(course, names[0] in clock.stations, names[0].startswith(OWN)))
    return tuple(found)


def shifts_of(covariates: Iterable[Covariate], days: Cells, lead: int) -> Matrix:
    """Return how far each covariate lies from what the load of the days before has seen, shape (n_days, 24, n_terms).

    Parameters
    ----------
    covariates : iterable of Covariate
    days : ndarray of int, shape (n_days,)
    lead : int
        Hours before each day from which on nothing is measured.
    """
    terms = []
    for covariate in covariates:
        paths = covariate.course.forecast(days, days * HOURS - lead)
        sides = [paths]
        if covariate.is_temperature:
            sides = [np.maximum(HEATING - paths, 0.0), np.maximum(paths - COOLING, 0.0)]
        for side in sides:
            begin = side.shape[1] - HOURS
            now, newest = side[:, begin:], newest_day(side, lead)
            week = side[:, begin - 7 * HOURS : begin].reshape(-1, 7, HOURS).mean(axis=1)
            usuals = [newest, week]
            if covariate.is_own:  # weather goes on from day to day, a plan need not
                usuals += [side[:, begin - HOURS : begin], side[:, begin - 7 * HOURS : begin - 6 * HOURS]]
            for usual in usuals:
                apart = now - usual
                terms += [apart, np.broadcast_to(apart.mean(axis=1, keepdims=True), apart.shape)]
    return np.stack(terms, axis=-1)


def with_weather(centre: Matrix, shifts: Matrix, measured: Matrix) -> Matrix:
    """Return answers moved by what weather changes.

    Parameters
    ----------
    centre : ndarray of shape (n_days, 24)
        The model's answers, logarithm of load, of the day to come last.
    shifts : ndarray of shape (n_days, 24, n_terms)
        See `shifts_of`.
    measured : ndarray of shape (n_days - 1, 24)
        What came of them; NaN where not known.
    """
    here: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(shifts), axis=1)
    told = here[-1] & (here[:-1].sum(axis=0) >= FEWEST_DAYS)
    shifts = shifts[..., told]
    is_known: NDArray[np.bool_] = np.logical_and.reduce(here[:, told], axis=1)
    left = np.where(is_known[:-1, None], measured - centre[:-1], np.nan)
    if not told.any() or (np.isfinite(left).sum(axis=0) < FEWEST_DAYS).any():
        return centre
    penalty = PENALTY * max(1.0, shifts.shape[-1] / USUAL_TERMS)
    move = days_apart(shifts, left, penalty, is_free=False) * is_known[:, None]
    off, moved = left.ravel(), move[:-1].ravel()
    known = np.isfinite(off)
    return centre + share_of(moved[known], off[known]) * move
