"""A large body read a piece at a time, so that what it is parsed into never exists as a whole.

Rows as Python objects take five to thirty times the text they stand in; as columns they take less than it. So a list
of rows is cut between two of them every half of a megabyte, lines every quarter. A cut may be wrong, inside of a text
or of something nested: then one of the two pieces is no list of JSON values, since the whole can be read in one way
only, and the body is read as a whole, if it may be.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.budget import Budget
from kappawatt.columns.schema import Schema, nothing
from kappawatt.errors import PayloadInvalid

__all__ = ["in_blocks", "joined", "lines_of"]

BLOCK_BYTES = 256 * 1024
LIST_BYTES = 512 * 1024  # of a list of objects, of which as many bytes are fewer rows
LIST, LIST_END, OBJECT_END = (re.compile(pattern) for pattern in (rb"\s*\[", rb"\]\s*", rb"\]\s*\}\s*"))
BETWEEN_ROWS = re.compile(rb"[}\]]\s*(,)\s*[{\[]")


def lines_of(body: bytes, start: int = 0) -> Iterator[bytes]:
    """Yield whole lines of a body, as many at a time as a block has; a longer line comes alone."""
    while start < len(body):
        end = body.rfind(b"\n", start, start + BLOCK_BYTES) + 1
        if end == 0:
            end = body.find(b"\n", start) + 1 or len(body)
        if len(body) - start <= BLOCK_BYTES:
            end = len(body)
        yield body[start:end]
        start = end


def in_blocks(
    body: bytes,
    parse: Callable[[bytes], Any],
    take: Callable[[list[Any], int], Batch],
    budget: Budget,
    inside: str | None = None,
) -> list[Batch] | None:
    """Return the rows of a large JSON list, read block after block; None if it is small or cannot be cut.

    Parameters
    ----------
    parse : callable
        JSON text to its value; PayloadInvalid if it is none.
    take : callable
        (rows of a block, position of the first in the list) to a batch.
    inside : str, optional
        The list is the value of this key in an object that has no other.

    Raises
    ------
    PayloadTooLarge
        There are too many rows.
    """
    if len(body) <= LIST_BYTES:
        return None
    head, tail = (LIST, LIST_END) if inside is None else (_head_of(inside), OBJECT_END)
    begin, end = head.match(body), body.rfind(b"]")
    if begin is None or end < begin.end() or not tail.fullmatch(body, end):
        return None
    batches: list[Batch] = []
    count, start = 0, begin.end()
    while start < end:
        cut = BETWEEN_ROWS.search(body, start + LIST_BYTES, end)
        stop = end if cut is None else cut.start(1)
        if stop - start == end - begin.end():
            return None
        try:
            rows = parse(b"[%b]" % body[start:stop])
        except PayloadInvalid:
            return None
        if cut is not None and not rows:
            return None
        count += len(rows)
        budget.allow_rows(count)
        batches.append(take(rows, count - len(rows)))
        start = stop + 1
    return batches


def joined(batches: list[Batch], schema: Schema, listed: int | None) -> Batch:
    """Return the rows of all batches as one, with so many of their rejections (None: all).

    The list is emptied on the way, so that few columns exist twice.
    """
    if len(batches) == 1:
        return batches[0]
    valid = np.concatenate([batch.valid for batch in batches])
    rejections: list[Rejection] = []
    unlisted: Counter[str] = Counter()
    first = 0
    for batch in batches:
        room = None if listed is None else max(0, listed - len(rejections))
        rejections += [r.at(r.row + first) for r in batch.rejections[:room]]
        unlisted.update(batch.unlisted)
        unlisted.update(r.code for r in (() if room is None else batch.rejections[room:]))
        first += len(batch)
    columns: list[dict[str, NDArray[Any]]] = [dict(batch.columns) for batch in batches]
    batches.clear()
    more = schema.more_unbounded(set().union(*columns)) if schema.families else ()
    if listed is not None:
        schema.more(more)
    for part in columns:
        n = len(part[schema.names[0]])
        part |= {name: nothing(schema.field(name), n) for name in more if name not in part}
    whole = {name: np.concatenate([part.pop(name) for part in columns]) for name in (*schema.names, *more)}
    return Batch(whole, valid, tuple(rejections), dict(unlisted))


def _head_of(key: str) -> re.Pattern[bytes]:
    return re.compile(rb'\s*\{\s*"' + re.escape(key.encode()) + rb'"\s*:\s*\[')
