"""Memory that a large body has freed is given back before the next one takes more.

glibc keeps freed memory in a heap for each thread, and Python's garbage collector leaves cycles for later: what one
request was allowed would stay and add up. Elsewhere than on glibc nothing is done.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from pathlib import Path

__all__ = ["give_back", "keep_few_heaps"]

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # malloc.h
MAPPED_BYTES = 4 * 1024 * 1024
HEAPS = 1  # Python's own lock lets threads take turns anyway
SPARE_BYTES = 4 * 1024 * 1024  # that may be kept
STATM = Path("/proc/self/statm")

_lock = threading.Lock()
_least: int | None = None  # resident bytes after the last time


def keep_few_heaps() -> None:
    """Have glibc keep one heap for all threads, and map what is large; before threads are started."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, HEAPS)
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)


def give_back() -> None:
    """Give freed memory back, if there is much: some milliseconds, else some microseconds."""
    global _least
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None or not _lock.acquire(blocking=False):
        return
    try:
        if _least is None or _resident() > _least + SPARE_BYTES:
            gc.collect()
            trim(0)
            _least = _resident()
    finally:
        _lock.release()


def _resident() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
