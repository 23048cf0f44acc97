"""Arrow IPC streams of flat columns, read into numpy without trusting a byte of them.

Streams come from strangers, and the readers at hand (arrow-rs behind arro3, nanoarrow) end the process on some
damaged ones: they allocate what a length says, or panic behind a C interface. Here every length is compared with
the bytes that are there before it is used, and only what kappawatt's messages are made of is read: numbers,
booleans, text and times, plain or compressed by LZ4 or Zstandard. nanoarrow writes.

References
----------
Apache Arrow Columnar Format, "Serialization and Interprocess Communication"; format/Message.fbs and
format/Schema.fbs for the slots below (a slot is 4 + 2 * field number).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from flatbuffers.number_types import Int16Flags, Int32Flags, Int64Flags, Uint8Flags
from flatbuffers.table import Table
from numpy.typing import NDArray

from kappawatt.columns.budget import STANDARD, Account, Budget
from kappawatt.columns.times import unit_of
from kappawatt.errors import PayloadInvalid

__all__ = ["MARK", "MEDIA_TYPE", "read_columns", "read_with_whole", "weight", "write_columns"]

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
CONTINUATION = 0xFFFFFFFF
MARK = b"\xff\xff\xff\xff"  # the same, with which every stream starts
A_TEXT_CELL = 256  # bytes of a text that a field may hold
MOST_COLUMNS = 256
MOST_METADATA = 64 * 1024
MOST_REMEMBERED = 4 * 1024  # bytes of metadata that are looked up instead of read again
LONGEST_NAME = 200  # bytes; names may overlap in the metadata, so that many long ones take little there
WINDOW_BYTES = 8 * 1024 * 1024  # of Zstandard, as much as its specification has every reader support
A_PLACE, A_TEXT, A_PART = 8, 200, 256  # bytes in memory: a place in a column, a text (twice), a part of a column

MESSAGE_KIND, MESSAGE_HEADER, MESSAGE_BODY = 6, 8, 10
IS_SCHEMA, IS_RECORD_BATCH = 1, 3
SCHEMA_FIELDS = 6
FIELD_NAME, FIELD_KIND, FIELD_TYPE, FIELD_DICTIONARY, FIELD_CHILDREN = 4, 8, 10, 12, 14
BATCH_ROWS, BATCH_NODES, BATCH_BUFFERS, BATCH_COMPRESSION = 4, 6, 8, 10
NULL, INTEGER, FLOAT, TEXT, BOOLEAN, TIMESTAMP, LARGE_TEXT = 1, 2, 3, 5, 6, 10, 20
LZ4, ZSTANDARD = 0, 1
MOST_SECONDS = 2**63 // 1000 - 1  # of a time, so that it can be counted in ms
BEFORE_ALL = np.datetime64(-(10**17), "us")  # before the year 1, so that it is refused
UNITS = {0: "s", 1: "ms", 2: "us", 3: "ns"}


UNREADABLE = (struct.error, LookupError, TypeError, ValueError, OverflowError, AttributeError)


@dataclass(frozen=True, slots=True)
class _Column:
    """One field of the schema; `dtype` of numbers and of text offsets."""

    name: str
    kind: int
    dtype: np.dtype[Any]
    unit: str = ""

    @property
    def buffers(self) -> int:
        return {NULL: 0, TEXT: 3, LARGE_TEXT: 3}.get(self.kind, 2)


def read_columns(body: bytes, budget: Budget = STANDARD) -> dict[str, NDArray[Any]]:
    """Read a stream.

    Parameters
    ----------
    budget : Budget
        Rows it may have, and bytes its buffers and columns may take.

    Returns
    -------
    dict of str to ndarray of shape (n_rows,)
        Numbers in their own type, as float64 with NaN if any is null; times as datetime64[ms], of a finer column
        as datetime64[us], NaT where null;
        text as object, None where null; booleans as bool (null is refused).

    Raises
    ------
    PayloadInvalid
        The stream is damaged, or has a column of another kind.
    PayloadTooLarge
        It would become more than the budget has.
    """
    return read_with_whole(body, budget)[0]


def read_with_whole(body: bytes, budget: Budget = STANDARD) -> tuple[dict[str, NDArray[Any]], frozenset[str]]:
    """Return what `read_columns` does, and which columns hold whole numbers, also where a null makes them float64."""
    try:
        return _read(memoryview(body), budget)
    except PayloadInvalid:
        raise
    except UNREADABLE as error:
        raise _damaged(f"its metadata cannot be read: {type(error).__name__}") from None


def weight(body: bytes) -> int:
    """Return how many bytes the columns of a stream take about, from what it says of itself; 0 if it cannot be read."""
    total, places = 0, 0
    try:
        for described, content in _messages(memoryview(body)):
            if isinstance(described, _Layout):
                total += described.rows * places
                total += len(content) if described.codec is None else _unpacked_size(described, content)
            else:
                places = sum(A_TEXT_CELL if c.kind in (TEXT, LARGE_TEXT) else A_PLACE for c in described)
    except Exception:  # it only counts; whoever reads the message says what is wrong with it
        return 0
    return total


def _unpacked_size(layout: _Layout, content: memoryview) -> int:
    starts = [offset for offset, length in layout.places if length]
    return sum(max(0, struct.unpack_from("<q", content, start)[0]) for start in starts)


def write_columns(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Write columns as a stream: numbers, booleans, text (object) and times in UTC, to the ms or, if finer, the us."""
    import nanoarrow
    from nanoarrow.ipc import StreamWriter

    fields = {name: _to_nanoarrow(column) for name, column in columns.items()}
    schema = nanoarrow.struct({name: array.schema for name, array in fields.items()}, nullable=False)
    n = len(next(iter(columns.values())))
    whole = nanoarrow.c_array_from_buffers(
        schema, length=n, buffers=[None], children=[nanoarrow.c_array(a) for a in fields.values()]
    )
    out = io.BytesIO()
    with StreamWriter.from_writable(out) as writer:
        writer.write_array(whole)
    return out.getvalue()


def _to_nanoarrow(column: NDArray[Any]) -> Any:
    import nanoarrow

    if column.dtype == object:
        return nanoarrow.Array(column.tolist(), nanoarrow.string())
    if column.dtype == np.bool_:
        packed = np.packbits(column, bitorder="little")
        return nanoarrow.Array(
            nanoarrow.c_array_from_buffers(nanoarrow.bool_(), length=len(column), buffers=[None, packed])
        )
    if column.dtype.kind != "M":
        return nanoarrow.Array(np.ascontiguousarray(column))
    unit = unit_of(column)
    whole = column.astype(f"datetime64[{unit}]").astype(np.int64)
    missing = np.isnat(column)
    validity = np.packbits(~missing, bitorder="little") if missing.any() else None
    return nanoarrow.Array(
        nanoarrow.c_array_from_buffers(
            nanoarrow.timestamp(unit, "UTC"), length=len(whole), buffers=[validity, whole], null_count=-1
        )
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a record batch says of its body: rows, (length, nulls) of columns, (offset, length) of buffers."""

    rows: int
    nodes: tuple[tuple[int, int], ...]
    places: tuple[tuple[int, int], ...]
    codec: int | None


def _read(body: memoryview, budget: Budget) -> tuple[dict[str, NDArray[Any]], frozenset[str]]:
    schema: tuple[_Column, ...] | None = None
    parts: list[dict[str, NDArray[Any]]] = []
    rows = 0
    account = budget.account()
    for metadata, content in _messages(body):
        if isinstance(metadata, _Layout) and schema is not None:
            rows += metadata.rows
            budget.allow_rows(rows)
            parts.append(_record_batch(metadata, schema, content, account))
        elif not isinstance(metadata, _Layout) and schema is None:
            schema = metadata
        else:
            raise _damaged("no schema before its rows, or a second one")
    if schema is None:
        raise _damaged("no schema")
    whole = frozenset(column.name for column in schema if column.kind == INTEGER)
    if len(parts) == 1:
        return parts[0], whole
    if not parts:
        return {column.name: np.zeros(0) for column in schema}, whole
    return {c.name: np.concatenate([part[c.name] for part in parts]) for c in schema}, whole


def _messages(body: memoryview) -> Iterator[tuple[tuple[_Column, ...] | _Layout, memoryview]]:
    """Yield what each message describes, and its body; every length fits what is left."""
    at = 0
    while at < len(body):
        if len(body) - at < 8:
            raise _damaged(f"it ends after {len(body)} bytes in the middle of a message")
        marker, size = struct.unpack_from("<Ii", body, at)
        if marker != CONTINUATION:
            raise _damaged("no continuation mark where a message should start")
        at += 8
        if size == 0:  # end of stream
            return
        _fit(size, 8, min(len(body) - at, MOST_METADATA), "metadata length")
        describe = _describe if size <= MOST_REMEMBERED else _describe.__wrapped__
        length, described = describe(bytes(body[at : at + size]))
        at += size
        _fit(length, 0, len(body) - at, "body length")
        yield described, body[at : at + length]
        at += length


@lru_cache(maxsize=128)
def _describe(metadata: bytes) -> tuple[int, tuple[_Column, ...] | _Layout]:
    """Length of a message's body, and its schema or layout; block after block of one source has the same."""
    message = Table(bytearray(metadata), struct.unpack_from("<I", metadata)[0])
    length = _scalar(message, MESSAGE_BODY, Int64Flags)
    header = _child(message, MESSAGE_HEADER)
    kind = _scalar(message, MESSAGE_KIND, Uint8Flags)
    if kind == IS_SCHEMA:
        return length, _schema(header)
    if kind == IS_RECORD_BATCH:
        return length, _layout(header)
    raise _damaged("a message that is neither schema nor record batch (dictionaries are not read)")


def _schema(header: Table) -> tuple[_Column, ...]:
    slot = header.Offset(SCHEMA_FIELDS)
    count = header.VectorLen(slot) if slot else 0
    _fit(count, 1, MOST_COLUMNS, "number of columns")
    start = header.Vector(slot)
    columns = [_column(Table(header.Bytes, header.Indirect(start + 4 * i))) for i in range(count)]
    if len({c.name for c in columns}) != len(columns):
        raise _damaged("two columns of one name")
    return tuple(columns)


def _layout(header: Table) -> _Layout:
    codec = None
    if header.Offset(BATCH_COMPRESSION):
        codec = _scalar(_child(header, BATCH_COMPRESSION), 4, Uint8Flags)
    rows = _scalar(header, BATCH_ROWS, Int64Flags)
    _fit(rows, 0, 2**62, "rows")
    return _Layout(rows, _pairs(header, BATCH_NODES), _pairs(header, BATCH_BUFFERS), codec)


def _column(field: Table) -> _Column:
    slot = field.Offset(FIELD_NAME)
    raw = field.String(field.Pos + slot) if slot else b""
    _fit(len(raw), 0, LONGEST_NAME, "name of a column: length")
    name = raw.decode()
    kind = _scalar(field, FIELD_KIND, Uint8Flags)
    children = field.Offset(FIELD_CHILDREN)
    if field.Offset(FIELD_DICTIONARY) or (children and field.VectorLen(children)):
        raise _damaged(f"{name[:80]!r} is nested or dictionary-encoded, allowed flat columns")
    detail = _child(field, FIELD_TYPE)
    if kind == INTEGER:
        bits = _scalar(detail, 4, Int32Flags)
        signed = _scalar(detail, 6, Uint8Flags)
        if bits not in (8, 16, 32, 64):
            raise _damaged(f"integers of {bits} bits")
        return _Column(name, kind, np.dtype(f"<{'i' if signed else 'u'}{bits // 8}"))
    if kind == FLOAT:
        precision = _scalar(detail, 4, Int16Flags)
        _fit(precision, 0, 2, "precision")
        return _Column(name, kind, np.dtype(f"<f{2 ** (precision + 1)}"))
    if kind == TIMESTAMP:
        unit = _scalar(detail, 4, Int16Flags)
        _fit(unit, 0, 3, "unit of a time")
        return _Column(name, kind, np.dtype("<i8"), UNITS[unit])
    if kind in (NULL, BOOLEAN, TEXT, LARGE_TEXT):
        return _Column(name, kind, np.dtype("<i8" if kind == LARGE_TEXT else "<i4"))
    raise _damaged(f"{name[:80]!r} is none of numbers, booleans, text or times")


def _record_batch(
    layout: _Layout, schema: tuple[_Column, ...], body: memoryview, account: Account
) -> dict[str, NDArray[Any]]:
    rows, nodes, places, codec = layout.rows, layout.nodes, layout.places, layout.codec
    if len(nodes) != len(schema) or len(places) != sum(c.buffers for c in schema):
        raise _damaged(f"{len(nodes)} columns in {len(places)} buffers for a schema of {len(schema)}")
    result, next_buffer = {}, 0
    for column, (length, nulls) in zip(schema, nodes, strict=True):
        _fit(length, rows, rows, "column length")
        account.spend(A_PLACE * rows + A_PART, "a column")
        mine = places[next_buffer : next_buffer + column.buffers]
        next_buffer += column.buffers
        buffers = [_buffer(offset, size, body, codec, account) for offset, size in mine]
        result[column.name] = _values(column, rows, nulls, buffers, account)
    return result


def _buffer(offset: int, length: int, body: memoryview, codec: int | None, account: Account) -> memoryview:
    """The bytes of one buffer, unpacked; what all may take together is bounded."""
    _fit(offset, 0, len(body), "buffer offset")
    _fit(length, 0, len(body) - offset, "buffer length")
    packed = body[offset : offset + length]
    if codec is None or length == 0:
        account.spend(length, "a buffer")
        return packed
    (size,) = struct.unpack_from("<q", packed)
    if size == -1:  # left as it is, because packing would not have made it smaller
        account.spend(length, "a buffer")
        return packed[8:]
    _fit(size, 0, 2**62, "unpacked size")
    account.spend(size, "a buffer")
    return memoryview(_unpack(bytes(packed[8:]), size, codec))


def _unpack(packed: bytes, size: int, codec: int) -> bytes:
    if codec == LZ4:
        import lz4.frame

        try:
            unpacked: bytes = lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=size)
        except RuntimeError as error:
            raise _damaged(f"LZ4: {error}") from None
    elif codec == ZSTANDARD:
        import zstandard

        try:
            unpacked = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).stream_reader(packed).read(size)
        except zstandard.ZstdError as error:
            raise _damaged(f"Zstandard: {error}") from None
    else:
        raise _damaged(f"compression {codec}, allowed LZ4 or Zstandard")
    _fit(len(unpacked), size, size, "unpacked size")
    return unpacked


def _values(column: _Column, rows: int, nulls: int, buffers: list[memoryview], account: Account) -> NDArray[Any]:
    if column.kind == NULL:  # what writers choose for a column that holds nothing
        return np.full(rows, None, dtype=object)
    missing = np.zeros(rows, dtype=np.bool_)
    if nulls:
        _fit(len(buffers[0]), (rows + 7) // 8, len(buffers[0]), "validity buffer")
        missing = ~_bits(buffers[0], rows)
    if column.kind in (TEXT, LARGE_TEXT):
        return _texts(column, rows, missing, buffers[1], buffers[2], account)
    if column.kind == BOOLEAN:
        if missing.any():
            raise _damaged(f"{column.name!r}: null is no boolean")
        _fit(len(buffers[1]), (rows + 7) // 8, len(buffers[1]), "boolean buffer")
        return _bits(buffers[1], rows)
    _fit(len(buffers[1]), rows * column.dtype.itemsize, len(buffers[1]), "value buffer")
    values: NDArray[Any] = np.frombuffer(buffers[1], dtype=column.dtype, count=rows)
    if column.kind == TIMESTAMP:
        kept = "us" if column.unit in ("us", "ns") else "ms"
        if column.unit == "s":  # what has no place in ms must not wrap around to a time that looks right
            values = np.clip(values, -MOST_SECONDS, MOST_SECONDS)
        moments = values.astype(f"datetime64[{column.unit}]").astype(f"datetime64[{kept}]")
        moments[np.isnat(moments)] = BEFORE_ALL.astype(moments.dtype)  # NumPy's NaT is a number to Arrow, and no null
        moments[missing] = np.datetime64("NaT")
        return moments
    if missing.any():
        return np.where(missing, np.nan, values.astype(np.float64))
    return values


def _bits(buffer: memoryview, rows: int) -> NDArray[np.bool_]:
    packed = np.frombuffer(buffer, dtype=np.uint8, count=(rows + 7) // 8)
    return np.unpackbits(packed, count=rows, bitorder="little").astype(np.bool_)


def _texts(
    column: _Column,
    rows: int,
    missing: NDArray[np.bool_],
    offsets: memoryview,
    content: memoryview,
    account: Account,
) -> NDArray[Any]:
    result = np.full(rows, None, dtype=object)
    if rows == 0:
        return result
    _fit(len(offsets), (rows + 1) * column.dtype.itemsize, len(offsets), "offset buffer")
    ends = np.frombuffer(offsets, dtype=column.dtype, count=rows + 1)
    present = np.flatnonzero(~missing)
    first, last = ends[:-1][present], ends[1:][present]
    if ((first < 0) | (last < first) | (last > len(content))).any():
        raise _damaged(f"text offsets beyond 0 to {len(content)}, or not in order")
    # Offsets may jump back over a null row, so that one text lies under many rows: what all of them take is known here.
    wide = 1 if bytes(content).isascii() else 4
    account.require(wide * int((last - first).sum()), f"text of {column.name!r}")
    known: dict[bytes, str] = {}  # names of plants and time zones repeat row after row
    for row, start, end in zip(present.tolist(), first.tolist(), last.tolist(), strict=True):
        raw = bytes(content[start:end])
        text = known.get(raw)
        if text is None:
            account.spend(wide * len(raw) + A_TEXT, f"text of {column.name!r}")
            text = known[raw] = raw.decode()
        result[row] = text
    return result


def _scalar(table: Table, slot: int, flags: Any) -> int:
    found = table.Offset(slot)
    return 0 if found == 0 else int(table.Get(flags, table.Pos + found))


def _child(table: Table, slot: int) -> Table:
    found = table.Offset(slot)
    if found == 0:
        raise _damaged("a part of its metadata is missing")
    return Table(table.Bytes, table.Indirect(table.Pos + found))


def _pairs(table: Table, slot: int) -> tuple[tuple[int, int], ...]:
    """A vector of structs of two 64-bit numbers: FieldNode {length, null_count}, Buffer {offset, length}."""
    found = table.Offset(slot)
    if found == 0:
        return ()
    start, count = table.Vector(found), table.VectorLen(found)
    _fit(count, 0, 3 * MOST_COLUMNS, "number of buffers")
    _fit(start, 0, len(table.Bytes) - 16 * count, "place of buffers")
    flat = struct.unpack_from(f"<{2 * count}q", table.Bytes, start)
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def _fit(value: int, least: int, most: int, what: str) -> None:
    if not least <= value <= most:
        raise _damaged(f"{what} of {value}, allowed {least} to {most}")


def _damaged(reason: str) -> PayloadInvalid:
    return PayloadInvalid.of("body", f"an Arrow stream that cannot be read ({reason})", f"a whole {MEDIA_TYPE}")
