"""Whether labels follow the clock of a zone that is changed, or one that is not.

Of a year by the hour, winter time all the year and the zone's own clock with its changes repaired look alike: 24 rows a
day, one at the hour that the clock skips, one at the hour that it shows twice. What people do follows the clock: on the
labels of a clock that is not changed, mornings begin an hour earlier from spring on and an hour later from autumn on.

Of PJM's three zones (25 to 30 changes each), Estonia and North Macedonia (2 each), by the zone's clock and by its
winter time, the sum of squares that the wrong clock leaves is 2.6 times the right one's and more. Of a meter in Texas
it is 0.6 to 0.8 times: a home tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.reading.labels import Change
from kappawatt.datasets.reading.table import Fact
from kappawatt.datasets.reading.times import ABBREVIATIONS
from kappawatt.datasets.reading.words import offset_in, zone_in
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import Times, clock_changes, to_local, utc_offset

__all__ = ["Evidence", "clocks_in", "fixed_clock", "offset_text", "require_words_of", "tell_clock"]

DAYS = 28  # before and after a change
FEWEST = 4  # working days on each side
MORNING = (3, 11)  # h: what begins then follows the clock, what ends in the evening also the sun
TOLD = 2.0  # how many times one sum of squares is the other where the clock is told
FILLED = 1e-4  # of a value: how far from its neighbours, or from their mean, one that was filled in is
USUAL = 0.05  # of all values that are so by chance, at most
HOUR_SECONDS = 3600


WORD = re.compile(r"(?<![A-Za-z])(?:[A-Z]{3,4}|[a-z]{3,4})(?![A-Za-z])")
STANDARD, SUMMER = "standard time", "summer time"
WORDS = {  # of either half of the year's clock, in names of columns
    STANDARD: re.compile(
        r"winter.?(?:time|zeit)|normalzeit|(?:standard|normal)[ _.-]?time|heure d.hiver", re.IGNORECASE
    ),
    SUMMER: re.compile(r"(?:summer|daylight)(?:.saving)?s?.?time|sommer.?zeit|heure d.[ée]t[ée]", re.IGNORECASE),
}
BOTH = re.compile(
    r"(?:sommer|summer)[^a-z]*(?:/|und|and|&)[^a-z]*winter|winter[^a-z]*(?:/|und|and|&)[^a-z]*(?:sommer|summer)",
    re.IGNORECASE,
)


class Evidence:
    """What the labels and values of a file's series say of their clock.

    Parameters
    ----------
    zone : str
        IANA name of the clock they are said to follow.
    """

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self.for_zone = self.for_fixed = 0.0  # sums of squares left over, if labels follow this clock
        self.filled: list[bool] = []
        self.skipped = self.once = 0  # changes at which there is a row that should not be, or one of two

    def add(self, wall: Times, values: NDArray[np.float64], step: int, changes: Sequence[Change]) -> None:
        """Take in a series.

        Parameters
        ----------
        wall : ndarray of datetime64[ms], shape (n,)
            Labels.
        values : ndarray of shape (n,)
        step : int
            Length of an interval [s].
        changes : sequence of Change
            As the labels show them.
        """
        hidden = [change for change in changes if change.seen and change.shown is None]
        if not hidden or len(hidden) < sum(change.seen for change in changes):
            return  # some are shown: the labels follow the clock
        order = np.argsort(wall, kind="stable")
        labels, loads = wall[order], values[order]
        known = np.isfinite(loads) & ~np.isnat(labels)
        labels, loads = labels[known], loads[known]
        share = _share_between(loads)
        for change in hidden:
            after = to_local(np.array([change.instant]), self.zone)[0]
            if change.skips:
                shift = _shift(self.zone, change.instant)
                at = int(np.searchsorted(labels, after - shift))
                is_empty = at >= len(labels) or labels[at] != after - shift
                if is_empty or (loads[at] == 0 and (loads == 0).sum() < USUAL * len(loads)):
                    self.filled.append(True)  # the row is there, and says nothing: who wrote it knew the clock
                    continue
                self.skipped += 1
                self.filled.append(share < USUAL and _is_between(loads, at))
            else:
                self.once += 1
            if HOUR_SECONDS % step == 0:
                both = _left_over(labels, loads, after, step, skips=change.skips)
                self.for_zone += both[0]
                self.for_fixed += both[1]


def tell_clock(evidence: Evidence, said: str, name: str) -> Fact | None:
    """Return what tells that labels follow a zone's clock though they show none of its changes; None if they do.

    Parameters
    ----------
    said : str
        Clock that a person names as the labels' own; "" if nobody does.
    name : str
        Of the column of times.

    Raises
    ------
    PayloadInvalid
        They follow a clock that is not changed, or nothing tells; the message names the options that settle it.
    """
    zone = evidence.zone
    if not evidence.skipped and not evidence.once and not evidence.filled:
        return None
    if said:
        return Fact("clock", zone, "--clock; no label shows a change of it: hours were filled in or left out")
    one, other = evidence.for_zone, evidence.for_fixed
    twice = "one row where the clock shows a time twice"
    rows = "a row at the time that the clock skips" if evidence.skipped else twice
    ways = [
        f"--clock {zone} if hours were filled in or left out",
        f"--clock {fixed_clock(zone)} if winter time is meant all year",
    ]
    if other * TOLD < one:
        got = f"labels that show no change of {zone}'s clock ({rows}), and mornings an hour off from one to the next"
        raise PayloadInvalid.of(name, got, " or ".join(reversed(ways)))
    is_filled = bool(evidence.filled) and all(evidence.filled)
    if one * TOLD < other:
        return Fact("clock", zone, f"{rows}, but mornings follow its changes: hours were filled in or left out")
    if is_filled:
        return Fact("clock", zone, "the time that it skips holds what lies between its neighbours: it was filled in")
    if evidence.skipped:
        raise PayloadInvalid.of(name, f"{rows} of {zone}, and nothing that tells why", " or ".join(ways))
    return Fact("clock", zone, f"doubtful: {rows} and nothing tells why; {' or '.join(ways)}")


def clocks_in(name: str) -> tuple[str, ...]:
    """Return the abbreviations of clocks in the name of a column of times.

    Examples
    --------
    >>> clocks_in("Zeit (MEZ/MESZ)"), clocks_in("time_cet"), clocks_in("Zeit (Winterzeit)"), clocks_in("time")
    (('MEZ', 'MESZ'), ('CET',), ('standard time',), ())
    """
    found = [word.upper() for word in WORD.findall(name)]
    words = [word for word in found if word in ABBREVIATIONS or word in ("GMT", "UTC")]
    offset = offset_in(name)
    if offset is not None and not zone_in(name):
        words = [offset_text(offset * 60_000)]
    if BOTH.search(name):
        return (*words, STANDARD, SUMMER)
    return (*words, *(word for word, pattern in WORDS.items() if pattern.search(name)))


def fixed_clock(zone: str) -> str:
    """Return the clock that a zone's winter time is all the year, as `--clock` takes it.

    Examples
    --------
    >>> fixed_clock("Europe/Berlin"), fixed_clock("America/St_Johns")
    ('UTC+01:00', 'UTC-03:30')
    """
    moments = np.array(["2024-01-01", "2024-07-01"], "datetime64[ms]")
    return offset_text(int(utc_offset(moments, zone).min()))


def _shift(zone: str, instant: np.datetime64) -> np.timedelta64:
    second = np.timedelta64(1000, "ms")
    _, shifts = clock_changes(zone, instant - second, instant + second)
    return shifts[0]  # type: ignore[no-any-return]


def _is_between(values: NDArray[np.float64], at: int) -> bool:
    """Whether a value is a copy of a neighbour or the mean of both."""
    if not 0 < at < len(values) - 1:
        return False
    one, value, other = values[at - 1 : at + 2]
    return bool(min(abs(value - v) for v in (one, other, (one + other) / 2)) <= FILLED * abs(value))


def _share_between(values: NDArray[np.float64]) -> float:
    """Share of all values that are so."""
    if len(values) < 3:
        return 1.0
    one, value, other = values[:-2], values[1:-1], values[2:]
    least = np.min([np.abs(value - v) for v in (one, other, (one + other) / 2)], axis=0)
    return float((least <= FILLED * np.abs(value)).mean())


def _left_over(
    labels: Times, values: NDArray[np.float64], change: np.datetime64, step: int, *, skips: bool
) -> tuple[float, float]:
    """Squares that are left over between mornings before and after a change: if labels follow it, and if not."""
    date = change.astype("datetime64[D]")
    before = _mean_day(labels, values, date - DAYS, date, step)
    after = _mean_day(labels, values, date + 1, date + 1 + DAYS, step)
    if before is None or after is None:
        return 0.0, 0.0
    hour = HOUR_SECONDS // step
    ramp, other = (np.roll(day, -hour) - day for day in (before, after))  # what changes within an hour
    part = slice(MORNING[0] * hour, MORNING[1] * hour)
    moved = np.roll(ramp, -hour if skips else hour)
    return float(((other - ramp)[part] ** 2).sum()), float(((other - moved)[part] ** 2).sum())


def _mean_day(
    labels: Times, values: NDArray[np.float64], first: np.datetime64, end: np.datetime64, step: int
) -> NDArray[np.float64] | None:
    """A working day between two dates as shares of its range, in median; None if too few are whole."""
    slots = 86_400 // step
    begin, stop = np.searchsorted(labels, np.array([first, end], "datetime64[ms]"))
    days = labels[begin:stop].astype("datetime64[D]")
    is_working = (days.astype(np.int64) + 3) % 7 < 5
    slot = (labels[begin:stop] - days)[is_working].astype(np.int64) // (step * 1000)
    dates, place = np.unique(days[is_working], return_inverse=True)
    table = np.full((len(dates), slots), np.nan)
    table[place, slot] = values[begin:stop][is_working]
    table = table[np.isfinite(table).all(axis=1)]
    if len(table) < FEWEST:
        return None
    day = np.median(table, axis=0)
    width = float(day.max() - day.min())
    return None if not width else np.asarray((day - day.mean()) / width)


def require_words_of(
    zone: str, words: Sequence[str], name: str, labels: Times, changes: Sequence[Change], *, in_cells: bool
) -> None:
    """Raise PayloadInvalid if a file names a clock by an abbreviation that a zone's clock contradicts.

    It does if the zone is never at this offset; and if it is at another one in some rows, unless other abbreviations
    say so, or the labels show by the zone's changes which clock they follow.

    Parameters
    ----------
    zone : str
        IANA name that a person gives.
    words : sequence of str
        Abbreviations, such as `EST`.
    name : str
        Of the column.
    labels : ndarray of datetime64[ms]
        What the file's labels say.
    changes : sequence of Change
        As labels show those of the zone.
    in_cells : bool
        Whether they stand with the times, whose offset they then are; else in the column's name.
    """
    known = labels[~np.isnat(labels)]
    if not len(known) or not words:
        return
    years = np.arange(known.min().astype("datetime64[Y]"), known.max().astype("datetime64[Y]") + 1)
    months = (years.astype("datetime64[M]")[:, None] + np.arange(12)[None, :]).reshape(-1)
    own = sorted({int(offset) for offset in utc_offset(months.astype("datetime64[ms]"), zone)})
    for word in words:
        offset = _offset_of(word, own)
        if offset is None:
            continue
        text = f"{word} ({offset_text(offset)})"
        settled = f"--clock {offset_text(offset)} or --clock {zone}"
        if offset not in own:
            texts = " and ".join(map(offset_text, own))
            raise PayloadInvalid.of(name, f"{text} beside --time-zone {zone} ({texts})", f"one of them; {settled}")
        if len(words) > 1:
            continue
        shown = [change.shown is not None for change in changes if change.seen]
        is_told = bool(shown) and (not any(shown) if in_cells else True)
        at = known - np.timedelta64(offset, "ms")
        if not is_told and (utc_offset(at, zone) != offset).any():
            row = at[utc_offset(at, zone) != offset][0]
            got = (
                f"{text}, on {str(row)[:10]} too, when {zone} is at {offset_text(int(utc_offset(row[None], zone)[0]))}"
            )
            raise PayloadInvalid.of(name, got, settled)


def _offset_of(word: str, own: Sequence[int]) -> int | None:
    """The offset [ms] that a word of a clock means in a zone that is at its `own` ones; None if it may be several."""
    if word in (STANDARD, SUMMER):
        return own[0] if word == STANDARD else own[-1]
    fixed = offset_in(word)
    if fixed is not None:
        return fixed * 60_000
    hours = ABBREVIATIONS.get(word)
    return None if hours is None else hours * 3_600_000


def offset_text(offset: int) -> str:
    """Return an offset [ms] as text: `UTC+01:00`."""
    minutes = abs(offset) // 60_000
    return f"UTC{'-' if offset < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
