"""Which partition a key belongs to: murmur2, as Kafka's Java client computes it."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["murmur2", "partition_for"]

MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Return the unsigned 32-bit murmur2 hash with Kafka's seed.

    References
    ----------
    Apache Kafka, org.apache.kafka.common.utils.Utils.murmur2 (seed 0x9747b28c, m 0x5bd1e995, r 24).
    """
    m = 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & MASK
    tail = len(key) & ~3
    for start in range(0, tail, 4):
        k = int.from_bytes(key[start : start + 4], "little")
        k = (k * m) & MASK
        k ^= k >> 24
        k = (k * m) & MASK
        h = ((h * m) & MASK) ^ k
    if len(key) > tail:
        h ^= int.from_bytes(key[tail:], "little")
        h = (h * m) & MASK
    h ^= h >> 13
    h = (h * m) & MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=4096)  # keys may be anything a client sends, and each that is remembered keeps its page of memory
def partition_for(key: bytes, partitions: int) -> int:
    """Return the partition of `key` among `partitions`, as Kafka's default partitioner does."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
