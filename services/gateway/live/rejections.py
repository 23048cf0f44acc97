"""Refused readings of all streams: how many by reason, and the newest."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

from .view import KnownIds

__all__ = ["Rejections", "brief"]

KEPT_REJECTIONS = 50
MOST_REASONS = 100  # told apart; there are a dozen, and what others write to the topic counts together
OTHER_REASONS = "other"
LONGEST_ORIGINAL = 4_000  # characters of a refused message that are shown; the whole is on the bus


def brief(letter: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dead letter with no more of the original than people look at; `original_bytes` says how long it was."""
    found = dict(letter)
    text, encoded = found.get("original"), found.get("original_base64")
    if isinstance(text, str) and len(text) > LONGEST_ORIGINAL:
        found["original"] = text[:LONGEST_ORIGINAL]
        found.setdefault("original_bytes", len(text.encode()))
    if isinstance(encoded, str) and len(encoded) > LONGEST_ORIGINAL:
        found["original_base64"] = encoded[:LONGEST_ORIGINAL]
        found.setdefault("original_bytes", len(encoded) // 4 * 3)
    return found


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
                reason = str(letter["reason"])
                if reason not in self._by_reason and len(self._by_reason) >= MOST_REASONS:
                    reason = OTHER_REASONS
                self._by_reason[reason] += rows if isinstance(rows, int) and rows > 0 else 1
                self._newest.append(brief(letter))
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
