"""A publisher's file of any stream -> its series. Who reads it says the stream's own record."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

from kappawatt.columns.budget import Budget
from kappawatt.datasets.series import MOST_BYTES, Reader, SeriesFile, header_of
from kappawatt.errors import PayloadInvalid, PayloadTooLarge
from kappawatt.forecasting.gaps import fill_inside
from kappawatt.forecasting.history import History, Past
from kappawatt.streams.stream import Stream, resolve
from kappawatt.streams.table import STREAMS

__all__ = ["past_of", "read_series", "read_series_file", "stream_of"]


LONGEST_LINE = 65_536  # bytes
BYTES_A_CELL, BYTES_A_COLUMN = 64, 2048  # that columns of numbers take, each a series
SHOWN = 80  # characters of a bad header that are worth repeating


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


def read_series(
    content: bytes, *, key: str = "", time_zone: str = "", name: str = "", budget: Budget | None = None
) -> list[SeriesFile]:
    """Read a file's bytes; see `read_series_file`.

    Parameters
    ----------
    name : str
        The file's, for a key that nothing else tells.
    budget : Budget, optional
        What it may become, if it comes from a stranger: then unpacked it is no larger than a body may be.
    """
    stream, reader = _found(header_of(content))
    if budget is not None:
        content = _unpacked(content, budget)
        columns = len(header_of(content))
        takes = getattr(reader, "bytes_a_row", BYTES_A_CELL * columns)
        _require_rows_within(content, budget, max(0, budget.unpacked - BYTES_A_COLUMN * columns) // takes)
    return reader.read(content, key=key, time_zone=time_zone, name=name, stream=stream)


def stream_of(content: bytes) -> Stream:
    """Return whose readings a publisher's file holds, from its header.

    Parameters
    ----------
    content : bytes
        The file or its first 64 KiB, plain or gzip.

    Raises
    ------
    PayloadInvalid
        The header is none of those known.
    """
    return _found(header_of(content))[0]


def _found(header: list[str]) -> tuple[Stream, Reader]:
    readers: list[tuple[Stream, Reader]] = [(stream, resolve(stream.files)) for stream in STREAMS if stream.files]
    for stream, reader in readers:
        if reader.recognises(header):
            return stream, reader
    allowed = ", or ".join(reader.layouts for _, reader in readers)
    raise PayloadInvalid(f"header: got {','.join(header)[:SHOWN]!r}, allowed that of {allowed}")


def _unpacked(content: bytes, budget: Budget) -> bytes:
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        with gzip.open(io.BytesIO(content)) as file:
            plain = file.read(budget.body + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise PayloadInvalid(f"gzip: {error}") from error
    if len(plain) > budget.body:
        raise PayloadTooLarge.of("body", f"gzip that unpacks to more than {budget.body} bytes", budget.body)
    return plain


def _require_rows_within(content: bytes, budget: Budget, most: int) -> None:
    """Raise PayloadTooLarge if there are too many lines, PayloadInvalid if a line is none of such a file."""
    most = min(budget.rows, most)
    has_quotes = b'"' in content
    start, line = 0, 1
    while start < len(content):
        end = content.find(b"\n", start) + 1 or len(content)
        if end - start > LONGEST_LINE or (has_quotes and content.count(b'"', start, end) % 2):
            allowed = f"a row of up to {LONGEST_LINE}, its quotes closed"
            raise PayloadInvalid.of(f"line {line}", f"{end - start} bytes", allowed)
        if line > most:
            raise PayloadTooLarge.of("body", f"more than {most:,} rows", f"{most:,} rows of an export in one body")
        start, line = end, line + 1


def past_of(series: SeriesFile) -> Past:
    """Return everything a file knows of a series, gaps inside it filled; not its weather: when was it known?"""
    history = History(series.key, series.time_zone, series.step)
    history.add(series.starts, series.values)
    return fill_inside(history.until(history.known_until()))
