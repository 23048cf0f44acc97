"""Smart meter files as their publishers write them -> series of intervals in UTC, and what could not be read.

Two publishers: the Smart Meter Texas portal (quarter hours in US Central time, with revisions) and the Low Carbon
London trial (half hours). A row is either in a series or named as a problem; only intervals that the wall clock
skips in spring, which the portal exports blank, are neither.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.series import (
    HEAD_BYTES,
    MOST_BYTES,
    Problem,
    Problems,
    Reader,
    SeriesFile,
    refuse_key,
    require_rows,
    text_lines,
)
from kappawatt.errors import PayloadInvalid, PayloadTooLarge
from kappawatt.forecasting.calendar import HOUR, Times, to_utc
from kappawatt.streams.stream import Stream

__all__ = [
    "FILES",
    "LONDON_ZONE",
    "SURPLUS",
    "TEXAS_ZONE",
    "MeterFile",
    "MeterFormat",
    "MeterSeries",
    "read_london",
    "read_meter_file",
    "read_smart_meter_texas",
    "sniff",
]

TEXAS_ZONE = "America/Chicago"
LONDON_ZONE = "UTC"  # the trial's clock has no change in spring and autumn, so its labels are instants
TEXAS_STEP = 900  # s
LONDON_STEP = 1800  # s
SURPLUS = ":surplus"  # appended to a meter's key for the energy it gave to the grid
LARGEST = 1000.0  # kWh in one interval: 2 MW, far above any meter that is read in quarter or half hours
SHORTEST = 80  # characters of a bad value that are worth repeating

TEXAS_COLUMNS = (
    "ESIID",
    "USAGE_DATE",
    "REVISION_DATE",
    "USAGE_START_TIME",
    "USAGE_END_TIME",
    "USAGE_KWH",
    "ESTIMATED_ACTUAL",
    "CONSUMPTION_SURPLUSGENERATION",
)
LONDON_METER = ("LCLid",)
LONDON_TIME = ("tstp", "DateTime")  # of the Kaggle edition, of the London Datastore
LONDON_ENERGY = ("energy(kWh/hh)", "KWH/hh (per half hour)")

ESIID = re.compile(r"'?([0-9]{1,22})'?")
US_DATE = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")
US_MOMENT = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})[ T]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})")
ISO_MOMENT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.0+)?")
NOTHING = np.datetime64("NaT", "ms")
QUARTERS = 96  # of a day of 24 hours
WEIRD_START, WEIRD_END = 8, 5  # 02:00 and 01:15 in quarter hours, see _occurrences


class MeterFormat(StrEnum):
    """Whose export a file is."""

    SMART_METER_TEXAS = "smart_meter_texas"
    LONDON = "london"


@dataclass(frozen=True, slots=True)
class MeterSeries:
    """What a file says of one meter, in order of start and then of publication.

    Parameters
    ----------
    key : str
        The meter's identifier; `:surplus` is appended for energy given to the grid.
    time_zone : str
        IANA name of the clock the meter's days follow.
    step : int
        Length of an interval [s].
    starts : ndarray of datetime64[ms], shape (n,)
        Start of each interval, UTC. An interval that was revised comes once for each revision, newest last.
    values : ndarray of shape (n,)
        Energy of the interval [kWh]; NaN where the file has none.
    known : ndarray of datetime64[ms], shape (n,)
        When the value was published, UTC; NaT where the file does not say.
    estimated : ndarray of bool, shape (n,)
        True where the utility estimated the value.
    """

    key: str
    time_zone: str
    step: int
    starts: Times
    values: NDArray[np.float64]
    known: Times
    estimated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.starts)

    def newest(self) -> MeterSeries:
        """Return each interval once, as its newest revision has it."""
        last = np.ones(len(self.starts), dtype=np.bool_)
        last[:-1] = self.starts[1:] != self.starts[:-1]
        return MeterSeries(
            self.key,
            self.time_zone,
            self.step,
            self.starts[last],
            self.values[last],
            self.known[last],
            self.estimated[last],
        )


@dataclass(frozen=True, slots=True)
class MeterFile:
    """All series of a file, by key, and the rows that are in none of them, by line."""

    format: MeterFormat
    series: tuple[MeterSeries, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a file. Times are local and naive; `start` becomes UTC in `_as_series`."""

    line: int
    key: str
    date: str
    start: np.datetime64
    start_label: int  # quarter hours since midnight, as the label says
    is_weird: bool
    value: float
    known: np.datetime64
    is_estimated: bool


class _Unreadable(Exception):
    """Carries field, value got and values allowed of a row that cannot be read."""


def sniff(content: bytes) -> MeterFormat:
    """Return whose export a file is, from its header.

    Parameters
    ----------
    content : bytes
        The file, plain or gzip.

    Raises
    ------
    PayloadInvalid
        The header is neither publisher's.

    Examples
    --------
    >>> sniff(b"LCLid,tstp,energy(kWh/hh)\\n").value
    'london'
    """
    header = _header(_text(content[:HEAD_BYTES], is_whole=len(content) <= HEAD_BYTES))
    found = _format_of(header)
    if found is None:
        raise PayloadInvalid(f"header: got {','.join(header)[:SHORTEST]!r}, allowed that of {FILES.layouts}")
    return found


def _format_of(header: Sequence[str]) -> MeterFormat | None:
    if _has(header, (TEXAS_COLUMNS[0],)) and _has(header, (TEXAS_COLUMNS[3],)):
        return MeterFormat.SMART_METER_TEXAS
    if _has(header, LONDON_METER) and _has(header, LONDON_ENERGY):
        return MeterFormat.LONDON
    return None


def read_meter_file(content: bytes) -> MeterFile:
    """Return what a file of either publisher says; see `read_smart_meter_texas` and `read_london`."""
    return _READERS[sniff(content)](content)


def read_smart_meter_texas(content: bytes) -> MeterFile:
    """Read an interval export of the Smart Meter Texas portal.

    Rows may come oldest or newest first, of several meters, and repeat an interval with a newer REVISION_DATE. In
    spring the skipped hour is exported blank: it never was, and is left out. In autumn the labels of the repeated
    hour come twice without a flag: their order tells which is which.

    Parameters
    ----------
    content : bytes
        The CSV file, plain or gzip.

    Returns
    -------
    MeterFile
        Series in `America/Chicago` of 900 s [kWh]. Energy given to the grid is a series of its own.

    Raises
    ------
    PayloadInvalid
        It is no such export (no header, no gzip, no UTF-8).
    PayloadTooLarge
        Unpacked it has more than `MOST_BYTES`.
    """
    return _read(content, MeterFormat.SMART_METER_TEXAS, TEXAS_COLUMNS[:6], _texas_rows)


def read_london(content: bytes) -> MeterFile:
    """Read half hours of the Low Carbon London trial, in its Kaggle edition or the London Datastore's.

    Parameters
    ----------
    content : bytes
        The CSV file, plain or gzip; it may hold several meters.

    Returns
    -------
    MeterFile
        Series in UTC of 1,800 s [kWh]. The trial's labels neither skip nor repeat an hour, so they are taken as
        instants and a meter's day as the UTC day, an hour later in summer than the household's own. Nothing is said
        of publication.

    Raises
    ------
    PayloadInvalid
        It is no such file.
    PayloadTooLarge
        Unpacked it has more than `MOST_BYTES`.
    """
    return _read(content, MeterFormat.LONDON, (), _london_rows)


def _read(
    content: bytes,
    kind: MeterFormat,
    columns: Sequence[str],
    rows_of: Callable[[list[str], Iterable[list[str]], list[Problem]], list[_Row]],
) -> MeterFile:
    content = _unpacked(content)
    header = _header(_text(content[:HEAD_BYTES], is_whole=len(content) <= HEAD_BYTES))
    for name in columns:
        if name not in header:
            raise PayloadInvalid(f"header: got {','.join(header)[:SHORTEST]!r}, allowed one with {name}")
    lines = csv.reader(text_lines(content))
    next(lines)
    problems = Problems()
    energy = next((name for name in header if name in (TEXAS_COLUMNS[5], *LONDON_ENERGY)), "energy")
    try:
        rows = rows_of(header, lines, problems)
    except csv.Error as error:
        raise PayloadInvalid(f"line {lines.line_num}: {error}") from error
    by_key: dict[str, list[_Row]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    zone, step = (TEXAS_ZONE, TEXAS_STEP) if kind is MeterFormat.SMART_METER_TEXAS else (LONDON_ZONE, LONDON_STEP)
    series = [_as_series(key, own, zone, step, energy, problems) for key, own in sorted(by_key.items())]
    problems.sort(key=lambda problem: problem.line)
    return MeterFile(kind, tuple(one for one in series if len(one)), tuple(problems))


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


def _text(content: bytes, *, is_whole: bool = True) -> str:
    """Return a file's text; the start of it if the bytes are only its start."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = zlib.decompressobj(wbits=31).decompress(content, HEAD_BYTES)
        except zlib.error as error:
            raise PayloadInvalid(f"gzip: {error}") from error
        is_whole = False
    try:
        return content.decode("utf-8-sig", "strict" if is_whole else "ignore")
    except UnicodeDecodeError as error:
        raise PayloadInvalid(f"file: got byte {content[error.start]:#04x} at {error.start}, allowed UTF-8") from error


def _header(text: str) -> list[str]:
    first = text[: text.find("\n")] if "\n" in text else text
    try:
        return [name.strip() for name in next(csv.reader([first.strip("\r")]), [])]
    except csv.Error as error:
        raise PayloadInvalid(f"header: {error}") from error


def _has(header: Sequence[str], names: Iterable[str]) -> bool:
    stripped = {name.strip() for name in names}
    return any(name in stripped for name in header)


def _each_row(
    lines: Iterable[list[str]], problems: list[Problem], n_columns: int, read: Callable[[int, list[str]], _Row]
) -> list[_Row]:
    """Read rows one by one; those that cannot be read become problems, blank lines are nothing."""
    rows: list[_Row] = []
    for number, cells in enumerate(lines, start=2):
        if not cells or (len(cells) == 1 and not cells[0].strip()):
            continue
        if len(cells) < n_columns:
            problems.append(Problem(number, "row", ",".join(cells)[:SHORTEST], f"{n_columns} columns"))
            continue
        try:
            rows.append(read(number, cells))
        except _Unreadable as error:
            field, got, allowed = error.args
            problems.append(Problem(number, field, got[:SHORTEST], allowed))
    return rows


def _texas_rows(header: list[str], lines: Iterable[list[str]], problems: list[Problem]) -> list[_Row]:
    meter, date, revision, start, end, energy = (header.index(name) for name in TEXAS_COLUMNS[:6])
    # Exports of homes without solar panels have been seen without the last columns.
    quality = header.index(TEXAS_COLUMNS[6]) if TEXAS_COLUMNS[6] in header else None
    direction = header.index(TEXAS_COLUMNS[7]) if TEXAS_COLUMNS[7] in header else None

    def read(line: int, cells: list[str]) -> _Row:
        day = _us_date(cells[date])
        first, last = _clock("USAGE_START_TIME", cells[start]), _clock("USAGE_END_TIME", cells[end])
        is_weird = first == WEIRD_START and last == WEIRD_END
        if (last - first) % QUARTERS != 1 and not is_weird:
            allowed = "15 minutes after USAGE_START_TIME"
            raise _Unreadable("USAGE_END_TIME", cells[end], allowed)
        actual = cells[quality].strip().upper() if quality is not None else ""
        if actual not in ("", "A", "E"):
            raise _Unreadable("ESTIMATED_ACTUAL", cells[quality or 0], "A, E or nothing")
        label = first if not is_weird else WEIRD_END - 1
        return _Row(
            line,
            _esiid(cells[meter]) + (_surplus(cells[direction]) if direction is not None else ""),
            cells[date],
            day + np.timedelta64(label * TEXAS_STEP * 1000, "ms"),
            first,
            is_weird,
            _energy("USAGE_KWH", cells[energy]),
            _us_moment(cells[revision]),
            actual == "E",
        )

    return _each_row(
        lines, problems, max(meter, date, revision, start, end, energy, quality or 0, direction or 0) + 1, read
    )


def _london_rows(header: list[str], lines: Iterable[list[str]], problems: list[Problem]) -> list[_Row]:
    places = []
    for names in (LONDON_METER, LONDON_TIME, LONDON_ENERGY):
        place = next((i for i, name in enumerate(header) if name in names), None)
        if place is None:
            raise PayloadInvalid(f"header: got {','.join(header)[:SHORTEST]!r}, allowed one with {' or '.join(names)}")
        places.append(place)
    meter, moment, energy = places
    half_hour = np.timedelta64(LONDON_STEP * 1000, "ms")

    def read(line: int, cells: list[str]) -> _Row:
        start = _iso_moment(cells[moment])
        if start.astype(np.int64) % half_hour.astype(np.int64):
            raise _Unreadable(header[moment], cells[moment], "a whole or half hour")
        key = cells[meter].strip()
        if not key or len(key) > SHORTEST:
            raise _Unreadable(header[meter], cells[meter], f"1 to {SHORTEST} characters")
        value = _energy(header[energy], cells[energy])
        return _Row(line, key, "", start, 0, False, value, NOTHING, False)

    return _each_row(lines, problems, max(places) + 1, read)


def _as_series(key: str, rows: list[_Row], zone: str, step: int, energy: str, problems: list[Problem]) -> MeterSeries:
    """Return one meter's rows in UTC; what the clock skipped is left out, what is said twice named."""
    local = np.array([row.start for row in rows], dtype="datetime64[ms]")
    values = np.array([row.value for row in rows])
    revised = np.array([row.known for row in rows], dtype="datetime64[ms]")
    starts = to_utc(local, zone)
    repeated = starts != to_utc(local, zone, second=True)
    repeated &= ~np.isnat(starts)
    if repeated.any():
        starts = to_utc(local, zone, second=_occurrences(rows, repeated))
    keep = np.ones(len(rows), dtype=np.bool_)
    weird = np.array([row.is_weird for row in rows], dtype=np.bool_)
    for i in np.flatnonzero(weird & ~repeated).tolist():
        keep[i] = False
        problems.append(Problem(rows[i].line, "USAGE_END_TIME", "01:15", "15 minutes after USAGE_START_TIME (02:00)"))
    for i in np.flatnonzero(np.isnat(starts)).tolist():
        keep[i] = False
        if not np.isnan(values[i]):
            allowed = f"no energy in an hour that the clock of {zone} skips"
            problems.append(Problem(rows[i].line, energy, f"{values[i]:g} at {local[i]}", allowed))
    known = to_utc(revised, zone)
    skipped = np.isnat(known) & ~np.isnat(revised)
    known[skipped] = to_utc(revised[skipped] + HOUR, zone)
    chosen = _without_repeats(rows, starts, known, values, np.flatnonzero(keep), energy, problems)
    estimated = np.array([row.is_estimated for row in rows], dtype=np.bool_)
    return MeterSeries(key, zone, step, starts[chosen], values[chosen], known[chosen], estimated[chosen])


def _without_repeats(
    rows: list[_Row],
    starts: Times,
    known: Times,
    values: NDArray[np.float64],
    kept: NDArray[np.intp],
    energy: str,
    problems: list[Problem],
) -> NDArray[np.intp]:
    """Return positions in order of start and publication; of rows that say both the same, the last with a value.

    A row that says again what another said is dropped, one that contradicts it is named.
    """
    moment = np.where(np.isnat(known), np.int64(-(2**62)), known.astype(np.int64))
    order = kept[np.lexsort((kept, moment[kept], starts[kept].astype(np.int64)))]
    same = (starts[order[1:]] == starts[order[:-1]]) & (moment[order[1:]] == moment[order[:-1]])
    if not same.any():
        return order
    drop = np.zeros(len(order), dtype=np.bool_)
    for place in np.flatnonzero(same).tolist():
        earlier, later = int(order[place]), int(order[place + 1])
        if np.isnan(values[later]) and not np.isnan(values[earlier]):
            order[place], order[place + 1] = later, earlier
            earlier, later = later, earlier
        drop[place] = True
        if not (np.isnan(values[earlier]) or values[earlier] == values[later]):
            allowed = f"{values[later]:g}, as line {rows[later].line} says of the same interval and time of publication"
            problems.append(Problem(rows[earlier].line, energy, f"{values[earlier]:g}", allowed))
    return order[~drop]


def _occurrences(rows: list[_Row], repeated: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows of the repeated hour are its second run.

    The portal labels quarter hours of the repeated hour as those of the first, but for the first of them: it starts
    at 02:00, where the quarter hour before it ended, and ends at 01:15. Within one day and revision, rows that stand
    in time's order can be walked: each is the earliest instant its label allows that is later than the one before.

    Parameters
    ----------
    rows : list of _Row
        Of one meter, in the file's order.
    repeated : ndarray of bool, shape (n,)
        True where the wall clock shows the row's start twice.
    """
    second = np.zeros(len(rows), dtype=np.bool_)
    days = {rows[i].date for i in np.flatnonzero(repeated).tolist()}
    groups: dict[tuple[str, int], list[int]] = {}
    for i, row in enumerate(rows):
        if row.date in days:
            groups.setdefault((row.date, int(row.known.astype(np.int64))), []).append(i)
    is_file_newest_first = _is_newest_first([row.start for row in rows])
    for group in groups.values():
        labels = [rows[i].start_label for i in group]
        falls = _is_newest_first(labels)
        backwards = is_file_newest_first if falls is None else falls
        hour = 4
        before = -1  # quarter hours since midnight of the row before, counted through the repeated hour
        for i in reversed(group) if backwards else group:
            label = WEIRD_END - 1 if rows[i].is_weird else rows[i].start_label
            if not repeated[i]:
                elapsed = label if label < WEIRD_END - 1 else label + hour
                before = elapsed
                continue
            candidates = (label + hour,) if rows[i].is_weird else (label, label + hour)
            elapsed = next((c for c in candidates if c > before), candidates[0])
            second[i] = elapsed >= label + hour
            before = elapsed
    return second


def _is_newest_first(moments: Sequence[int] | Sequence[np.datetime64]) -> bool | None:
    """Whether most steps go back in time; None if as many go either way."""
    steps = np.sign(np.diff(np.array(moments)).astype(np.int64)).sum()
    return None if steps == 0 else bool(steps < 0)


def _short(text: str) -> str:
    """A cell without blanks around it; nothing of one so long that remembering it would take memory."""
    return text.strip() if len(text) <= SHORTEST else ""


@lru_cache(maxsize=4096)
def _us_date(text: str) -> np.datetime64:
    match = US_DATE.fullmatch(_short(text))
    if match:
        month, day, year = match.groups()
        try:
            return np.datetime64(f"{year}-{month:0>2}-{day:0>2}", "ms")
        except ValueError:
            pass
    raise _Unreadable("USAGE_DATE", text, "a date as MM/DD/YYYY")


@lru_cache(maxsize=4096)
def _us_moment(text: str) -> np.datetime64:
    if not text.strip() and len(text) <= SHORTEST:
        return NOTHING
    match = US_MOMENT.fullmatch(_short(text))
    if match:
        month, day, year, hours, minutes, seconds = match.groups()
        try:
            return np.datetime64(f"{year}-{month:0>2}-{day:0>2}T{hours:0>2}:{minutes}:{seconds or '00'}", "ms")
        except ValueError:
            pass
    raise _Unreadable("REVISION_DATE", text, "a time as MM/DD/YYYY HH:MM:SS, or nothing")


@lru_cache(maxsize=65536)
def _iso_moment(text: str) -> np.datetime64:
    match = ISO_MOMENT.fullmatch(_short(text))
    if match:
        try:
            return np.datetime64(f"{match[1]}T{match[2]}", "ms")
        except ValueError:
            pass
    raise _Unreadable("tstp", text, "a time as YYYY-MM-DD HH:MM:SS")


@lru_cache(maxsize=1024)
def _clock(field: str, text: str) -> int:
    """Return quarter hours since midnight, 0 to 95; an end of 24:00 is 00:00."""
    match = CLOCK.fullmatch(_short(text))
    if match:
        hours, minutes = int(match[1]), int(match[2])
        if minutes % 15 == 0 and minutes < 60 and (hours < 24 or (hours == 24 and minutes == 0)):
            return (hours * 4 + minutes // 15) % QUARTERS
    raise _Unreadable(field, text, "a quarter hour as HH:MM from 00:00 to 23:45")


@lru_cache(maxsize=4096)
def _esiid(text: str) -> str:
    match = ESIID.fullmatch(_short(text))
    if match is None:
        raise _Unreadable("ESIID", text, "1 to 22 digits, with or without an apostrophe before them")
    return match[1]


@lru_cache(maxsize=64)
def _surplus(text: str) -> str:
    word = _short(text).lower().replace(" ", "").replace("_", "")
    if word == "consumption" or (not word and len(text) <= SHORTEST):
        return ""
    if word in ("surplusgeneration", "generation"):
        return SURPLUS
    raise _Unreadable("CONSUMPTION_SURPLUSGENERATION", text, "Consumption or Surplus Generation")


def _energy(field: str, text: str) -> float:
    """Return an energy [kWh]; NaN for a blank, and for the London Datastore's Null."""
    stripped = text.strip()
    if not stripped or stripped == "Null":
        return float("nan")
    try:
        value = float(stripped)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= LARGEST:
        raise _Unreadable(field, text, f"a number from 0 to {LARGEST:g} kWh, or nothing")
    return value


_READERS: dict[MeterFormat, Callable[[bytes], MeterFile]] = {
    MeterFormat.SMART_METER_TEXAS: read_smart_meter_texas,
    MeterFormat.LONDON: read_london,
}


class _Files:
    """Reads them as files of a stream of meters, which bring their own clock."""

    bytes_a_row = 256

    layouts = (
        f"Smart Meter Texas ({','.join(TEXAS_COLUMNS)}) or of Low Carbon London "
        f"({LONDON_METER[0]},{LONDON_TIME[0]},{LONDON_ENERGY[0]})"
    )

    def recognises(self, header: Sequence[str]) -> bool:
        return _format_of(header) is not None

    def read(self, content: bytes, *, key: str, time_zone: str, name: str, stream: Stream) -> list[SeriesFile]:
        found = read_meter_file(content)
        require_rows(found.problems, len(found.series))
        refuse_key(key, [one.key for one in found.series])
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
                stream=stream,
            )
            for i, one in enumerate(found.series)
        ]


FILES: Reader = _Files()
