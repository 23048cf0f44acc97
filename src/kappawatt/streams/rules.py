"""The streams of readings that can be ingested, and what is asked of a row at the door beyond its schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.topic import LOAD_READINGS, METER_READINGS, PLANT_READINGS, Topic
from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.schema import Schema, shorten
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.forecasting.calendar import zone_named
from kappawatt.streams import load, meter, plant
from kappawatt.streams.series import SeriesKind

__all__ = ["INTAKES", "LOAD", "METER", "PLANT", "Intake", "by_key", "screened"]

# a name of dots alone would be taken for a folder on its way here
NAME = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,99}")
NAME_OR_PART = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~:-]{0,99}")  # 1044...:surplus
INTERVAL_START = "interval_start"
TIME_ZONE = "time_zone"
ISSUE_TIME = "issue_time"
INTERVAL_SECONDS = "interval_seconds"


@dataclass(frozen=True, slots=True)
class Intake:
    """One stream: where its rows come in, where they go, and what they must hold.

    Parameters
    ----------
    path : str
        First part of the path at the door: `POST /load/PJME`.
    topic : Topic
    schema : Schema
        Of one row.
    key_name : str
        What the key is called by people.
    key_example : str
    key_pattern : re.Pattern
        Names that are allowed.
    key_field : str or None
        Field of the schema the key stands in for; None if rows do not name it.
    values : tuple of str
        Optional fields of which a row must have one.
    steps : tuple of int
        Lengths of an interval [s]: `interval_start` is a multiple of the first.
    arrival : str or None
        Time field whose absence means the time of arrival.
    export : SeriesKind or None
        Publishers' files that are read as they are.
    """

    path: str
    topic: Topic
    schema: Schema
    key_name: str
    key_example: str
    key_pattern: re.Pattern[str] = NAME
    key_field: str | None = None
    values: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    arrival: str | None = None
    export: SeriesKind | None = None

    def checked_key(self, key: str) -> str:
        """Return `key` if it can be one; PayloadInvalid says what can."""
        if self.key_pattern.fullmatch(key):
            return key
        raise PayloadInvalid(f"key: got {key[:100]!r}, allowed {self.allowed_key}")

    @property
    def allowed_key(self) -> str:
        """What a key may be, for a person."""
        more = " :" if self.key_pattern is NAME_OR_PART else ""
        return f"1 to 100 of A-Z a-z 0-9 . _ ~ -{more} not led by a dot"


PLANT = Intake("readings", PLANT_READINGS, plant.READING, "plant", "plant-1", arrival=plant.TIME_OF_EVENT.name)
LOAD = Intake(
    "load",
    LOAD_READINGS,
    load.READING,
    "load zone",
    "PJME",
    NAME_OR_PART,
    load.LOAD_ZONE.name,
    (load.LOAD.name, load.TEMPERATURE.name),
    (3600,),
    export=SeriesKind.LOAD,
)
METER = Intake(
    "meters",
    METER_READINGS,
    meter.READING,
    "meter",
    "10443720000000001",
    NAME_OR_PART,
    meter.METER_ID.name,
    (meter.CONSUMPTION.name,),
    (900, 1800),
    export=SeriesKind.METER,
)
INTAKES = (PLANT, LOAD, METER)


def screened(intake: Intake, batch: Batch, key: str) -> Batch:
    """Return the batch with those rows refused that the schema lets pass and the stream cannot use.

    Parameters
    ----------
    key : str
        Name all rows belong to; "" if each row names its own.
    """
    if intake.key_field is None:
        return batch
    found = [r for r in _faults(intake, batch, key) if batch.valid[r.row]]
    if not found:
        return batch
    valid = batch.valid.copy()
    valid[[r.row for r in found]] = False
    return Batch(batch.columns, valid, tuple(sorted((*batch.rejections, *found), key=lambda r: r.row)))


def _faults(intake: Intake, batch: Batch, key: str) -> Iterator[Rejection]:
    assert intake.key_field is not None
    columns = batch.columns
    names = columns[intake.key_field]
    for row in np.flatnonzero([_is_wrong(name, key, intake) for name in names]).tolist():
        code = "missing_field" if names[row] is None else "out_of_range"
        allowed = f"{key!r}, the name these rows were sent under, or nothing" if key else intake.allowed_key
        yield Rejection(row, code, intake.key_field, shorten(names[row]), allowed)
    starts = columns[INTERVAL_START].astype(np.int64)
    step = np.full(len(batch), intake.steps[0])
    if INTERVAL_SECONDS in columns:
        given = columns[INTERVAL_SECONDS]
        known = np.isin(given, intake.steps)
        for row in np.flatnonzero(~known & ~np.isnan(given)).tolist():
            yield Rejection(row, "out_of_range", INTERVAL_SECONDS, float(given[row]), f"{_either(intake.steps)} s")
        step = np.where(known, given, step).astype(np.int64)
    for row in np.flatnonzero(starts % (step * 1000) != 0).tolist():
        got = shorten(columns[INTERVAL_START][row])
        yield Rejection(row, "out_of_range", INTERVAL_START, got, f"a whole multiple of {step[row]} s")
    nothing = np.logical_and.reduce([np.isnan(columns[name]) for name in intake.values])
    allowed = " or ".join(f"{name}: {intake.schema.field(name).allowed}" for name in intake.values)
    for row in np.flatnonzero(nothing).tolist():
        yield Rejection(row, "missing_field", intake.values[0], None, allowed)
    for row in np.flatnonzero(~np.isnat(columns[ISSUE_TIME])).tolist():
        got = shorten(columns[ISSUE_TIME][row])
        yield Rejection(row, "unknown_field", ISSUE_TIME, got, "no such field in a reading; it is for requests")
    zones = columns[TIME_ZONE]
    for zone in {zone for zone in zones if zone is not None}:
        try:
            zone_named(zone)
        except SettingInvalid:
            for row in np.flatnonzero(zones == zone).tolist():
                yield Rejection(row, "out_of_range", TIME_ZONE, shorten(zone), "a name of the IANA time zone database")


def _is_wrong(name: str | None, key: str, intake: Intake) -> bool:
    if key:
        return name is not None and name != key
    return name is None or not intake.key_pattern.fullmatch(name)


def _either(steps: tuple[int, ...]) -> str:
    return " or ".join(map(str, steps))


def by_key(intake: Intake, batch: Batch, key: str) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield each key with the positions of its valid rows, in the order keys first appear."""
    rows = np.flatnonzero(batch.valid)
    if key or intake.key_field is None:
        if len(rows):
            yield key, rows
        return
    names = batch.columns[intake.key_field][rows]
    for name in dict.fromkeys(names.tolist()):
        yield name, rows[names == name]
