"""Request bodies to rows: the stream's own schema in any content type, and publishers' exports as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kappawatt.columns.batch import Batch, Rejection, count_codes
from kappawatt.columns.budget import STANDARD, Budget
from kappawatt.columns.codec import decode
from kappawatt.columns.content import CSV
from kappawatt.datasets.reading.dialect import cells_of, is_value
from kappawatt.datasets.reading.options import NOTHING_SAID, Options
from kappawatt.datasets.reading.plain import is_cut_otherwise, plain_csv
from kappawatt.datasets.reading.read import read_bytes
from kappawatt.datasets.reading.told import read_as
from kappawatt.ingest.series_rows import merged, series_rows
from kappawatt.streams.rules import screened
from kappawatt.streams.stream import Stream

__all__ = ["Rows", "read_rows"]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a body holds.

    Parameters
    ----------
    batch : Batch
        Rows; those that are not valid are in `rejections`.
    rejections : tuple of Rejection
        In row order, the first ones. A row of an export is its line without the header, from 0.
    unlisted : mapping of str to int
        How many more there are of each code.
    unread : int
        Lines of an export that are in no row of the batch.
    read_as : dict or None
        How a table of another layout was read, see `told.read_as`; None for rows in the stream's own fields.
    """

    batch: Batch
    rejections: tuple[Rejection, ...]
    unlisted: Mapping[str, int] = field(default_factory=dict)
    unread: int = 0
    read_as: dict[str, Any] | None = None

    @property
    def refused(self) -> Counter[str]:
        """How many rejections there are of each code, listed or not."""
        return count_codes(self.rejections, self.unlisted)


def read_rows(
    stream: Stream,
    body: bytes,
    content_type: str,
    key: str,
    *,
    as_published: bool = False,
    budget: Budget = STANDARD,
    options: Options = NOTHING_SAID,
) -> Rows:
    """Read a body.

    Parameters
    ----------
    key : str
        Name all rows belong to; "" if each row (or the table) names its own.
    as_published : bool
        Take an export's time of publication as when its values became known.
    options : Options
        How somebody else's table is read; with any, CSV is taken as one.

    Raises
    ------
    PayloadInvalid
        The body as a whole cannot be read.
    """
    if content_type == CSV and stream.steps and (options or not _is_own(stream, body)):
        return _read_table(stream, body, replace(options, key=key), as_published, budget)
    if content_type == CSV and not stream.steps and is_cut_otherwise(body):
        body, _ = plain_csv(stream.schema, body, budget)
    batch = screened(stream, decode(body, content_type, stream.schema, budget).batch, key, budget.listed)
    return Rows(batch, batch.rejections, batch.unlisted)


def _read_table(stream: Stream, body: bytes, options: Options, as_published: bool, budget: Budget) -> Rows:
    found = read_bytes(body, options, stream, budget=budget)
    series = [series_rows(one, as_published=as_published) for one in found.series]
    batch = screened(stream, merged([one.live for one in series]), options.key, budget.listed)
    unread = [
        Rejection(problem.line - 2, "malformed", problem.field, problem.got, problem.allowed)
        for problem in found.problems
    ]
    rejections = sorted((*batch.rejections, *unread), key=lambda r: r.row)
    unlisted = Counter(batch.unlisted)
    unlisted.update(r.code for r in rejections[budget.listed :])
    return Rows(batch, tuple(rejections[: budget.listed]), unlisted, len({r.row for r in unread}), read_as(found))


def _first_line(body: bytes) -> str:
    return body.removeprefix(b"\xef\xbb\xbf").lstrip()[:4_096].partition(b"\n")[0].decode("utf-8", "replace").strip()


def _is_own(stream: Stream, body: bytes) -> bool:
    """Whether CSV has the names of the stream's own fields, or begins with a row."""
    cells = [cell.strip() for cell in cells_of(_first_line(body), ",")]
    return any(cell in stream.schema.by_header() for cell in cells) or all(map(is_value, cells))
