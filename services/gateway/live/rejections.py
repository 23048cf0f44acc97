"""Refused readings of all streams: how many by reason, and the newest."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

from .view import KnownIds

__all__ = ["Rejections"]

KEPT_REJECTIONS = 50


class Rejections:
    """Counts dead letters and keeps the newest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids = KnownIds()
        self._by_reason: Counter[str] = Counter()
        self._newest: deque[dict[str, Any]] = deque(maxlen=KEPT_REJECTIONS)
        self._since: int | None = None

    def add(self, letters: Iterable[Mapping[str, Any]]) -> None:
        """Take in dead letters in the order they were published."""
        with self._lock:
            for letter in letters:
                if self._ids.has(str(letter.get("id"))):
                    continue
                rows = letter.get("rejected_rows")
                self._by_reason[str(letter["reason"])] += rows if isinstance(rows, int) and rows > 0 else 1
                self._newest.append(dict(letter))
                published = letter.get("published")
                if self._since is None and isinstance(published, int):
                    self._since = published

    def counts(self) -> dict[str, Any]:
        """Return how many rows were refused, by reason."""
        with self._lock:
            return self._counts()

    def listed(self) -> dict[str, Any]:
        """Return how many rows were refused by reason, and the newest refusals, newest first."""
        with self._lock:
            return {**self._counts(), "newest": list(reversed(self._newest))}

    def _counts(self) -> dict[str, Any]:
        return {
            "total": sum(self._by_reason.values()),
            "by_reason": dict(self._by_reason.most_common()),
            "counted_since": self._since,
        }
