"""Content types, and what comes out of a body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns import arrow
from kappawatt.columns.batch import Batch
from kappawatt.errors import ContentTypeUnsupported

__all__ = [
    "ARROW",
    "BYTE_ORDER_MARK",
    "CSV",
    "JSON",
    "NDJSON",
    "READABLE",
    "Decoded",
    "ManyDecoded",
    "bare_type",
    "content_type_of",
    "without_mark",
]

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
ARROW = arrow.MEDIA_TYPE
READABLE = (JSON, NDJSON, CSV, ARROW)
ALIASES = {
    "application/jsonl": NDJSON,
    "application/jsonlines": NDJSON,
    "application/ndjson": NDJSON,
    "application/x-jsonlines": NDJSON,
    "application/csv": CSV,
    "application/vnd.apache.arrow": ARROW,
    "application/x-apache-arrow-stream": ARROW,
}

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Form = Literal["object", "list", "columns", "table"]
Origins = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One body as rows.

    Parameters
    ----------
    form : str
        How the rows stood in the body, so that the answer can stand the same way: `object` (one row),
        `list`, `columns` or `table` (CSV, NDJSON, Arrow).
    """

    batch: Batch
    form: Form = "table"


@dataclass(frozen=True, slots=True)
class ManyDecoded:
    """Many messages as rows of one batch.

    Parameters
    ----------
    message : ndarray of int, shape (n_rows,)
        Which message each row came from.
    row : ndarray of int, shape (n_rows,)
        Its position inside that message.
    """

    batch: Batch
    message: Origins
    row: Origins


def bare_type(value: str) -> str:
    """Return a content type without parameters, in small letters and under the name used here, readable or not."""
    bare = value.split(";", 1)[0].strip().lower()
    return ALIASES.get(bare, bare)


def without_mark(body: bytes) -> bytes:
    """Return text without the byte order mark that some editors and .NET clients put before UTF-8."""
    return body.removeprefix(BYTE_ORDER_MARK)


def content_type_of(value: str | None, default: str | None = None) -> str:
    """Return the content type without parameters, aliases resolved.

    Raises
    ------
    ContentTypeUnsupported
        It is none of `READABLE`.
    """
    bare = bare_type(value or default or "")
    if bare not in READABLE:
        raise ContentTypeUnsupported.of("content-type", repr(bare), ", ".join(READABLE))
    return bare
