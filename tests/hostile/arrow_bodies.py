"""Arrow streams of few bytes that claim many."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc

__all__ = ["arrow_bodies", "text_bomb"]

NAMES = ("ambient_temperature", "exhaust_vacuum", "ambient_pressure", "relative_humidity")
VALUES = (14.96, 41.76, 1024.07, 73.17)
ROWS = 1_000_000
MANY = 250_000  # as many rows as pass, or nearly


def stream(*batches: pa.RecordBatch, schema: pa.Schema | None = None, packed: str | None = "zstd") -> bytes:
    """An IPC stream; packed, a column of one value takes some bytes."""
    sink = pa.BufferOutputStream()
    options = ipc.IpcWriteOptions(compression=packed)
    with ipc.new_stream(sink, schema or batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def of(packed: str | None = "zstd", **columns: pa.Array) -> bytes:
    return stream(pa.RecordBatch.from_arrays(list(columns.values()), list(columns)), packed=packed)


def good(rows: int) -> dict[str, pa.Array]:
    return {name: pa.array(np.full(rows, value)) for name, value in zip(NAMES, VALUES, strict=True)}


def buffers_of(rows: int, offsets: np.ndarray, content: bytes, valid: np.ndarray | None = None) -> pa.Array:
    """A column of text from its very buffers."""
    bits = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    kind = pa.string() if offsets.dtype == np.int32 else pa.large_string()
    nulls = 0 if valid is None else int((~valid).sum())
    return pa.Array.from_buffers(kind, rows, [bits, pa.py_buffer(offsets.tobytes()), pa.py_buffer(content)], nulls)


def text_bomb(rows: int = 20_001, size: int = 100_000, letter: bytes = b"x", name: str = "load_zone") -> bytes:
    """Every second row is null, and its offsets jump back: each other row is the whole buffer again."""
    offsets = np.zeros(rows + 1, dtype=np.int32)
    offsets[1::2] = size
    valid = np.arange(rows) % 2 == 0
    return of(**{name: buffers_of(rows, offsets, letter * (size // len(letter)), valid)})


def patched(body: bytes, old: bytes, new: bytes) -> bytes:
    assert old in body
    return body.replace(old, new)


def many_empty_batches(count: int, width: int) -> bytes:
    """Record batches without rows: each is a message with a node and buffers a column."""
    schema = pa.schema([(f"c{i}", pa.float64()) for i in range(width)])
    empty = pa.RecordBatch.from_arrays([pa.array([], pa.float64())] * width, schema=schema)
    one, two = stream(empty, packed=None), stream(empty, empty, packed=None)
    message = two[len(one) - 8 : len(two) - 8]
    return one[:-8] + message * count + one[-8:]


def _cases() -> Iterator[tuple[str, Callable[[], bytes]]]:
    yield "text under null rows", text_bomb
    yield "text under null rows, wide letters", lambda: text_bomb(letter="é".encode())
    yield "text under null rows, many short", lambda: text_bomb(rows=200_001, size=180)
    yield (
        "text that overlaps itself",
        lambda: of(
            load_zone=buffers_of(MANY, np.repeat(np.array([0, 1_000], dtype=np.int32), [MANY, 1]), b"x" * 1_000)
        ),
    )
    yield (
        "text with falling offsets",
        lambda: of(load_zone=buffers_of(3, np.array([0, 900, 100, 1_000], dtype=np.int32), b"x" * 1_000)),
    )
    yield (
        "text with negative offsets",
        lambda: of(load_zone=buffers_of(10, np.array([0, -5] * 5 + [3], dtype=np.int32), b"x" * 10)),
    )
    yield (
        "large text that ends at 2**62",
        lambda: of(load_zone=buffers_of(2, np.array([0, 2**62, 1], dtype=np.int64), b"x")),
    )
    yield "null columns, many", lambda: of(**{f"c{i}": pa.nulls(ROWS) for i in range(200)})
    yield "null columns, ours", lambda: of(**{name: pa.nulls(MANY) for name in NAMES})
    yield (
        "null columns of 2**40 rows",
        lambda: patched(
            of(**{name: pa.nulls(987_654_321) for name in NAMES}),
            struct.pack("<q", 987_654_321),
            struct.pack("<q", 2**40),
        ),
    )
    yield (
        "a null column of negative rows",
        lambda: patched(of(net_power=pa.nulls(987_654_321)), struct.pack("<q", 987_654_321), struct.pack("<q", -1)),
    )
    for codec in ("zstd", "lz4"):
        yield f"constants packed by {codec}", lambda codec=codec: of(codec, **good(ROWS))
        yield f"more constants packed by {codec}", lambda codec=codec: of(codec, **good(10 * ROWS))
        yield f"as many rows as pass, by {codec}", lambda codec=codec: of(codec, **good(MANY))
        yield (
            f"as many rows as pass, all out of range, by {codec}",
            lambda codec=codec: of(codec, **{name: pa.array(np.full(MANY, 1e9)) for name in NAMES}),
        )
        yield (
            f"a buffer that says it unpacks to 2**40 bytes, by {codec}",
            lambda codec=codec: patched(of(codec, **good(1_000)), struct.pack("<q", 8_000), struct.pack("<q", 2**40)),
        )
        yield (
            f"a buffer that unpacks to more than it says, by {codec}",
            lambda codec=codec: patched(
                of(codec, **good(1_000_000)), struct.pack("<q", 8_000_000), struct.pack("<q", 8_000)
            ),
        )
    yield (
        "a Zstandard window of 2 GB",
        lambda: patched(of(**good(1_000)), b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x00\xa8"),
    )
    yield "booleans", lambda: of(ambient_temperature=pa.array(np.zeros(8 * ROWS, dtype=bool)))
    yield "half floats", lambda: of(**{name: pa.array(np.full(2 * ROWS, 1, np.float16)) for name in NAMES})
    yield "small integers", lambda: of(**{name: pa.array(np.full(MANY, 20, np.int8)) for name in NAMES})
    yield (
        "times",
        lambda: of(
            **good(MANY), event_time=pa.array(np.zeros(MANY, dtype="datetime64[ns]"), pa.timestamp("ns", "UTC"))
        ),
    )
    yield "times of many rows", lambda: of(event_time=pa.array(np.zeros(4 * ROWS, dtype="datetime64[s]")))
    yield "columns that nobody knows", lambda: of(**{f"c{i}": pa.array(np.zeros(40_000)) for i in range(250)})
    yield "columns with long names", lambda: of(None, **{f"{i:03}" + "n" * 250: pa.nulls(3) for i in range(200)})
    yield "more columns than any", lambda: of(None, **{f"c{i}": pa.nulls(3) for i in range(20_000)})
    yield (
        "metadata of a megabyte",
        lambda: stream(
            pa.RecordBatch.from_arrays(
                [pa.array([1.0])], schema=pa.schema([("a", pa.float64())], metadata={"k": "v" * 1_000_000})
            )
        ),
    )
    yield "batches without rows", lambda: many_empty_batches(15_000, 2)
    yield "wide batches without rows", lambda: many_empty_batches(800, 200)
    yield "a dictionary", lambda: of(load_zone=pa.array(["x" * 100_000] * 1_000).dictionary_encode())
    yield (
        "a dictionary of a list",
        lambda: of(a=pa.DictionaryArray.from_arrays(pa.array(np.zeros(ROWS, np.int8)), pa.array([[1] * 1_000]))),
    )
    yield (
        "run ends",
        lambda: of(
            None,
            ambient_temperature=pa.RunEndEncodedArray.from_arrays(pa.array([2**31 - 1], pa.int32()), pa.array([1.0])),
        ),
    )
    yield "lists in lists", lambda: of(None, a=_nested(30))
    yield "structs in structs", lambda: of(None, a=_structs(30))
    yield "a view of text", lambda: of(None, load_zone=pa.array(["x" * 1_000] * 100, pa.string_view()))
    yield "decimals", lambda: of(ambient_temperature=pa.nulls(ROWS, pa.decimal128(38)))
    yield "bytes of fixed size", lambda: of(a=pa.nulls(10, pa.binary(1_000_000)))
    yield "a schema and nothing else", lambda: stream(schema=pa.schema([("ambient_temperature", pa.float64())]))
    yield "a metadata length of 2 GB", lambda: b"\xff\xff\xff\xff" + struct.pack("<i", 2**31 - 1) + bytes(100)
    yield "a negative metadata length", lambda: b"\xff\xff\xff\xff" + struct.pack("<i", -(2**31)) + bytes(100)


def _nested(depth: int) -> pa.Array:
    array: pa.Array = pa.array([1.0])
    for _ in range(depth):
        array = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), array)
    return array


def _structs(depth: int) -> pa.Array:
    array: pa.Array = pa.array([1.0])
    for _ in range(depth):
        array = pa.StructArray.from_arrays([array], ["a"])
    return array


def arrow_bodies() -> dict[str, Callable[[], bytes]]:
    """Each body by what it stands for; made when it is asked for."""
    return {f"arrow: {name}": make for name, make in _cases()}
