"""Request bodies to rows: the stream's own schema in any content type, and publishers' exports as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from kappawatt.columns.batch import Batch, Rejection, count_codes
from kappawatt.columns.budget import STANDARD, Budget
from kappawatt.columns.codec import decode
from kappawatt.columns.content import CSV
from kappawatt.datasets.series_files import read_series, stream_of
from kappawatt.errors import PayloadInvalid
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
    """

    batch: Batch
    rejections: tuple[Rejection, ...]
    unlisted: Mapping[str, int] = field(default_factory=dict)
    unread: int = 0

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
) -> Rows:
    """Read a body.

    Parameters
    ----------
    key : str
        Name all rows belong to; "" if each row (or the export) names its own.
    as_published : bool
        Take an export's time of publication as when its values became known.

    Raises
    ------
    PayloadInvalid
        The body as a whole cannot be read.
    """
    publisher = _publisher_of(body) if stream.files and content_type == CSV else None
    if publisher is None:
        batch = screened(stream, decode(body, content_type, stream.schema, budget).batch, key, budget.listed)
        return Rows(batch, batch.rejections, batch.unlisted)
    if publisher is not stream:
        raise PayloadInvalid(f"body: got an export for /{publisher.path}, allowed one for /{stream.path}")
    series = [series_rows(one, as_published=as_published) for one in read_series(body, key=key, budget=budget)]
    batch = screened(stream, merged([one.live for one in series]), key, budget.listed)
    unread = [
        Rejection(problem.line - 2, "malformed", problem.field, problem.got, problem.allowed)
        for one in series
        for problem in one.problems
    ]
    rejections = sorted((*batch.rejections, *unread), key=lambda r: r.row)
    unlisted = Counter(batch.unlisted)
    unlisted.update(r.code for r in rejections[budget.listed :])
    return Rows(batch, tuple(rejections[: budget.listed]), unlisted, len({r.row for r in unread}))


def _publisher_of(body: bytes) -> Stream | None:
    """The stream a publisher's export is for; None if it is none."""
    try:
        return stream_of(body)
    except PayloadInvalid:
        return None
