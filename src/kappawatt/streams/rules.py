"""What is asked of a row beyond its schema, and how rows are told apart by key."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.schema import shorten
from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import zone_named
from kappawatt.streams.series import INTERVAL_SECONDS, INTERVAL_START, ISSUE_TIME, TIME_ZONE
from kappawatt.streams.stream import Rule, Stream

__all__ = ["OF_SERIES", "by_key", "rules_of", "screened"]


def screened(stream: Stream, batch: Batch, key: str) -> Batch:
    """Return the batch with those rows refused that the schema lets pass and the stream cannot use.

    Parameters
    ----------
    key : str
        Name all rows belong to; "" if each row names its own.
    """
    found = [r for rule in rules_of(stream) for r in rule(stream, batch, key) if batch.valid[r.row]]
    if not found:
        return batch
    valid = batch.valid.copy()
    valid[[r.row for r in found]] = False
    return Batch(batch.columns, valid, tuple(sorted((*batch.rejections, *found), key=lambda r: r.row)))


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
    names = batch.columns[stream.key.name][rows]
    places: dict[str, list[int]] = {}  # numpy would take a name that ends in NULs for the one without
    for place, name in enumerate(names.tolist()):
        places.setdefault(name, []).append(place)
    for name, own in places.items():
        yield name, rows[own]


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


def is_on_the_grid(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """An interval begins on a whole multiple of its length, which is one that the stream knows."""
    columns = batch.columns
    starts = columns[INTERVAL_START.name].astype("datetime64[ms]").astype(np.int64)
    step = np.full(len(batch), stream.steps[0])
    if INTERVAL_SECONDS in columns:
        given = columns[INTERVAL_SECONDS]
        known = np.isin(given, stream.steps)
        for row in np.flatnonzero(~known & ~np.isnan(given)).tolist():
            allowed = f"{' or '.join(map(str, stream.steps))} s"
            yield Rejection(row, "out_of_range", INTERVAL_SECONDS, float(given[row]), allowed)
        step = np.where(known, given, step).astype(np.int64)
    for row in np.flatnonzero(starts % (step * 1000) != 0).tolist():
        got = shorten(columns[INTERVAL_START.name][row])
        yield Rejection(row, "out_of_range", INTERVAL_START.name, got, f"a whole multiple of {step[row]} s")


def has_a_value(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """A row says something: one of the stream's values is there."""
    nothing = np.logical_and.reduce([np.isnan(batch.columns[name]) for name in stream.values])
    allowed = " or ".join(f"{name}: {stream.schema.field(name).allowed}" for name in stream.values)
    for row in np.flatnonzero(nothing).tolist():
        yield Rejection(row, "missing_field", stream.values[0], None, allowed)


def asks_nothing(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """A reading is no request: it has no issue time."""
    moments = batch.columns[ISSUE_TIME.name]
    for row in np.flatnonzero(~np.isnat(moments)).tolist():
        allowed = "no such field in a reading; it is for requests"
        yield Rejection(row, "unknown_field", ISSUE_TIME.name, shorten(moments[row]), allowed)


def is_in_a_time_zone(stream: Stream, batch: Batch, key: str) -> Iterator[Rejection]:
    """A time zone that is named exists."""
    zones = batch.columns[TIME_ZONE.name]
    for zone in {zone for zone in zones if zone is not None}:
        try:
            zone_named(zone)
        except SettingInvalid as error:
            for row in (row for row, own in enumerate(zones.tolist()) if own == zone):
                yield Rejection(row, "out_of_range", TIME_ZONE.name, shorten(zone), error.allowed)


OF_SERIES: tuple[Rule, ...] = (is_on_the_grid, has_a_value, asks_nothing, is_in_a_time_zone)
