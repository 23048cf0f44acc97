"""What a publisher's file says of a series, and the rows that are in none."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.blocks import lines_of
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import Times
from kappawatt.streams.stream import Stream

__all__ = [
    "HEAD_BYTES",
    "MOST_BYTES",
    "Problem",
    "Problems",
    "Reader",
    "SeriesFile",
    "header_of",
    "refuse_key",
    "require_rows",
    "text_lines",
]

HEAD_BYTES = 65_536  # of a file, in which its header has to stand
MOST_PROBLEMS = 10_000  # rows of one file that cannot be read
MOST_BYTES = 128 * 2**20  # of one file, unpacked: 46 years of one meter


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that is in no series, and why.

    Parameters
    ----------
    line : int
        In the file, from 1; the header is line 1.
    field : str
        Column at fault.
    got : str
        Its value, shortened.
    allowed : str
        What would have been read.
    """

    line: int
    field: str
    got: str
    allowed: str

    @property
    def message(self) -> str:
        """One sentence: line, field, value got, values allowed."""
        return f"line {self.line}: {self.field}: got {self.got!r}, allowed {self.allowed}"


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
    stream : Stream
        Whose readings these are.
    """

    key: str
    time_zone: str
    step: int
    starts: Times
    values: NDArray[np.float64]
    known: Times
    covariates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    stream: Stream = field(kw_only=True)

    def __len__(self) -> int:
        return len(self.starts)


def require_rows(problems: tuple[Problem, ...], series: int) -> None:
    """Raise PayloadInvalid with the first problem if a file has no series."""
    if series == 0:
        raise PayloadInvalid(problems[0].message if problems else "got no row, allowed 1 or more")


def refuse_key(key: str, found: Sequence[str]) -> None:
    """Raise PayloadInvalid if one key was given for a file of several series."""
    if key and len(found) > 1:
        raise PayloadInvalid(f"key: got {key!r}, allowed none for a file of several series ({', '.join(found)[:200]})")


def text_lines(content: bytes) -> Iterator[str]:
    """Yield the lines of a file, with their ends; its text as a whole would take up to four times its bytes.

    Raises
    ------
    PayloadInvalid
        It is not UTF-8; the message names the byte.
    """
    start = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    for block in lines_of(content, start):
        try:
            text = block.decode()
        except UnicodeDecodeError as error:
            place = start + error.start
            raise PayloadInvalid(f"file: got byte {content[place]:#04x} at {place}, allowed UTF-8") from error
        yield from io.StringIO(text, newline="")
        start += len(block)


class Problems(list[Problem]):
    """The rows of a file that cannot be read; a file of very many is none of the kind it looks like."""

    def append(self, problem: Problem) -> None:
        """Note one; PayloadInvalid says the first if there are too many."""
        if len(self) >= MOST_PROBLEMS:
            raise PayloadInvalid(f"{self[0].message} (and {MOST_PROBLEMS:,} rows more that cannot be read)")
        super().append(problem)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note several."""
        for problem in problems:
            self.append(problem)


class Reader(Protocol):
    """Who reads the files of one stream's publishers; `Stream.files` names it.

    It may have `bytes_a_row`, what it takes at most for a row while it reads; else each column counts as a series.
    """

    layouts: str  # what its headers look like, for an error message

    def recognises(self, header: Sequence[str]) -> bool:
        """Whether a file with that header is one of these."""
        ...

    def read(self, content: bytes, *, key: str, time_zone: str, name: str, stream: Stream) -> list[SeriesFile]:
        """Read a file's bytes; `name` is the file's, for a key that nothing else tells."""
        ...


def header_of(content: bytes) -> list[str]:
    """Return the names in the first line of a CSV file, plain or gzip."""
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
