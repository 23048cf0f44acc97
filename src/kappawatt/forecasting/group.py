"""A sum of series and its members, forecast together so that they add up.

The sum is a series of its own: its past is the total of its members' where all of them are known and trusted, and the
same model forecasts it, so its interval is that of its own errors. Then all are reconciled
(`kappawatt.forecasting.reconciliation`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import HistoryInsufficient, PayloadInvalid
from kappawatt.forecasting.calendar import Instant, Times, zone_meant
from kappawatt.forecasting.forecaster import Forecaster, Issued
from kappawatt.forecasting.gaps import LATELY
from kappawatt.forecasting.history import History, Past
from kappawatt.forecasting.holidays import OF_THE_ZONE
from kappawatt.forecasting.reconciliation import reconcile
from kappawatt.forecasting.suspects import without_suspects

__all__ = ["IssuedGroup", "SumHistory", "issue_group", "total_of"]

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class IssuedGroup:
    """The forecasts of a sum and its members for one target window, which add up.

    Parameters
    ----------
    total : Issued
        Of the sum.
    members : tuple of Issued
    adds_up : str
        Which point of the fans does: `median` or `mean`.
    discrepancy : ndarray of shape (n_targets,)
        The sum's point less the members' total, before they were reconciled.
    """

    total: Issued
    members: tuple[Issued, ...]
    adds_up: str
    discrepancy: Vector


def total_of(key: str, pasts: Sequence[Past]) -> Past:
    """Return the total of what was known of several series at one issue time.

    Parameters
    ----------
    key : str
        Name of the sum.
    pasts : sequence of Past
        On one grid.

    Returns
    -------
    Past
        From the first interval that all of them know to the last; empty if there is none. An interval that one of them
        does not know is unknown: a total of the others would be something else. It has no covariates: the weather of
        several places is no sum. What was confirmed of one is in the total, and real there too. It has their holidays,
        or those of the zone's country if theirs are not the same.
    """
    first = pasts[0]
    start = max(past.start for past in pasts)
    count = int((min(past.end for past in pasts) - start) // first.interval)
    times = start + np.arange(max(0, count)) * first.interval
    values: Vector = np.sum([past.at(times) for past in pasts], axis=0)
    known = np.flatnonzero(np.isfinite(values))
    begin, stop = (int(known[0]), int(known[-1]) + 1) if len(known) else (0, 0)
    return Past(
        key,
        first.time_zone,
        first.step,
        start + begin * first.interval,
        values[begin:stop],
        first.issue_time,
        confirmed=np.unique(np.concatenate([past.confirmed for past in pasts])),
        holidays=first.holidays if len({past.holidays for past in pasts}) == 1 else OF_THE_ZONE,
    )


class SumHistory(History):
    """What is known of a sum, read from its members' histories through the same gate.

    Parameters
    ----------
    key : str
        Name of the sum.
    members : sequence of History
        Two or more, of one time zone, one length of interval and one grid.
    forecaster : Forecaster
        Which values of a member are suspect. They are unknown to the sum, in which they might not show.

    Raises
    ------
    PayloadInvalid
        A member has no value, or another zone, length or grid than the first; the message names it.
    """

    def __init__(self, key: str, members: Sequence[History], forecaster: Forecaster) -> None:
        first = members[0]
        super().__init__(key, first.time_zone, first.step)
        self._members = tuple(members)
        self._rules = forecaster.suspect_rules
        self._judged = int(max(forecaster.depth, LATELY) / np.timedelta64(first.step, "s"))
        for i, member in enumerate(members):
            _check_like(f"members[{i}] ({member.key})", member, first)

    @property
    def clock(self) -> Instant | None:
        """When the newest interval of any member ended: of the others some hours are missing then."""
        clocks = [member.clock for member in self._members if member.clock is not None]
        return max(clocks) if clocks else None

    @property
    def first(self) -> Instant | None:
        """Start of the oldest interval that all may know."""
        starts = [member.first for member in self._members if member.first is not None]
        return max(starts) if starts else None

    def off_grid(self, starts: Times) -> NDArray[np.bool_]:
        """Return True where an interval of the members cannot begin."""
        return self._members[0].off_grid(starts)

    def until(self, issue_time: Instant, available_at: Instant | None = None) -> Past:
        """Return the total of what was known of each member and is trusted; see `History.until` and `total_of`."""
        return total_of(self.key, [self._trusted(member.until(issue_time, available_at)) for member in self._members])

    def _trusted(self, past: Past) -> Past:
        """The same without suspect values, as far back as a forecast looks; training judges all there is."""
        place = max(0, len(past) - self._judged)
        newest = without_suspects(past.since(place), self._rules)
        at = round((newest.start - past.start) / past.interval) if len(newest) else len(past)
        values = past.values.copy()
        values[place:] = np.nan
        values[at : at + len(newest)] = newest.values
        return replace(past, values=values)

    def measured(self, starts: Iterable[Instant]) -> dict[Instant, float]:
        """Return the newest totals of intervals of which every member has a value."""
        times = list(starts)
        found = [member.measured(times) for member in self._members]
        return {time: sum(own[time] for own in found) for time in times if all(time in own for own in found)}


def _check_like(name: str, member: History, first: History) -> None:
    """Refuse a member that cannot be added to the first."""
    if member.clock is None or member.first is None:
        raise HistoryInsufficient.of(name, "no value", "one or more")
    if zone_meant(member.time_zone) != zone_meant(first.time_zone):
        raise PayloadInvalid.of(f"{name}: time_zone", member.time_zone, f"{first.time_zone}, which {first.key} has")
    if member.step != first.step:
        raise PayloadInvalid.of(f"{name}: step_seconds", member.step, f"{first.step}, which {first.key} has")
    if first.off_grid(np.array([member.first])).any():
        grid = f"whole multiples of {first.step} s from {first.first}Z, where {first.key} begins"
        raise PayloadInvalid.of(f"{name}: history.start", f"{member.first}Z", grid)


def issue_group(
    forecaster: Forecaster,
    fitted: Any,
    key: str,
    members: Sequence[History],
    targets: Times,
    issue_time: Instant,
    available_at: Instant | None = None,
    *,
    adds_up: str = "",
) -> IssuedGroup:
    """Forecast a sum and its members for one target window, and reconcile them.

    Parameters
    ----------
    fitted : object
        What `Forecaster.load` or training returned.
    key : str
        Name of the sum.
    members : sequence of History
        Of one time zone, length and grid.
    targets : ndarray of datetime64[ms], shape (n,)
    issue_time, available_at : datetime64[ms]
        As `History.until` takes them.
    adds_up : str
        `median` or `mean`; the forecaster's own if empty.

    Raises
    ------
    HistoryInsufficient
        A member, or the sum, is not known well enough; the message names it.
    PayloadInvalid
        A member cannot be added to the others; the message names it.
    """
    total = SumHistory(key, members, forecaster)
    own = [
        _issued(forecaster, fitted, f"members[{i}] ({member.key})", member.until(issue_time, available_at), targets)
        for i, member in enumerate(members)
    ]
    past = total.until(issue_time, available_at)
    if not len(past):
        raise HistoryInsufficient.of(f"sum {key}", "no interval that all members know", "a week of them or more")
    whole = _issued(forecaster, fitted, f"sum {key}", past, targets)
    point = adds_up or forecaster.adds_up
    found = reconcile(
        whole.fan,
        [issued.fan for issued in own],
        point=point,
        is_positive=forecaster.request.field(forecaster.target).minimum == 0,
        figures=forecaster.additive_figures,
    )
    moved = tuple(replace(issued, fan=fan) for issued, fan in zip(own, found.members, strict=True))
    return IssuedGroup(replace(whole, fan=found.total), moved, point, found.discrepancy)


def _issued(forecaster: Forecaster, fitted: Any, name: str, past: Past, targets: Times) -> Issued:
    """One forecast; an error says whose it is."""
    try:
        return forecaster.issue(fitted, past, targets)
    except HistoryInsufficient as error:
        raise (
            HistoryInsufficient.of(f"{name}: {error.field}", error.got, error.allowed)
            if error.field
            else (HistoryInsufficient(f"{name}: {error}"))
        ) from error
