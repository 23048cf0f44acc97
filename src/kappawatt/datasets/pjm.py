"""Hourly load files as PJM's readers write them -> series of hours in UTC, and what could not be read.

The layout is that of PJM's hourly load by zone: `Datetime,PJME_MW` with local, hour-ending labels in no order. The
row of an hour is labelled with the wall-clock time at its start plus one hour, so around a clock change:

- in spring no row is labelled 03:00: that hour is skipped. One that is there is named as a problem.
- in autumn the label 02:00 belongs to two hours. Two rows are both; which is the first is told by continuity with
  the hours before and after, because the order in the file tells nothing: in the public files of PJME, AEP and DAYTON
  alike the earlier hour comes second in 2014 and 2016, and first in 2015. So taken the load falls through eight of
  those nine nights; in the file's order it would zigzag in six.
- up to 2013 no row is labelled 02:00 in autumn: both hours are missing, the one before the change and the one after.
  Rows labelled 01:00 and 03:00 are what their labels say, three hours apart: from the one to the other PJME falls by
  8.5 % (median of 2002 to 2013); on the four Sundays before and after it falls by 4 % in one hour from there, by 7 %
  in two and by 8 % in three.
- one row labelled 02:00 in autumn is the first of the two hours; the other is missing.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.schema import Field
from kappawatt.datasets.series import (
    MOST_BYTES,
    Problem,
    Problems,
    Reader,
    SeriesFile,
    header_of,
    refuse_key,
    require_rows,
    text_lines,
)
from kappawatt.errors import PayloadInvalid, PayloadTooLarge
from kappawatt.forecasting.calendar import HOUR, Times, to_utc
from kappawatt.streams.load import LOAD, TEMPERATURE
from kappawatt.streams.stream import Stream

__all__ = ["FILES", "PJM_ZONE", "LoadFile", "LoadSeries", "is_load_header", "read_load_file"]

PJM_ZONE = "America/New_York"  # "Eastern prevailing time"
STEP = 3600  # s
TIME_COLUMNS = ("datetime", "ds", "date")
LOAD_COLUMNS = ("y", "load", "mw")  # without a zone's name: the key is the caller's
ZONE_COLUMN = re.compile(r"(.+)_mw", re.IGNORECASE)
LABEL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.0+)?)?")
HOURLY = re.compile(r"_hourly.*", re.IGNORECASE)
SHOWN = 80  # characters of a bad value that are worth repeating
NOTHING = np.datetime64("NaT", "ms")
CHUNK_ROWS = 4_096  # that exist as text at a time


@dataclass(frozen=True, slots=True)
class LoadSeries:
    """What a file says of one zone, in order of time.

    Parameters
    ----------
    key : str
        Name of the zone, such as `PJME`.
    time_zone : str
        IANA name.
    starts : ndarray of datetime64[ms], shape (n,)
        Start of each hour, UTC; each once.
    values : ndarray of shape (n,)
        Mean load of the hour [MW]; NaN where the file has none.
    temperature : ndarray of shape (n,) or None
        Air temperature [degC], NaN where unknown; None if the file has no such column.
    """

    key: str
    time_zone: str
    starts: Times
    values: NDArray[np.float64]
    temperature: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class LoadFile:
    """All series of a file, and the rows that are in none of them, by line."""

    series: tuple[LoadSeries, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of numbers: where it stands and what it holds."""

    place: int
    name: str
    key: str
    field: Field


@dataclass(frozen=True, slots=True)
class _Rows:
    """Readable rows in file order; `wall` is the local wall-clock time at the start of the hour."""

    lines: NDArray[np.int64]
    wall: Times
    numbers: dict[str, NDArray[np.float64]]


def is_load_header(header: Sequence[str]) -> bool:
    """Whether a header is that of an hourly load file."""
    names = [name.strip().lower() for name in header]
    return bool(names) and names[0] in TIME_COLUMNS and any(_is_load(name) for name in names[1:])


def read_load_file(content: bytes, *, key: str = "", time_zone: str = PJM_ZONE) -> LoadFile:
    """Read an hourly load file: `Datetime,<ZONE>_MW`, or `ds,y`, `date,<ZONE>_MW`, in upper or lower case.

    Several columns `<ZONE>_MW` are as many series. A column `temperature` [degC] goes with each of them. An hour that
    is told twice with one value counts once; with two values the later row counts and the earlier is named, but for
    the repeated hour in autumn (see the module).

    Parameters
    ----------
    content : bytes
        The CSV file, plain or gzip.
    key : str
        Name of the zone, where the header does not say.
    time_zone : str
        IANA name of the clock the labels follow.

    Returns
    -------
    LoadFile

    Raises
    ------
    PayloadInvalid
        It is no such file, or nobody names the zone.
    PayloadTooLarge
        Unpacked it has more than `MOST_BYTES`.

    Examples
    --------
    >>> found = read_load_file(b"Datetime,PJME_MW\\n2016-07-01 01:00:00,30000\\n").series[0]
    >>> found.key, str(found.starts[0])
    ('PJME', '2016-07-01T04:00:00.000')
    """
    table = csv.reader(text_lines(_unpacked(content)))
    try:
        header = [name.strip() for name in next(table, [])]
        if not is_load_header(header):
            raise PayloadInvalid(
                f"header: got {','.join(header)[:SHOWN]!r}, allowed Datetime,<ZONE>_MW or ds,y (and temperature)"
            )
        columns = _columns(header, key)
        problems = Problems()
        rows = _read_rows(table, header[0], columns, problems)
    except csv.Error as error:
        raise PayloadInvalid(f"line {table.line_num}: {error}") from error
    series = [_series(column, rows, time_zone, problems) for column in columns if column.field is LOAD]
    once = sorted(set(problems), key=lambda problem: (problem.line, problem.field))
    return LoadFile(tuple(one for one in series if len(one.starts)), tuple(once))


def _unpacked(content: bytes) -> bytes:
    if content[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise PayloadInvalid(f"gzip: {error}") from error
    if len(content) > MOST_BYTES:
        raise PayloadTooLarge(f"file: got more than {MOST_BYTES} bytes, allowed up to that, unpacked")
    return content


def _is_load(name: str) -> bool:
    return name in LOAD_COLUMNS or ZONE_COLUMN.fullmatch(name) is not None


def _columns(header: list[str], key: str) -> list[_Column]:
    columns = []
    for place, name in enumerate(header[1:], 1):
        zone = ZONE_COLUMN.fullmatch(name)
        if zone:
            columns.append(_Column(place, name, zone[1].upper(), LOAD))
        elif name.lower() in LOAD_COLUMNS:
            if not key:
                raise PayloadInvalid(f"header: got {name!r}, allowed <ZONE>_MW, or a key beside the file")
            columns.append(_Column(place, name, key, LOAD))
        elif name.lower() == TEMPERATURE.name:
            columns.append(_Column(place, name, "", TEMPERATURE))
    loads = [column.key for column in columns if column.field is LOAD]
    if key and len(loads) == 1:
        columns = [_Column(c.place, c.name, key if c.field is LOAD else "", c.field) for c in columns]
    elif len(set(loads)) < len(loads):
        raise PayloadInvalid(f"header: got the zones {', '.join(loads)}, allowed each once")
    return columns


def _read_rows(table: Iterable[list[str]], time_column: str, columns: list[_Column], problems: list[Problem]) -> _Rows:
    width = max(column.place for column in columns) + 1
    parts: list[_Rows] = []
    numbered = enumerate(table, 2)
    while chunk := list(islice(numbered, CHUNK_ROWS)):
        parts.append(_read_chunk(chunk, width, time_column, columns, problems))
    if not parts:
        parts.append(_read_chunk([], width, time_column, columns, problems))
    return _Rows(
        np.concatenate([part.lines for part in parts]),
        np.concatenate([part.wall for part in parts]),
        {c.name: np.concatenate([part.numbers[c.name] for part in parts]) for c in columns},
    )


def _read_chunk(
    chunk: list[tuple[int, list[str]]], width: int, time_column: str, columns: list[_Column], problems: list[Problem]
) -> _Rows:
    cells: list[list[str]] = []
    lines: list[int] = []
    for line, row in chunk:
        if not row or not any(cell.strip() for cell in row):
            continue
        if len(row) < width:
            problems.append(Problem(line, "row", ",".join(row)[:SHOWN], f"{width} columns"))
            continue
        cells.append(row)
        lines.append(line)
    number_of = np.array(lines, dtype=np.int64)
    wall, readable = _labels([row[0] for row in cells], time_column, lines, problems)
    numbers = {}
    for column in columns:
        numbers[column.name], good = _numbers([row[column.place] for row in cells], column, lines, problems)
        readable &= good
    return _Rows(number_of[readable], wall[readable], {name: values[readable] for name, values in numbers.items()})


def _labels(texts: list[str], name: str, lines: list[int], problems: list[Problem]) -> tuple[Times, NDArray[np.bool_]]:
    """Return the wall-clock time at the start of each hour, and which labels could be read."""
    ends = np.full(len(texts), NOTHING)
    for i, text in enumerate(texts):
        label = text.strip()
        if LABEL.fullmatch(label):
            try:
                ends[i] = np.datetime64(label, "ms")
            except ValueError:  # 2016-02-30
                continue
    readable = ~np.isnat(ends)
    readable &= (np.where(readable, ends.astype(np.int64), 0) % (STEP * 1000)) == 0
    problems.extend(
        Problem(lines[i], name, texts[i][:SHOWN], "a full hour as YYYY-MM-DD HH:MM:SS")
        for i in np.flatnonzero(~readable).tolist()
    )
    return ends - HOUR, readable


def _numbers(
    texts: list[str], column: _Column, lines: list[int], problems: list[Problem]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a column's numbers, NaN for a blank, and which cells could be read."""
    low, high = column.field.limits
    values = np.full(len(texts), np.nan)
    readable = np.ones(len(texts), dtype=np.bool_)
    for i, text in enumerate(texts):
        if not text or text.isspace():
            continue
        try:
            values[i] = float(text)
        except ValueError:
            readable[i] = False
        if not low <= values[i] <= high:
            readable[i] = False
    allowed = f"a number from {low:g} to {high:g} {column.field.unit}, or nothing"
    problems.extend(
        Problem(lines[i], column.name, texts[i].strip()[:SHOWN], allowed) for i in np.flatnonzero(~readable).tolist()
    )
    return values, readable


def _series(column: _Column, rows: _Rows, zone: str, problems: list[Problem]) -> LoadSeries:
    starts, late = to_utc(rows.wall, zone), to_utc(rows.wall, zone, second=True)
    values = rows.numbers[column.name]
    for i in np.flatnonzero(np.isnat(starts)).tolist():
        label = str((rows.wall[i] + HOUR).astype("datetime64[s]")).replace("T", " ")
        problems.append(Problem(int(rows.lines[i]), "time", label, f"no hour that the clock of {zone} skips"))
    repeated = ~np.isnat(starts) & (starts != late)
    kept = [_once(np.flatnonzero(~np.isnat(starts) & ~repeated), rows, starts, values, column.name, problems)]
    singles = dict(zip(starts[kept[0]].tolist(), values[kept[0]].tolist(), strict=True))
    for moment in np.unique(starts[repeated]):
        group = np.flatnonzero(repeated & (starts == moment))
        first, second = _both_hours(group, values, rows, column.name, problems, singles, moment)
        starts[second] = late[second]
        kept.append(np.array([*first, *second], dtype=np.intp))
    order = np.concatenate(kept)
    order = order[np.argsort(starts[order], kind="stable")]
    temperature = next((rows.numbers[name] for name in rows.numbers if name.lower() == TEMPERATURE.name), None)
    return LoadSeries(
        column.key, zone, starts[order], values[order], None if temperature is None else temperature[order]
    )


def _once(
    places: NDArray[np.intp],
    rows: _Rows,
    starts: Times,
    values: NDArray[np.float64],
    name: str,
    problems: list[Problem],
) -> NDArray[np.intp]:
    """Return the last row of each hour; earlier rows that say another value are named."""
    order = places[np.argsort(starts[places], kind="stable")]
    is_last = np.ones(len(order), dtype=np.bool_)
    is_last[:-1] = starts[order[1:]] != starts[order[:-1]]
    chosen = order[is_last]
    if len(chosen) == len(order):
        return chosen
    group = np.cumsum(np.concatenate([[False], is_last[:-1]]))
    for place in np.flatnonzero(~is_last).tolist():
        earlier, last = order[place], chosen[group[place]]
        _name_contradiction(int(earlier), int(last), rows, values, name, problems)
    return chosen


def _both_hours(
    group: NDArray[np.intp],
    values: NDArray[np.float64],
    rows: _Rows,
    name: str,
    problems: list[Problem],
    singles: dict[int, float],
    moment: np.datetime64,
) -> tuple[list[int], list[int]]:
    """Return which row is the first and which the second of the two hours that one label stands for.

    Parameters
    ----------
    group : ndarray of int
        Rows with that label, in file order. Rows that say the same more than twice are repetitions.
    singles : dict of start to value
        Of the hours around.
    moment : datetime64[ms]
        Start of the first of the two hours, UTC.
    """
    distinct: dict[float, int] = {}
    for i in group.tolist():
        distinct.setdefault(float(values[i]), i)
    chosen = list(distinct.values())
    if len(chosen) == 1:
        return [int(group[0])], group[1:2].tolist()
    for extra in chosen[:-2]:
        _name_contradiction(extra, chosen[-1], rows, values, name, problems)
    one, two = chosen[-2:]
    before = singles.get((moment - HOUR).astype("datetime64[ms]").item(), float("nan"))
    after = singles.get((moment + 2 * HOUR).astype("datetime64[ms]").item(), float("nan"))
    steps = [
        np.nansum([abs(values[first] - before), abs(after - values[second])])
        for first, second in ((one, two), (two, one))
    ]
    return ([two], [one]) if steps[1] < steps[0] else ([one], [two])


def _name_contradiction(
    earlier: int, later: int, rows: _Rows, values: NDArray[np.float64], name: str, problems: list[Problem]
) -> None:
    if values[earlier] == values[later] or np.isnan(values[earlier]):
        return
    allowed = f"{values[later]:g}, as line {rows.lines[later]} says of the same hour"
    problems.append(Problem(int(rows.lines[earlier]), name, f"{values[earlier]:g}", allowed))


class _Files:
    """Reads them as files of a stream of load zones."""

    layouts = "hourly load (Datetime,<ZONE>_MW)"

    def recognises(self, header: Sequence[str]) -> bool:
        return is_load_header(header)

    def read(self, content: bytes, *, key: str, time_zone: str, name: str, stream: Stream) -> list[SeriesFile]:
        names_zone = any(column.lower().endswith("_mw") for column in header_of(content))
        fallback = "" if names_zone else _zone_of(name)
        found = read_load_file(content, key=key or fallback, time_zone=time_zone or PJM_ZONE)
        require_rows(found.problems, len(found.series))
        refuse_key(key, [one.key for one in found.series])
        return [
            SeriesFile(
                one.key,
                one.time_zone,
                STEP,
                one.starts,
                one.values,
                np.full(len(one.starts), NOTHING),
                {} if one.temperature is None else {TEMPERATURE.name: one.temperature},
                found.problems if i == 0 else (),
                stream=stream,
            )
            for i, one in enumerate(found.series)
        ]


def _zone_of(name: str) -> str:
    """Return the zone that a file's name tells: `PJME` of `PJME_hourly_to2016.csv.gz`."""
    stem = name.partition(".")[0]
    return HOURLY.sub("", stem).upper()


FILES: Reader = _Files()
