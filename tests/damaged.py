"""Batches in the log of a stopped broker: found, and damaged as a disk or a foreign client would."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import crc32c

from kappawatt.broker import Broker

__all__ = ["CODECS", "damage"]

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4, "unknown": 5}
# https://kafka.apache.org/documentation/#recordbatch
LENGTH, CHECKSUM, ATTRIBUTES, HEADER = 8, 17, 21, 12


def damage(broker: Broker, topic: str, offset: int, how: str) -> None:
    """Damage the batch of partition 0 that begins at `offset`.

    Parameters
    ----------
    how : str
        `checksum` changes a byte; the name of a codec has the batch claim that its bytes are compressed by it, under a
        right checksum.
    """
    (path,) = broker.data_dir.glob(f"**/{topic}-0/*.log")
    log = bytearray(path.read_bytes())
    at, size = next((at, size) for at, size, begin in _batches(log) if begin == offset)
    if how == "checksum":
        log[at + size - 3] ^= 0xFF
    else:
        (attributes,) = struct.unpack_from(">h", log, at + ATTRIBUTES)
        struct.pack_into(">h", log, at + ATTRIBUTES, (attributes & ~7) | CODECS[how])
        struct.pack_into(">I", log, at + CHECKSUM, crc32c.crc32c(bytes(log[at + ATTRIBUTES : at + size])))
    Path(path).write_bytes(log)


def _batches(log: bytearray) -> Iterator[tuple[int, int, int]]:
    """Yield place, size and first offset of each batch."""
    at = 0
    while at + HEADER <= len(log):
        begin, length = struct.unpack_from(">qi", log, at)
        if length <= 0:  # space that was allocated ahead
            return
        yield at, HEADER + length, begin
        at += HEADER + length
