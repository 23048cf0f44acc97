"""Files of load zones and meters as rows of their stream, in order of time."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.columns.arrow import read_columns
from kappawatt.columns.batch import Batch
from kappawatt.columns.budget import FILES
from kappawatt.columns.codec import decode
from kappawatt.columns.content import ARROW, CSV, NDJSON
from kappawatt.datasets.series import HEAD_BYTES, MOST_BYTES, Problem, SeriesFile
from kappawatt.datasets.series_files import read_series, stream_of
from kappawatt.errors import PayloadInvalid, PayloadTooLarge, SettingInvalid
from kappawatt.forecasting.calendar import DAY, Instant, as_instant, day_start
from kappawatt.ingest.files import file_format
from kappawatt.streams.rules import by_key
from kappawatt.streams.rules import screened as _screened
from kappawatt.streams.series import INTERVAL_SECONDS, INTERVAL_START, TIME_ZONE
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import STREAMS

__all__ = ["SeriesRows", "merged", "moment", "read_series_rows", "recognise", "series_rows"]

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
    given = {value: series.values, **{name: series.covariates[name] for name in series.covariates}}
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


def recognise(source: Path) -> tuple[Stream, bool]:
    """Return which stream a file is for, and whether it is a publisher's export rather than rows of the schema.

    A file of rows is told by its names: CSV header, keys of the first NDJSON object, columns of Arrow. It is of the
    stream that knows most of them; one without names is of the first stream whose rows need none.
    """
    kind, _ = file_format(source)
    head = _head(source)
    if kind == CSV:
        try:
            return stream_of(head), True
        except PayloadInvalid:
            pass
    names = _names(head, kind) if kind != ARROW else _arrow_names(source)
    return max(STREAMS, key=lambda stream: _known(stream, names)), False


def _known(stream: Stream, names: set[str]) -> int:
    """How many of a file's names are fields that only such a stream has, or at least all that it must have."""
    known = {name for field in stream.schema.fields for name in (field.name, field.column)}
    telling = {stream.key.name, *(stream.values or [field.name for field in stream.schema.required])}
    return len(names & known) if names & telling else 0


def read_series_rows(
    source: Path, *, key: str = "", time_zone: str = "", as_published: bool = False
) -> list[SeriesRows]:
    """Read a file of load zones or meters whole, as `recognise` knows it.

    Parameters
    ----------
    key : str
        Name of the series, instead of the file's own.
    time_zone : str
        Clock of a load export's labels; PJM's if empty.
    as_published : bool
        See `series_rows`.

    Raises
    ------
    PayloadInvalid
        The file is none of those, cannot be read, or its series has no name.
    """
    stream, is_export = recognise(source)
    try:
        content = _whole(source)
        if is_export:
            found = read_series(content, key=key, time_zone=time_zone, name=source.name)
            return [series_rows(one, as_published=as_published) for one in found]
        return _plain_rows(stream, content, file_format(source)[0], key)
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


def _head(source: Path) -> bytes:
    """The beginning of a file, unpacked."""
    with source.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head[:2] != b"\x1f\x8b":
        return head
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    except zlib.error as error:
        raise PayloadInvalid(f"{source}: got damaged gzip ({error}), allowed gzip") from None


def _names(head: bytes, kind: str) -> set[str]:
    line = head.removeprefix(b"\xef\xbb\xbf").strip().partition(b"\n")[0]
    if kind == NDJSON:
        try:
            first = orjson.loads(line)
        except orjson.JSONDecodeError:
            return set()
        return set(first) if isinstance(first, dict) else set()
    try:
        return {name.strip() for name in next(csv.reader([line.decode("utf-8", "replace")]), [])}
    except csv.Error:
        return set()


def _arrow_names(source: Path) -> set[str]:
    try:
        return set(read_columns(_whole(source), FILES))
    except PayloadInvalid:
        return set()  # whoever reads it whole will say what is wrong


def _whole(source: Path) -> bytes:
    content = source.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            with gzip.open(source) as file:
                content = file.read(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise PayloadInvalid(f"got damaged gzip ({error}), allowed gzip") from None
    if len(content) > MOST_BYTES:
        raise PayloadTooLarge(f"got more than {MOST_BYTES} bytes, allowed up to that, unpacked")
    return content
