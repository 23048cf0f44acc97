"""What a body may become: one budget for rows, decoded bytes and reasons, asked before anything is allocated.

A body of some bytes can claim to be anything: null columns and compressed buffers take no room in it, `[],` takes 3
bytes there and 64 here, and `1\\n` is a refused row with a reason. So every reader asks here first. Together with the
body itself and what is made of its rows a process then grows by at most eight times the largest body.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kappawatt.errors import PayloadTooLarge

__all__ = ["FILES", "LISTED", "LISTED_TOGETHER", "STANDARD", "Account", "Budget", "said"]

LISTED = 100  # reasons that are kept of one body; a person reads no more, and the others are counted
LISTED_TOGETHER = 10_000  # reasons kept of messages that are read together; beyond them the first of each is
BYTES_A_ROW = 32  # of the largest body for each row: four numbers of Arrow; the shortest row of CSV has fewer
UNPACKED = 3  # times the largest body, for what is decoded of one; the rest is the body, its columns and the answer
MEGABYTE = 2**20
NEVER_MORE = 32  # bytes that one byte of text becomes at most as Python objects: `[],` is 64 and a place in a list


@dataclass(frozen=True, slots=True)
class Budget:
    """What one body, or one message, may become.

    Parameters
    ----------
    body : int
        Largest body [bytes], also of what a packed one unpacks to.
    rows : int
        Most rows.
    unpacked : int
        Most bytes that buffers, texts, arrays or objects decoded of it take at a time.
    listed : int or None
        Most rejections that are kept, each with field, value and reason; the others are counted. None is all.
    """

    body: int
    rows: int
    unpacked: int
    listed: int | None = LISTED

    @classmethod
    def of(cls, body: int) -> Budget:
        """Return the budget where bodies have at most `body` bytes."""
        return cls(body, body // BYTES_A_ROW, UNPACKED * body)

    def terse(self) -> Budget:
        """Return the same, where only the first rejection is kept."""
        return replace(self, listed=1)

    def account(self) -> Account:
        """Return what is left for one body."""
        return Account(self)

    def allow_rows(self, rows: int) -> None:
        """Raise PayloadTooLarge if there are too many of them."""
        if rows > self.rows:
            raise PayloadTooLarge.of("body", f"{rows:,} rows or more", f"{self.rows:,} rows in one body")

    def allow_objects(self, text: bytes, copies: int = 1) -> None:
        """Raise PayloadTooLarge if JSON may take too much memory once it is parsed, or `copies` times that.

        What it holds shows in its punctuation: each list, object, name, value and text has a least size in Python.
        The figures are CPython's, rounded up; the sum is never below what is taken.
        """
        if len(text) * NEVER_MORE * copies <= self.unpacked:
            return
        is_narrow = text.isascii() and rb"\u" not in text  # one letter beyond Latin makes all of a text wide
        letters = len(text) if is_narrow else 4 * len(text)
        taken = letters + 64 * text.count(b"[") + 184 * text.count(b"{") + 50 * text.count(b":")
        taken += 41 * text.count(b",") + 28 * text.count(b'"')
        if taken * copies > self.unpacked:
            raise PayloadTooLarge.of("body", f"JSON that may take {said(taken * copies)}", said(self.unpacked))


class Account:
    """What is left of a budget while one body is read."""

    __slots__ = ("_budget", "_left")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._left = budget.unpacked

    def require(self, size: int, what: str) -> None:
        """Raise PayloadTooLarge unless so many bytes are left; none are taken."""
        self.spend(size, what)
        self._left += size

    def spend(self, size: int, what: str) -> None:
        """Take bytes that are about to be allocated; PayloadTooLarge names what would take too many."""
        self._left -= size
        if self._left < 0:
            whole = self._budget.unpacked
            raise PayloadTooLarge.of("body", f"{what} that unpacks to {said(whole - self._left)}", said(whole))


def said(size: int) -> str:
    """Return a size for a person.

    Examples
    --------
    >>> said(2**30 + 1), said(1500)
    ('1,025 MB', '1,500 bytes')
    """
    return f"{-(-size // MEGABYTE):,} MB" if size >= MEGABYTE else f"{size:,} bytes"


STANDARD = Budget.of(8 * MEGABYTE)  # where nobody has set another: the default of the setting `max_body_bytes`
FILES = Budget(128 * MEGABYTE, 20_000_000, 2048 * MEGABYTE, listed=None)  # named by whoever runs the process
