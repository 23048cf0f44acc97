"""A file of any measured series, whoever wrote it -> one kind of record: load of PJM's zones, smart meters."""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.meter_exports import MOST_BYTES, Problem, read_meter_file, sniff
from kappawatt.datasets.pjm import PJM_ZONE, STEP, is_load_header, read_load_file
from kappawatt.errors import PayloadInvalid, PayloadTooLarge
from kappawatt.forecasting.calendar import Times
from kappawatt.forecasting.gaps import fill_inside
from kappawatt.forecasting.history import History, Past
from kappawatt.streams.load import TEMPERATURE
from kappawatt.streams.series import SeriesKind

__all__ = ["Problem", "SeriesFile", "kind_of", "past_of", "read_series", "read_series_file"]

HEAD_BYTES = 65_536
HOURLY = re.compile(r"_hourly.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SeriesFile:
    """What a file says of one series, in order of time.

    Parameters
    ----------
    key : str
        Name of the zone or meter.
    time_zone : str
        IANA name of the clock its days follow.
    step : int
        Length of an interval [s].
    starts : ndarray of datetime64[ms], shape (n,)
        Start of each interval, UTC. An interval that was revised comes once for each revision, newest last.
    values : ndarray of shape (n,)
        Mean load [MW] or energy [kWh] of the interval; NaN where the file has none.
    known : ndarray of datetime64[ms], shape (n,)
        When the value was published, UTC; NaT where the file does not say.
    covariates : mapping of str to ndarray of shape (n,)
        By name, NaN where unknown: `temperature` [degC] of load files that have it.
    problems : tuple of Problem
        Rows that are in no series. A file's problems stand with its first series, so that each counts once.
    kind : SeriesKind
    """

    key: str
    time_zone: str
    step: int
    starts: Times
    values: NDArray[np.float64]
    known: Times
    covariates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    kind: SeriesKind = SeriesKind.LOAD

    def __len__(self) -> int:
        return len(self.starts)


def read_series_file(path: Path, *, key: str = "", time_zone: str = "") -> list[SeriesFile]:
    """Read a file whose layout is recognised from its header: PJM, Smart Meter Texas or Low Carbon London.

    Parameters
    ----------
    path : Path
        CSV, plain or gzip.
    key : str
        Name of the series, instead of the one the file tells; of a load file whose header tells none (`ds,y`)
        the file's name up to `_hourly` otherwise. Not for files of several series.
    time_zone : str
        IANA name of the clock that a load file's labels follow; PJM's if empty. Meter files bring their own.

    Raises
    ------
    PayloadInvalid
        The layout is none of these, no row could be read, or `key` is for one of several series.
    PayloadTooLarge
        Unpacked it has more than 256 MiB.
    """
    if path.stat().st_size > MOST_BYTES:
        raise PayloadTooLarge(f"{path}: got {path.stat().st_size} bytes, allowed up to {MOST_BYTES}")
    try:
        return read_series(path.read_bytes(), key=key, time_zone=time_zone, name=path.name)
    except PayloadTooLarge as error:
        raise PayloadTooLarge(f"{path}: {error}") from None
    except PayloadInvalid as error:
        raise PayloadInvalid(f"{path}: {error}") from None


def read_series(content: bytes, *, key: str = "", time_zone: str = "", name: str = "") -> list[SeriesFile]:
    """Read a file's bytes; see `read_series_file`. `name` is the file's, for a key that nothing else tells."""
    if kind_of(content) is SeriesKind.LOAD:
        series = _load_series(content, key, time_zone or PJM_ZONE, name)
    else:
        series = _meter_series(content, key)
    return series


def kind_of(content: bytes) -> SeriesKind:
    """Return what a file measures, from its header.

    Parameters
    ----------
    content : bytes
        The file or its first 64 KiB, plain or gzip.

    Raises
    ------
    PayloadInvalid
        The header is none of those known.
    """
    header = _header(content)
    if is_load_header(header):
        return SeriesKind.LOAD
    try:
        sniff(",".join(header).encode())
    except PayloadInvalid as error:
        raise PayloadInvalid(f"{error}, or of hourly load (Datetime,<ZONE>_MW)") from None
    return SeriesKind.METER


def _header(content: bytes) -> list[str]:
    head = content[:HEAD_BYTES]
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
        except zlib.error as error:
            raise PayloadInvalid(f"gzip: {error}") from error
    line = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0].strip().decode("utf-8", "replace")
    try:
        return [name.strip() for name in next(csv.reader([line]), [])]
    except csv.Error as error:
        raise PayloadInvalid(f"line 1: {error}") from error


def _load_series(content: bytes, key: str, time_zone: str, name: str) -> list[SeriesFile]:
    header = _header(content)
    names_zone = any(column.lower().endswith("_mw") for column in header)
    found = read_load_file(content, key=key or ("" if names_zone else _key_from(name)), time_zone=time_zone)
    _require_rows(found.problems, len(found.series))
    if key and len(found.series) > 1:
        raise PayloadInvalid(f"key: got {key!r}, allowed none for a file of {len(found.series)} series")
    return [
        SeriesFile(
            one.key,
            one.time_zone,
            STEP,
            one.starts,
            one.values,
            np.full(len(one.starts), np.datetime64("NaT", "ms")),
            {} if one.temperature is None else {TEMPERATURE.name: one.temperature},
            found.problems if i == 0 else (),
        )
        for i, one in enumerate(found.series)
    ]


def _meter_series(content: bytes, key: str) -> list[SeriesFile]:
    found = read_meter_file(content)
    _require_rows(found.problems, len(found.series))
    if key and len(found.series) > 1:
        keys = ", ".join(one.key for one in found.series)
        raise PayloadInvalid(f"key: got {key!r}, allowed none for a file of several series ({keys[:200]})")
    return [
        SeriesFile(
            key or one.key,
            one.time_zone,
            one.step,
            one.starts,
            one.values,
            one.known,
            {},
            found.problems if i == 0 else (),
            SeriesKind.METER,
        )
        for i, one in enumerate(found.series)
    ]


def _require_rows(problems: tuple[Problem, ...], series: int) -> None:
    if series == 0:
        raise PayloadInvalid(problems[0].message if problems else "got no row, allowed 1 or more")


def _key_from(name: str) -> str:
    """Return the zone that a file's name tells: `PJME` of `PJME_hourly_to2016.csv.gz`."""
    stem = name.partition(".")[0]
    return HOURLY.sub("", stem).upper()


def past_of(series: SeriesFile) -> Past:
    """Return everything a file knows of a series, gaps inside it filled; not its weather: when was it known?"""
    history = History(series.key, series.time_zone, series.step)
    history.add(series.starts, series.values)
    assert history.clock is not None
    return fill_inside(history.until(history.clock))
