"""Request bodies to rows: the stream's own schema in any content type, and publishers' exports as they are."""

from __future__ import annotations

from dataclasses import dataclass

from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.codec import decode
from kappawatt.columns.content import CSV
from kappawatt.datasets.series_files import kind_of, read_series
from kappawatt.errors import PayloadInvalid
from kappawatt.ingest.series_rows import merged, series_rows
from kappawatt.streams.rules import INTAKES, Intake, screened
from kappawatt.streams.series import SeriesKind

__all__ = ["Rows", "read_rows"]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a body holds.

    Parameters
    ----------
    batch : Batch
        Rows; those that are not valid are in `rejections`.
    rejections : tuple of Rejection
        In row order. A row of an export is its line without the header, from 0.
    """

    batch: Batch
    rejections: tuple[Rejection, ...]


def read_rows(intake: Intake, body: bytes, content_type: str, key: str, *, as_published: bool = False) -> Rows:
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
    kind = _export_kind(body) if intake.export is not None and content_type == CSV else None
    if kind is None:
        batch = screened(intake, decode(body, content_type, intake.schema).batch, key)
        return Rows(batch, batch.rejections)
    if kind is not intake.export:
        other = next(i for i in INTAKES if i.export is kind)
        raise PayloadInvalid(f"body: got an export for /{other.path}, allowed one for /{intake.path}")
    series = [series_rows(one, as_published=as_published) for one in read_series(body, key=key)]
    batch = screened(intake, merged([one.live for one in series]), key)
    unread = [
        Rejection(problem.line - 2, "malformed", problem.field, problem.got, problem.allowed)
        for one in series
        for problem in one.problems
    ]
    return Rows(batch, tuple(sorted((*batch.rejections, *unread), key=lambda r: r.row)))


def _export_kind(body: bytes) -> SeriesKind | None:
    try:
        return kind_of(body)
    except PayloadInvalid:
        return None
