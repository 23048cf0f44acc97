"""What is asked of a row beyond its schema, and how rows are told apart by key."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.schema import shorten
from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import Times, zone_named
from kappawatt.forecasting.grid import CONFIRMABLE, NOT_EARLY, is_no_span, too_early
from kappawatt.forecasting.holidays import holidays_named
from kappawatt.forecasting.registers import daily_resets, never_falls
from kappawatt.streams.intervals import is_on_the_grid
from kappawatt.streams.series import (
    AVAILABLE_AT,
    CONFIRMED_UNTIL,
    HOLIDAYS,
    INTERVAL_START,
    ISSUE_TIME,
    TIME_ZONE,
    WEATHER_ISSUE_TIME,
)
from kappawatt.streams.stream import Rule, Stream

__all__ = ["OF_SERIES", "by_key", "is_known_once_issued", "rules_of", "screened"]

LEAST_OF_A_DAY = 24  # intervals


def screened(stream: Stream, batch: Batch, key: str, listed: int | None = None) -> Batch:
    """Return the batch with those rows refused that the schema lets pass and the stream cannot use.

    Parameters
    ----------
    key : str
        Name all rows belong to; "" if each row names its own.
    listed : int or None
        How many rejections are kept, the first ones; the others are counted. None is all.
    """
    kept = list(batch.rejections)
    unlisted = Counter(batch.unlisted)
    valid = batch.valid.copy()
    for rule in rules_of(stream):
        room = listed
        for rejection in rule(stream, batch, key):
            if not batch.valid[rejection.row]:
                continue
            valid[rejection.row] = False
            if room is None or room > 0:
                kept.append(rejection)
                room = None if room is None else room - 1
            else:
                unlisted[rejection.code] += 1
    if len(kept) == len(batch.rejections):
        return batch
    kept.sort(key=lambda r: r.row)
    most = len(kept) if listed is None else listed
    unlisted.update(r.code for r in kept[most:])
    return Batch(batch.columns, valid, tuple(kept[:most]), dict(unlisted))


def rules_of(stream: Stream) -> tuple[Rule, ...]:
    """Return the rules of a stream's rows: its own, and where they name their key, that they do it rightly."""
    return (has_a_name, *stream.rules) if stream.names_key else stream.rules


def by_key(stream: Stream, batch: Batch, key: str) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield each key with the positions of its valid rows, in the order keys first appear."""
    rows = np.flatnonzero(batch.valid)
    if key or not stream.names_key:
        if len(rows):
            yield key, rows
        return
    names = batch.columns[stream.key.name][rows].tolist()
    codes: dict[str, int] = {}
    coded = np.array([codes.setdefault(name, len(codes)) for name in names], dtype=np.intp)
    order = np.argsort(coded, kind="stable")  # one pass, however many keys there are
    keys = list(codes)
    ends = np.cumsum(np.bincount(coded, minlength=0)).tolist()
    del names, codes, coded
    for name, start, end in zip(keys, [0, *ends], ends, strict=False):
        yield name, rows[order[start:end]]


def has_a_name(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """A row names its key, or is sent under a name; where both are, they agree."""
    names = batch.columns[stream.key.name]
    for row in np.flatnonzero([_is_wrong(name, key, stream) for name in names]).tolist():
        code = "missing_field" if names[row] is None else "out_of_range"
        allowed = f"{key!r}, the name these rows were sent under, or nothing" if key else stream.key.allowed
        yield Rejection(row, code, stream.key.name, shorten(names[row]), allowed)


def _is_wrong(name: str | None, key: str, stream: Stream) -> bool:
    if key:
        return name is not None and name != key
    return name is None or not stream.key.pattern.fullmatch(name)


def has_a_value(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """A row says something: one of the stream's values is there, or a span of them is confirmed."""
    names = (*stream.values, *stream.schema.more_unbounded(batch.columns))
    nothing = np.logical_and.reduce([np.isnan(batch.columns[name]) for name in names])
    confirmed = batch.columns.get(CONFIRMED_UNTIL.name)
    if confirmed is not None:
        nothing &= np.isnat(confirmed)
    allowed = " or ".join(f"{name}: {stream.schema.field(name).allowed}" for name in stream.values)
    for row in np.flatnonzero(nothing).tolist():
        yield Rejection(row, "missing_field", stream.values[0], None, allowed)


def asks_nothing(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """A reading is no request: it has no issue time."""
    moments = batch.columns[ISSUE_TIME.name]
    for row in np.flatnonzero(~np.isnat(moments)).tolist():
        allowed = "no such field in a reading; it is for requests"
        yield Rejection(row, "unknown_field", ISSUE_TIME.name, shorten(moments[row]), allowed)


def is_known_once_issued(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """A forecast of weather became known when it was issued, or later."""
    issued = batch.columns.get(WEATHER_ISSUE_TIME.name)
    if issued is None:
        return
    known = batch.columns[AVAILABLE_AT.name]
    for row in np.flatnonzero(known < issued).tolist():
        allowed = f"{issued[row]}Z, the {WEATHER_ISSUE_TIME.name}, or later"
        yield Rejection(row, "out_of_range", AVAILABLE_AT.name, shorten(known[row]), allowed)


def is_not_ahead(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """A measured interval begins within a day from now, one that is not measured within fifteen."""
    starts = batch.columns[INTERVAL_START.name].astype("datetime64[ms]")
    is_measured = ~np.isnan(batch.columns[stream.target])
    now = np.datetime64(time.time_ns() // 1_000_000, "ms")
    for row in np.flatnonzero(batch.valid & too_early(starts, is_measured, now)).tolist():
        yield Rejection(row, "out_of_range", INTERVAL_START.name, shorten(starts[row]), NOT_EARLY)


def confirms_what_was(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """A span that is confirmed has begun before it ended, and has ended by now."""
    until = batch.columns.get(CONFIRMED_UNTIL.name)
    if until is None or np.isnat(until).all():
        return
    starts = batch.columns[INTERVAL_START.name]
    now = np.datetime64(time.time_ns() // 1_000_000, "ms")
    length = min(stream.steps) if stream.steps else 1
    for row in np.flatnonzero(is_no_span(starts, until, length) | (until > now)).tolist():
        allowed = f"{CONFIRMABLE.format(length)}, that is over"
        yield Rejection(row, "out_of_range", CONFIRMED_UNTIL.name, shorten(until[row]), allowed)


def is_in_a_time_zone(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """A time zone that is named exists."""
    yield from _unknown(batch, TIME_ZONE.name, zone_named)


def has_known_holidays(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """Holidays that are named are some country's, or none."""
    if HOLIDAYS.name in batch.columns:
        yield from _unknown(batch, HOLIDAYS.name, holidays_named)


def _unknown(batch: Batch, field: str, named: Callable[[str], str]) -> Iterator[Rejection]:
    """Rows with a name that is none."""
    allowed: dict[str, str | None] = {}  # None: it is one
    for row, name in enumerate(batch.columns[field]):
        if name is not None and name not in allowed:
            allowed[name] = _why_none(name, named)
        why = None if name is None else allowed[name]
        if why is not None:
            yield Rejection(row, "out_of_range", field, shorten(name), why)


def _why_none(name: str, named: Callable[[str], str]) -> str | None:
    try:
        named(name)
    except SettingInvalid as error:
        return error.allowed
    return None


def is_no_register(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """Energy of intervals falls some time in a day; a register's readings never do."""
    if stream.schema.field(stream.target).minimum != 0:
        return
    starts, values = batch.columns[INTERVAL_START.name], batch.columns[stream.target]
    for _, rows in by_key(stream, batch, key):
        if len(rows) < LEAST_OF_A_DAY:
            continue
        rows = rows[np.argsort(starts[rows], kind="stable")]
        step = np.median(np.diff(starts[rows]).astype("timedelta64[s]").astype(np.int64))
        if step <= 0:
            continue
        if not never_falls(values[rows], max(int(86_400 // step), LEAST_OF_A_DAY)) and not _is_of_days(
            batch, rows, starts[rows], values[rows], int(step)
        ):
            continue
        allowed = "what each interval added: the difference of two readings of a register, which never fall"
        for row in rows.tolist():
            yield Rejection(row, "out_of_range", stream.target, float(values[row]), allowed)


def _is_of_days(batch: Batch, rows: NDArray[np.intp], starts: Times, values: NDArray[np.float64], step: int) -> bool:
    """Whether values are those of a counter that begins every day anew, of the rows' own clock."""
    zone = next((zone for row in rows if (zone := batch.columns[TIME_ZONE.name][row]) is not None), "UTC")
    return _why_none(zone, zone_named) is None and len(daily_resets(starts, values, step, zone)) > 0


OF_SERIES: tuple[Rule, ...] = (
    is_no_register,
    is_on_the_grid,
    is_not_ahead,
    confirms_what_was,
    has_a_value,
    asks_nothing,
    is_in_a_time_zone,
    has_known_holidays,
)
