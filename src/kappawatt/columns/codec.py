"""Bytes to columns and back: JSON, NDJSON, CSV and Arrow IPC streams, one reader for every door.

`decode` reads one body (HTTP, SageMaker, a file); `decode_many` reads many messages of one content type at
once (the bus), in bulk where all of them are plain, and one by one only to find out which of them is not.
Both return validated `Batch`es, so nothing behind them meets a value it has to doubt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns import arrow
from kappawatt.columns.batch import Batch
from kappawatt.columns.blocks import joined
from kappawatt.columns.budget import LISTED_TOGETHER, STANDARD, Budget
from kappawatt.columns.bulk_rows import bulk_csv, bulk_json
from kappawatt.columns.content import ARROW, BYTE_ORDER_MARK, CSV, JSON, NDJSON, Decoded, ManyDecoded, without_mark
from kappawatt.columns.csv_rows import decode_csv
from kappawatt.columns.json_rows import decode_json, decode_lines
from kappawatt.columns.refusals import Refusals
from kappawatt.columns.schema import SHORTEST, Field, Kind, Schema, nothing
from kappawatt.columns.values import moments_of, refuse_unknown, texts_of
from kappawatt.errors import PayloadInvalid

__all__ = ["decode", "decode_many", "join_messages", "read_each"]

log = logging.getLogger(__name__)

V = TypeVar("V")


def decode(body: bytes, content_type: str, schema: Schema, budget: Budget = STANDARD) -> Decoded:
    """Read and validate one body.

    Parameters
    ----------
    body : bytes
    content_type : str
        One of `READABLE`.
    schema : Schema
    budget : Budget
        What the body may become.

    Raises
    ------
    PayloadInvalid
        The body as a whole cannot be read, or holds no row.
    PayloadTooLarge
        It has more rows than the budget allows, or would take more memory.
    """
    if content_type != ARROW:
        body = without_mark(body)
    if not body or body.isspace():
        raise PayloadInvalid.of("body", "nothing", f"rows of {schema.name} as {content_type}")
    if content_type == JSON:
        return decode_json(body, schema, budget)
    if content_type == NDJSON:
        return Decoded(decode_lines(body, schema, budget))
    if content_type == CSV:
        return Decoded(decode_csv(body, schema, budget))
    return Decoded(_decode_arrow(body, schema, budget))


def decode_many(values: Sequence[bytes], content_type: str, schema: Schema, budget: Budget = STANDARD) -> ManyDecoded:
    """Read and validate many messages of one content type; an unreadable message is one rejected row.

    So is one that reading fails on in a way that nobody thought of (`internal`): the others are read all the same.
    The budget is each message's own; `kappawatt.messages.portions` sees to it that few large ones come at once.
    """
    if content_type in (CSV, JSON):
        bulk = _bulk(values, content_type, schema)
        if bulk is None and any(value.startswith(BYTE_ORDER_MARK) for value in values):
            bulk = _bulk([without_mark(value) for value in values], content_type, schema)
        if bulk is not None:
            every = np.arange(len(values), dtype=np.intp)
            return ManyDecoded(bulk, every, np.zeros(len(values), dtype=np.intp))
    return join_messages(
        read_each(values, lambda value, its: _one_message(value, content_type, schema, its), budget), schema
    )


def read_each(values: Iterable[V], read: Callable[[V, Budget], Batch], budget: Budget) -> list[Batch]:
    """Read messages one by one; once they have very many rejections together, of each only the first is kept."""
    batches = []
    room = LISTED_TOGETHER
    for value in values:
        batches.append(read(value, budget if room > 0 else budget.terse()))
        room -= len(batches[-1].rejections)
    return batches


def _bulk(values: Sequence[bytes], content_type: str, schema: Schema) -> Batch | None:
    """All messages at once; None if they have to be looked at one by one."""
    try:
        return bulk_csv(values, schema) if content_type == CSV else bulk_json(values, schema)
    except MemoryError:
        raise
    except Exception:  # one by one it shows which of them it is
        return None


def _decode_arrow(body: bytes, schema: Schema, budget: Budget) -> Batch:
    found, whole = arrow.read_with_whole(body, budget)
    refuse_unknown(found, schema)
    schema.more(found)
    n = len(next(iter(found.values())))
    if n == 0:
        raise PayloadInvalid.of("rows", "0", f"1 to {budget.rows}")
    refusals = schema.refusals(n, budget.listed)
    columns = {name: _arrow_column(c, schema.field(name), refusals, name in whole) for name, c in found.items()}
    return schema.check(columns, n, refusals)


def _arrow_column(column: NDArray[Any], field: Field, refusals: Refusals, is_whole: bool) -> NDArray[Any]:
    kind = column.dtype.kind
    if kind == "O" and not (column != None).any():  # noqa: E711 (elementwise)
        return nothing(field, len(column))
    if field.kind is Kind.TEXT and kind == "O":
        return texts_of(column.tolist(), field, refusals)
    if field.kind is Kind.TIMESTAMP and (kind == "M" or is_whole):  # every ms of the calendar is a float64 of its own
        return moments_of(column, field, refusals)
    if field.kind not in (Kind.TEXT, Kind.TIMESTAMP) and kind in "fiu":
        return column.astype(np.float64)
    raise PayloadInvalid.of(field.name, f"an Arrow column of {column.dtype}", field.allowed)


def _one_message(value: bytes, content_type: str, schema: Schema, budget: Budget) -> Batch:
    try:
        return decode(value, content_type, schema, budget).batch
    except PayloadInvalid as error:
        allowed = f"rows of {schema.name} as {content_type} ({str(error)[:400]})"
        return _refused("malformed", value, allowed, schema)
    except MemoryError:
        raise
    except Exception as error:  # a message that nobody thought of is refused, and ends nobody who reads it
        log.exception("a message cannot be read", extra={"content_type": content_type, "bytes": len(value)})
        reason = f"could not be read: {type(error).__name__}: {error}"
        return _refused("internal", value, f"rows that can be read ({reason[:400]})", schema)


def _refused(code: str, value: bytes, allowed: str, schema: Schema) -> Batch:
    refusals = schema.refusals(1)
    refusals.refuse(0, code, None, value[:SHORTEST], allowed)
    return schema.check({}, 1, refusals)


def join_messages(batches: list[Batch], schema: Schema) -> ManyDecoded:
    """Return the rows of many messages, each of which was decoded alone."""
    lengths = [len(batch) for batch in batches]
    starts = np.concatenate(([0], np.cumsum(lengths)))
    message = np.repeat(np.arange(len(batches), dtype=np.intp), lengths)
    row = np.arange(starts[-1], dtype=np.intp) - starts[message]
    return ManyDecoded(joined(batches, schema, None), message, row)
