"""Files of load zones and meters as rows of their stream, in order of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch
from kappawatt.columns.budget import FILES
from kappawatt.columns.codec import decode
from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.content import unpack
from kappawatt.datasets.series import MOST_BYTES, Problem, SeriesFile
from kappawatt.errors import PayloadInvalid, PayloadTooLarge, SettingInvalid
from kappawatt.forecasting.calendar import DAY, Instant, as_instant, day_start
from kappawatt.ingest.files import file_format, names_in, read_file
from kappawatt.streams.rules import by_key
from kappawatt.streams.rules import screened as _screened
from kappawatt.streams.series import INTERVAL_SECONDS, INTERVAL_START, TIME_ZONE
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import STREAMS

__all__ = ["SeriesRows", "merged", "moment", "read_own_rows", "recognise", "rows_of", "series_rows"]

START, ZONE = INTERVAL_START.name, TIME_ZONE.name


@dataclass(frozen=True, slots=True)
class SeriesRows:
    """Rows of one series, each naming its key, in order of time.

    Parameters
    ----------
    stream : Stream
    key : str
    time_zone : str
        IANA name; "" if the file does not say.
    history, live : Batch
        What is sent at once, and what follows at a steady rate.
    problems : tuple of Problem
        Rows of the file that could not be read.
    """

    stream: Stream
    key: str
    time_zone: str
    history: Batch
    live: Batch
    problems: tuple[Problem, ...] = field(default=())

    def between(self, start: str = "", until: str = "", backfill: float = 0.0) -> SeriesRows:
        """Return the same from a time to another; what stands before it for some days is history.

        Parameters
        ----------
        start, until : str
            An ISO 8601 date (that day's beginning in the series' zone) or time with zone; "" is the file's own
            beginning or end.
        backfill : float
            Days of history before `start`; without a `start`, of the file's first days.
        """
        rows = merged([self.history, self.live])
        times = rows.columns[START]
        if not len(times):
            return self
        length = np.timedelta64(round(min(backfill, 1e6) * 86_400_000), "ms")
        first = times[0] if not start else moment(start, self.time_zone, "--from")
        begin, turn = (first - length, first) if start else (first, first + length)
        end = times[-1] + DAY if not until else moment(until, self.time_zone, "--until")
        places = np.searchsorted(times, np.array([begin, min(turn, end), end], dtype="datetime64[ms]"))
        history, live = (np.arange(places[i], places[i + 1]) for i in (0, 1))
        return SeriesRows(self.stream, self.key, self.time_zone, rows.take(history), rows.take(live), self.problems)


def moment(text: str, time_zone: str, option: str) -> Instant:
    """Return the instant of an ISO 8601 date or time; SettingInvalid names the option it stood in."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is not None and len(text) == len("2016-07-01"):
        start: Instant = day_start(np.array([text], dtype="datetime64[D]"), time_zone or "UTC")[0]
        return start
    if found is None or found.tzinfo is None:
        raise SettingInvalid(f"{option}: got {text[:80]!r}, allowed a date or an ISO 8601 time with zone")
    return as_instant(int(found.timestamp() * 1000))


def merged(batches: Sequence[Batch]) -> Batch:
    """Return the rows of several series in order of time; those of one time in the order given."""
    filled = [batch for batch in batches if len(batch)] or list(batches[:1])
    if len(filled) == 1:
        return filled[0]
    columns = {name: np.concatenate([batch.columns[name] for batch in filled]) for name in filled[0].columns}
    order = np.argsort(columns[START], kind="stable")
    valid = np.concatenate([batch.valid for batch in filled])
    return Batch({name: column[order] for name, column in columns.items()}, valid[order])


def series_rows(series: SeriesFile, *, as_published: bool = False) -> SeriesRows:
    """Return a series of a publisher's file as rows of its stream; intervals without a value are left out.

    Parameters
    ----------
    as_published : bool
        Say when each value was published (`available_at`), so that no forecast knows it before. Without, a value
        is known at the end of its interval, or when it arrives if that is later.
    """
    stream = series.stream
    value = stream.values[0]
    given = {value: series.values}
    given |= {name: column for name, column in series.covariates.items() if stream.schema.knows(name)}
    rows = np.flatnonzero(np.logical_or.reduce([~np.isnan(given[name]) for name in given]))
    columns: dict[str, NDArray[Any]] = {name: column[rows] for name, column in given.items()}
    columns[START] = series.starts[rows]
    if as_published:
        columns["available_at"] = series.known[rows]
    columns[ZONE] = np.full(len(rows), series.time_zone, dtype=object)
    columns[stream.key.name] = np.full(len(rows), series.key, dtype=object)
    if INTERVAL_SECONDS in stream.schema.names:
        columns[INTERVAL_SECONDS] = np.full(len(rows), float(series.step))
    batch = stream.schema.check(columns, len(rows))
    return SeriesRows(stream, series.key, series.time_zone, batch.take(rows[:0]), batch, series.problems)


def recognise(source: Path) -> Stream | None:
    """Return which stream a file of rows in its own schema is for; None of a table that somebody else writes.

    Rows are told by their names: CSV header, keys of the first JSON object, columns of Arrow. A file is of the stream
    that knows most of them; one of bare numbers is of the first stream whose rows need no names.
    """
    names = names_in(source)
    if names is None:
        bare = next((stream for stream in STREAMS if not stream.steps), None)
        return bare if bare is not None and _has_rows(bare, source) else None
    best = max(STREAMS, key=lambda stream: _known(stream, names))
    if not _known(best, names) or (best.steps and START not in names):
        return None
    return best


def _has_rows(stream: Stream, source: Path) -> bool:
    """Whether bare numbers can be a stream's rows: any of the first ones is."""
    try:
        return any(bool(batch.valid.any()) for _, batch in islice(read_file(stream, source), 1))
    except PayloadInvalid:
        return False


def _known(stream: Stream, names: set[str]) -> int:
    """How many of a file's names are fields that only such a stream has, or at least all that it must have."""
    schema = stream.schema
    known = {name for field in schema.fields for name in (field.name, field.column)}
    telling = [schema.field(name) for name in stream.values] or schema.required
    names_of = {stream.key.name, *(name for field in telling for name in (field.name, field.column))}
    least = 1 if stream.steps else len(telling) // 2  # V may also be a voltage
    return len(names & known) if len(names & names_of) >= least else 0


def rows_of(found: Found, *, as_published: bool = False) -> list[SeriesRows]:
    """Return the series of a file as rows of their stream; see `series_rows`."""
    return [series_rows(one, as_published=as_published) for one in found.series]


def read_own_rows(source: Path, stream: Stream, key: str = "") -> list[SeriesRows]:
    """Read a file of rows in a stream's own schema whole, as `recognise` knows it.

    Parameters
    ----------
    key : str
        Name of the series, instead of the rows' own.

    Raises
    ------
    PayloadInvalid
        The file cannot be read, or its series has no name.
    """
    try:
        return _plain_rows(stream, _whole(source), file_format(source)[0], key)
    except PayloadTooLarge as error:
        raise PayloadTooLarge(f"{source}: {error}") from None
    except PayloadInvalid as error:
        raise PayloadInvalid(f"{source}: {error}") from None


def _plain_rows(stream: Stream, content: bytes, kind: str, key: str) -> list[SeriesRows]:
    """Rows in the stream's own schema; those refused are problems of the first series."""
    batch = _screened(stream, decode(content, kind, stream.schema, FILES).batch, key)
    problems = tuple(Problem(r.row + 1, r.field or "row", str(r.got), r.allowed) for r in batch.rejections)
    found: list[SeriesRows] = []
    for name, rows in by_key(stream, batch, key):
        order = rows[np.argsort(batch.columns[START][rows], kind="stable")]
        columns = {n: column[order] for n, column in batch.columns.items()}
        columns[stream.key.name] = np.full(len(order), name, dtype=object)
        zones = [zone for zone in columns[ZONE] if zone is not None]
        own = Batch(columns, np.ones(len(order), dtype=np.bool_))
        nothing = own.take(np.arange(0))
        found.append(SeriesRows(stream, name, zones[0] if zones else "", nothing, own, problems if not found else ()))
    if not found:
        first = problems[0].message if problems else "got no row, allowed 1 or more"
        raise PayloadInvalid(first)
    return found


def _whole(source: Path) -> bytes:
    return unpack(source.read_bytes(), source.name, MOST_BYTES).data
