"""Files of rows in a stream's own schema, row by row, each with its line."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from kappawatt.columns.arrow import read_columns
from kappawatt.columns.batch import Batch
from kappawatt.columns.budget import FILES
from kappawatt.columns.codec import decode
from kappawatt.columns.content import ARROW, CSV, NDJSON
from kappawatt.columns.schema import Schema
from kappawatt.datasets.reading.content import ARROWS, GZIP, gunzipped_head, text_of, unpack
from kappawatt.datasets.reading.dialect import cells_of, is_value
from kappawatt.datasets.reading.plain import is_cut_otherwise, plain_csv
from kappawatt.datasets.reading.texts import HEAD_BYTES, dialect_of
from kappawatt.datasets.series import MOST_BYTES
from kappawatt.errors import PayloadInvalid
from kappawatt.messages.readings import BLOCK_ROWS_MOST
from kappawatt.streams.stream import Stream

__all__ = ["FORMATS", "Numbered", "file_format", "names_in", "read_file"]

FORMATS = {
    ".csv": CSV,
    ".ndjson": NDJSON,
    ".jsonl": NDJSON,
    ".arrow": ARROW,
    ".arrows": ARROW,
}
Numbered = tuple[NDArray[np.int64], Batch]  # rows and their numbers in the source


def file_format(source: Path) -> tuple[str, bool]:
    """Return a file's content type, from its name, and whether it is gzip; PayloadInvalid names those there are."""
    suffixes = source.suffixes
    is_packed = suffixes[-1:] == [".gz"]
    kind = FORMATS.get("".join(suffixes[-2:-1] if is_packed else suffixes[-1:]).lower())
    if kind is None:
        raise PayloadInvalid(f"{source}: got {source.suffix!r}, allowed {', '.join(FORMATS)}, each also with .gz")
    return kind, is_packed


def names_in(source: Path) -> set[str] | None:
    """Return the names a file of rows gives its fields: CSV header, keys of the first object, columns of Arrow.

    Empty if it is no file of rows; None of a CSV file that begins with numbers.
    """
    with source.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head[:2] == GZIP:
        try:
            head = gunzipped_head(head, HEAD_BYTES)
        except PayloadInvalid as error:
            raise PayloadInvalid(f"{source}: {error}") from None
    if head.startswith(ARROWS):
        try:
            return set(read_columns(unpack(source.read_bytes(), source.name, MOST_BYTES).data, FILES))
        except PayloadInvalid:
            return set()  # whoever reads it whole will say what is wrong
    line = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0].strip()
    if line[:1] in (b"{", b"["):
        return _keys(line)
    text = line.decode("utf-8", "replace")
    cells = cells_of(text, ",")
    if len(cells) > 1 and all(map(is_value, cells)):
        return None
    try:
        return set(dialect_of(text_of(head[: head.rfind(b"\n") + 1] or head)[0]).names)
    except PayloadInvalid:
        return {cell.strip() for cell in cells}


def _keys(line: bytes) -> set[str]:
    try:
        first = orjson.loads(line)
    except orjson.JSONDecodeError:
        return set()
    return set(first) if isinstance(first, dict) else set()


def read_file(stream: Stream, source: Path) -> Iterator[Numbered]:
    """Yield the rows of a file in batches of at most 10,000, each with the rows' numbers.

    A row's number is its line in the file (from 1), or its position (from 1) in Arrow.
    """
    kind, is_packed = file_format(source)
    with _opened(source, is_packed) as file:
        try:
            if kind == CSV and is_cut_otherwise(file.read(HEAD_BYTES)):
                file.seek(0)
                yield from _read_table(stream, file)
                return
            file.seek(0)
            if kind == ARROW:
                yield from _read_arrow(stream.schema, file)
            else:
                yield from _read_lines(stream.schema, file, kind)
        except (gzip.BadGzipFile, EOFError) as error:
            raise PayloadInvalid(f"{source}: got damaged gzip ({error}), allowed gzip") from None
        except PayloadInvalid as error:
            raise PayloadInvalid(f"{source}: {error}") from None


def _opened(source: Path, is_packed: bool) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(source)) if is_packed else source.open("rb")


def _read_table(stream: Stream, file: IO[bytes]) -> Iterator[Numbered]:
    data, lines = plain_csv(stream.schema, file.read(MOST_BYTES + 1))
    batch = decode(data, CSV, stream.schema, FILES).batch
    for start in range(0, len(batch), BLOCK_ROWS_MOST):
        rows = np.arange(start, min(start + BLOCK_ROWS_MOST, len(batch)))
        yield lines[rows], batch.take(rows)


def _read_lines(schema: Schema, file: IO[bytes], kind: str) -> Iterator[Numbered]:
    numbered = ((n, line.strip()) for n, line in enumerate(file, 1) if line.strip())
    chunk = list(itertools.islice(numbered, BLOCK_ROWS_MOST))
    head = b""
    if kind == CSV and chunk and _has_header(schema, [line for _, line in chunk[:2]]):
        head = chunk[0][1].removeprefix(b"\xef\xbb\xbf") + b"\n"
        chunk = chunk[1:]
    while chunk:
        lines = np.array([n for n, _ in chunk], dtype=np.int64)
        values = [line for _, line in chunk]
        try:
            batch = decode(head + b"\n".join(values), kind, schema, FILES).batch
            if len(batch) != len(lines):
                raise PayloadInvalid("got rows over several lines, allowed one line a row")
            yield lines, batch
        except PayloadInvalid:
            for n, value in chunk:
                yield np.array([n]), _decode_line(schema, head, value, kind)
        chunk = list(itertools.islice(numbered, BLOCK_ROWS_MOST))


def _has_header(schema: Schema, lines: list[bytes]) -> bool:
    """The codec knows a header when it sees one: then two lines are one row."""
    if len(lines) < 2:
        decode(lines[0], CSV, schema, FILES)  # a header alone is refused here
        return False
    return len(decode(b"\n".join(lines), CSV, schema, FILES).batch) == 1


def _decode_line(schema: Schema, head: bytes, value: bytes, kind: str) -> Batch:
    try:
        batch = decode(head + value, kind, schema, FILES).batch
        if len(batch) == 1:
            return batch
        reason = f"{len(batch)} rows"
    except PayloadInvalid as error:
        reason = str(error)
    refusals = schema.refusals(1)
    refusals.refuse(0, "malformed", None, reason[:200], f"a row of {schema.name} as {kind}")
    return schema.check({}, 1, refusals)


def _read_arrow(schema: Schema, file: IO[bytes]) -> Iterator[Numbered]:
    whole = decode(file.read(), ARROW, schema, FILES).batch
    for start in range(0, len(whole), BLOCK_ROWS_MOST):
        rows = np.arange(start, min(start + BLOCK_ROWS_MOST, len(whole)))
        yield rows + 1, whole.take(rows)
