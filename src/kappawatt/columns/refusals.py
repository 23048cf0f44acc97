"""What is refused while rows are read and checked: every one is counted, the first are kept with their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Rejection
from kappawatt.columns.shown import SHORTEST, shorten

__all__ = ["Refusals"]


class Allowing(Protocol):
    """A field as far as a refusal names it."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def allowed(self) -> str:
        """What it takes."""
        ...


class Refusals:
    """The refusals of n rows while they are read column by column.

    Parameters
    ----------
    n : int
        Number of rows.
    names : sequence of str
        Fields of the schema: of these, a cell that was refused is not refused again.
    most : int or None
        Rejections kept, the first ones by row; None is all. A reason is some 300 bytes, its value one or two.

    """

    __slots__ = ("_cells", "_kept", "_most", "_n", "_names", "_room", "_rows", "_unlisted", "_unreadable")

    def __init__(self, n: int, names: Sequence[str] = (), most: int | None = None) -> None:
        self._n = n
        self._names = names
        self._most = most
        self._rows: NDArray[np.bool_] | None = None
        self._kept: list[Rejection] = []
        self._room: dict[str | None, int] = {}  # a column comes after the other, so each may keep the first
        self._unlisted: Counter[str] = Counter()
        self._unreadable: NDArray[np.bool_] | None = None  # whole rows
        self._cells: dict[str, NDArray[np.bool_]] = {}

    def __bool__(self) -> bool:
        return bool(self._kept)

    @property
    def rows(self) -> NDArray[np.bool_]:
        """Which rows are refused, shape (n,)."""
        if self._rows is None:
            self._rows = np.zeros(self._n, dtype=np.bool_)
        return self._rows

    @property
    def first(self) -> Rejection:
        """The first that was told."""
        return self._kept[0]

    def refuse(self, row: int, code: str, field: str | None, got: Any, allowed: str) -> None:
        """Refuse one value, or a row as a whole if `field` is None."""
        if self._note(row, code, field):
            name = None if field is None else field[:SHORTEST]
            self._kept.append(Rejection(row, code, name, shorten(got), allowed))

    def refuse_value(self, row: int, code: str, field: Allowing, got: Any) -> None:
        """Refuse a value of a field of the schema, which says what it allows."""
        if self._note(row, code, field.name):
            self._kept.append(Rejection(row, code, field.name, shorten(got), field.allowed))

    def refuse_all(self, bad: NDArray[np.bool_], code: str, field: str, column: NDArray[Any], allowed: str) -> None:
        """Refuse the values of a column where `bad`, unless they were already, or their row was."""
        for known in (self._unreadable, self._cells.get(field)):
            if known is not None:
                bad = bad & ~known
        rows = np.flatnonzero(bad)
        self.rows[rows] = True
        mask = self._mask(field)
        if mask is not None:
            mask[rows] = True
        listed = 0
        for row in rows.tolist():
            if not self._has_room(field):
                break
            got = None if code == "missing_field" else shorten(column[row])
            self._kept.append(Rejection(row, code, field, got, allowed))
            listed += 1
        if listed < len(rows):
            self._unlisted[code] += len(rows) - listed

    @property
    def has_room(self) -> bool:
        """Whether another refusal of no field of the schema would be kept."""
        return self._most is None or self._room.get(None, self._most) > 0

    def count(self, row: int, code: str, count: int) -> None:
        """Refuse a row for so many reasons of one code, and keep none of them."""
        self.rows[row] = True
        self._unlisted[code] += count

    def listed(self) -> tuple[tuple[Rejection, ...], Mapping[str, int]]:
        """Return the first refusals in order of rows, and how many more there are of each code."""
        if not self._kept:
            return (), {}
        kept = sorted(self._kept, key=lambda r: r.row)
        most = len(kept) if self._most is None else self._most
        unlisted = self._unlisted + Counter(r.code for r in kept[most:])
        return tuple(kept[:most]), dict(unlisted)

    def _mask(self, field: str | None) -> NDArray[np.bool_] | None:
        """Where a field was refused; of rows as a whole, if it is None; None for a field of no schema."""
        if field is None:
            if self._unreadable is None:
                self._unreadable = np.zeros(self._n, dtype=np.bool_)
            return self._unreadable
        mask = self._cells.get(field)
        if mask is None and field in self._names:
            mask = self._cells[field] = np.zeros(self._n, dtype=np.bool_)
        return mask

    def _note(self, row: int, code: str, field: str | None) -> bool:
        """Mark a refusal, and tell whether it is to be kept."""
        self.rows[row] = True
        mask = self._mask(field)
        if mask is not None:
            mask[row] = True
        if self._has_room(field):
            return True
        self._unlisted[code] += 1
        return False

    def _has_room(self, field: str | None) -> bool:
        if self._most is None:
            return True
        group = field if field in self._names else None
        room = self._room.get(group, self._most)
        self._room[group] = room - 1
        return room > 0
