"""When each row of a table is, by the clock of its labels or as an instant, and when it was published."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.reading.day_ends import midnights_at_the_end
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Meaning, TimeColumn
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table
from kappawatt.datasets.reading.times import ABBREVIATIONS, Moments, read_clock, read_times, split_span
from kappawatt.datasets.series import Problem, Problems
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import DAY, HOUR, Times, day_start, to_utc

__all__ = ["RowTimes", "published_at", "read_row_times"]

NOTHING = np.datetime64("NaT", "ms")
NO_OFFSET = np.timedelta64("NaT", "ms")
SHOWN = 80
LONGEST_DAY = 25 * 3600  # s
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class RowTimes:
    """Times of a table's rows.

    Parameters
    ----------
    wall : ndarray of datetime64[ms], shape (n,)
        What labels say; NaT where only an instant is known.
    instant : ndarray of datetime64[ms], shape (n,)
        UTC, where a label has an offset or is in UTC; else NaT.
    readable : ndarray of bool, shape (n,)
    second : ndarray of bool, shape (n,), or None
        Whether a row says that it is of the second hour where the clock shows one twice.
    length : int
        Of an interval whose begin and end are both told [s]; 0 if they are not.
    published : Moments or None
    words : tuple of str
        Abbreviations of clocks that rows have, such as `CET`.
    """

    wall: Times
    instant: Times
    readable: NDArray[np.bool_]
    second: NDArray[np.bool_] | None = None
    length: int = 0
    published: Moments | None = None
    words: tuple[str, ...] = ()

    @property
    def has_instants(self) -> bool:
        """Whether any instant is known."""
        return not bool(np.isnat(self.instant).all())

    @property
    def labels(self) -> Times:
        """What the labels say, or the instants where there are only those."""
        found: Times = np.where(np.isnat(self.wall), self.instant, self.wall)
        return found


def read_row_times(
    table: Table, meaning: Meaning, options: Options, zone: str, problems: Problems, facts: list[Fact]
) -> RowTimes:
    """Read the times of a table's rows; those that cannot be read are named.

    Parameters
    ----------
    zone : str
        IANA name of the labels' clock, "" if nobody says; `UTC` makes them instants.

    Raises
    ------
    PayloadInvalid
        A whole column cannot be read, or in two ways.
    """
    time = meaning.time
    name, texts = table.header[time.place], table.texts(time.place)

    def read(texts: list[str], problems: Problems, facts: list[Fact]) -> Moments:
        moments = read_times(texts, name, day_first=options.day_first, habit=time.day_first)
        problems.extend(Problem(int(table.lines[i]), name, texts[i][:SHOWN], allowed) for i, allowed in moments.bad)
        facts.extend(moments.facts)
        return moments

    spans = [split_span(text) for text in texts] if time.form is Form.SPAN else []
    moments = read([begin for begin, _ in spans] if spans else texts, problems, facts)
    wall, instant, length = moments.wall, moments.instants, 0
    ends: Times | None = None
    if spans:
        ends = read([end for _, end in spans], Problems(), []).wall
    if time.end_place is not None:
        ends = read_times(table.texts(time.end_place), table.header[time.end_place], habit=time.day_first).wall
    if ends is not None:
        length = _usual(ends - wall)
        other = _of_other_length(ends - wall, length)
        for row in np.flatnonzero(other).tolist():
            problems.append(
                Problem(int(table.lines[row]), name, texts[row][:SHOWN], f"an interval of {length // 60} min")
            )
        wall, instant = (np.where(other, NOTHING, moment) for moment in (wall, instant))
    if time.beside is not None:
        wall, instant = _beside(table, time, wall, zone, problems)
    elif not moments.has_clock and len(table) > 1 and not options.time_column:
        got = f"{texts[0]!r}, a day without a time"
        raise PayloadInvalid.of(name, got, "a date and time, or a time of the day beside it")
    if ends is None and time.form is not Form.DATE_PERIOD and np.isnat(instant).all():
        wall = _with_whole_days(table, meaning, wall, facts)
    if zone == "UTC":
        instant = np.where(np.isnat(instant), wall, instant)
    second, words = None, moments.words
    if time.flag is not None:
        second, offset, more = _flags(table, time)
        words = tuple(dict.fromkeys((*words, *more)))
        instant = np.where(np.isnat(offset), instant, wall - offset)
    if options.clock and words:  # a person says whose clock the labels are by
        instant, words = np.full(len(wall), NOTHING), ()
    readable = ~np.isnat(wall) | ~np.isnat(instant)
    published = _published(table, meaning, readable, problems)
    return RowTimes(wall, instant, readable, second, length, published, words)


def _with_whole_days(table: Table, meaning: Meaning, wall: Times, facts: list[Fact]) -> Times:
    """Labels of which 00:00 with the date of the day that it ends is that day's 24:00."""
    time = meaning.time
    name = table.header[time.place if time.beside is None else time.beside]
    codes: dict[tuple[str, ...], int] = {}
    keys = zip(*(table.texts(place) for place in meaning.key), strict=True) if meaning.key else [()] * len(table)
    groups = np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.int64)
    is_end = midnights_at_the_end(wall, groups, name)
    if not is_end.any():
        return wall
    day = str(wall[is_end][0])[:10]
    if time.labels is Labels.START:
        got = f"00:00 after the evening of {day}, with its date, and labels of the start"
        raise PayloadInvalid.of(name, got, "the date of the day that begins, or labels of the end")
    why = f"it comes after the evening of its date, first on {day}, and before the next day's rows"
    facts.append(Fact("00:00", "the end of its date", why))
    found: Times = np.where(is_end, wall + DAY, wall)
    return found


def _usual(lengths: NDArray[np.timedelta64]) -> int:
    """The length most intervals have [s]; 0 if none is known."""
    known = lengths[~np.isnat(lengths)].astype(np.int64)
    found, counts = np.unique(known, return_counts=True)
    return int(found[np.argmax(counts)] // 1000) if len(found) else 0


def _of_other_length(lengths: NDArray[np.timedelta64], usual: int) -> NDArray[np.bool_]:
    """Which intervals are longer or shorter than others by something else than a change of the clock."""
    difference = np.where(np.isnat(lengths), usual * 1000, lengths.astype(np.int64)) - usual * 1000
    found: NDArray[np.bool_] = ~np.isin(difference, (0, -HOUR_MS, HOUR_MS))
    return found


def _beside(table: Table, time: TimeColumn, dates: Times, zone: str, problems: Problems) -> tuple[Times, Times]:
    """Labels, or instants, of dates with a time of the day, an hour or a number beside them."""
    place = 0 if time.beside is None else time.beside
    name, texts = table.header[place], table.texts(place)
    nothing = np.full(len(texts), NOTHING)
    counts = {text: read_clock(text) if time.form is Form.DATE_CLOCK else _whole(text) for text in set(texts)}
    number = np.array([-1 if counts[text] is None else counts[text] for text in texts], dtype=np.int64)
    wrong = (number < 0) & ~np.isnat(dates)
    instant, wall = nothing, nothing
    if time.form is Form.DATE_PERIOD:
        allowed = "the number of an interval that the day has"
        day = np.where(np.isnat(dates), np.datetime64(0, "D"), dates.astype("datetime64[D]"))
        begin, end = day_start(day, zone), day_start(day + 1, zone)
        instant = begin + ((number - 1) * time.step * 1000).astype("timedelta64[ms]")
        wrong |= ((number < 1) | (instant >= end)) & ~np.isnat(dates)
        instant = np.where(wrong | np.isnat(dates), NOTHING, instant)
    else:
        allowed = "the hour of the day" if time.form is Form.DATE_HOUR else "a time of the day as HH:MM"
        seconds = number * 3600 if time.form is Form.DATE_HOUR else number
        wrong |= seconds > LONGEST_DAY
        wall = np.where(wrong, NOTHING, dates + (seconds * 1000).astype("timedelta64[ms]"))
    for row in np.flatnonzero(wrong).tolist():
        problems.append(Problem(int(table.lines[row]), name, texts[row][:SHOWN], allowed))
    return wall, instant


def _whole(text: str) -> int | None:
    """A whole number, also as `1.0` or `01:00`; None if it is none."""
    plain = text.strip().removesuffix(":00").removesuffix(".0")
    return int(plain) if plain.isdigit() and len(plain) < 4 else None


def _flags(table: Table, time: TimeColumn) -> tuple[NDArray[np.bool_], NDArray[np.timedelta64], tuple[str, ...]]:
    """Which rows say that they are of the second hour; the offset of those that name a zone (`EST`); these names."""
    texts = [text.strip().upper() for text in table.texts(0 if time.flag is None else time.flag)]
    words = {word.upper() for word in time.second_words}
    hours = {text: ABBREVIATIONS.get(text) for text in set(texts)}
    offsets = {text: NO_OFFSET if h is None else np.timedelta64(h * 3_600_000, "ms") for text, h in hours.items()}
    second = np.array([text in words for text in texts], dtype=np.bool_)
    named = tuple(text for text, hour in hours.items() if hour is not None)
    return second, np.array([offsets[text] for text in texts], dtype="timedelta64[ms]"), named


def _published(table: Table, meaning: Meaning, readable: NDArray[np.bool_], problems: Problems) -> Moments | None:
    """When rows were published; those of which it cannot be read are not readable any more."""
    if meaning.published is None:
        return None
    name, texts = table.header[meaning.published], table.texts(meaning.published)
    moments = read_times(texts, name, habit=meaning.time.day_first)
    for row, allowed in moments.bad:
        if texts[row].strip() and readable[row]:
            problems.append(Problem(int(table.lines[row]), name, texts[row][:SHOWN], f"{allowed}, or nothing"))
            readable[row] = False
    return moments


def published_at(times: RowTimes, zone: str) -> Times:
    """Return when each row was published, UTC; NaT where nothing is said. A time the clock skips is an hour later."""
    moments = times.published
    if moments is None:
        return np.full(len(times.wall), NOTHING)
    local = to_utc(moments.wall, zone)
    skipped = np.isnat(local) & ~np.isnat(moments.wall)
    local[skipped] = to_utc(moments.wall[skipped] + HOUR, zone)
    return np.where(np.isnat(moments.instants), local, moments.instants)
