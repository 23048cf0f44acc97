"""Rows as columns: what goes into a predictor (`Batch`) and what comes out (`Answer`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import FieldError, KappawattError, PayloadInvalid

__all__ = ["Answer", "Batch", "Columns", "Rejection", "RowsRejected", "count_codes"]

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one row was refused: data, not an exception.

    Parameters
    ----------
    row : int
        Position in the payload, from 0.
    code : str
        `missing_field`, `unknown_field`, `duplicate_field`, `not_a_number`, `not_text`, `not_a_timestamp`,
        `not_finite`, `out_of_range`, `malformed`, `model_failed`, or `internal`: an error of ours, not the sender's.
    field : str or None
        The field at fault; None when the row as a whole cannot be read.
    got : object
        The value received, as JSON would write it (shortened).
    allowed : str
        What would have been accepted.
    """

    row: int
    code: str
    field: str | None
    got: Any
    allowed: str

    @property
    def message(self) -> str:
        """One sentence: field, value got, values allowed."""
        where = f"{self.field}: " if self.field else ""
        return f"{where}got {self._got}, allowed {self.allowed}"

    @property
    def _got(self) -> str:
        return "nothing" if self.got is None and self.code == "missing_field" else repr(self.got)

    @property
    def error(self) -> PayloadInvalid:
        """The same as an error of the payload as a whole."""
        if self.field is None:
            return PayloadInvalid(self.message)
        return PayloadInvalid.of(self.field, self._got, self.allowed)

    @classmethod
    def of(cls, row: int, code: str, error: FieldError) -> Rejection:
        """Return the rejection of a row that an error says."""
        return cls(row, code, error.field, error.got, error.allowed)

    def at(self, row: int) -> Rejection:
        """The same, at another row."""
        return replace(self, row=row)

    def to_json(self) -> dict[str, Any]:
        """Return the form used in problem documents, dead letters and logs."""
        return {
            "row": self.row,
            "code": self.code,
            "field": self.field,
            "got": self.got,
            "allowed": self.allowed,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class Batch:
    """Validated rows.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n_rows,)
        One array for each field of the schema: float64 (NaN where an optional value is missing),
        datetime64 in the field's finest unit (NaT where missing), or object for text (None where missing).
    valid : ndarray of bool, shape (n_rows,)
        False where the row was rejected; its columns then hold whatever could be read.
    rejections : tuple of Rejection
        In row order; a row may have several. At least one if any row is not valid.
    unlisted : mapping of str to int
        How many more there are of each code: of a body with very many, the first ones are kept.
    """

    columns: Columns
    valid: NDArray[np.bool_]
    rejections: tuple[Rejection, ...] = ()
    unlisted: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def refused(self) -> Counter[str]:
        """How many rejections there are of each code, listed or not."""
        return count_codes(self.rejections, self.unlisted)

    def take(self, rows: NDArray[np.intp]) -> Batch:
        """Return the rows at these positions; their rejections are renumbered, those not listed stay behind."""
        rejections: tuple[Rejection, ...] = ()
        if self.rejections:
            place = np.full(len(self), -1, dtype=np.intp)
            place[rows] = np.arange(len(rows))
            rejections = tuple(r.at(int(place[r.row])) for r in self.rejections if place[r.row] >= 0)
        return Batch({name: column[rows] for name, column in self.columns.items()}, self.valid[rows], rejections)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to a batch, row for row.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n_rows,)
        One array for each response field: float64, int64, bool, datetime64, or object for text. NaN, 0, False, NaT or
        None in rejected rows.
    valid : ndarray of bool, shape (n_rows,)
        True where there is an answer.
    rejections : tuple of Rejection
        The batch's, and those of rows the model itself failed on.
    model, version : str
        Who answered.
    unlisted : mapping of str to int
        How many more rejections there are of each code.
    suspects : mapping of str to int
        Of forecasts: how many measurements were taken for missing, by why, each once a forecast.
    """

    columns: Columns
    valid: NDArray[np.bool_]
    rejections: tuple[Rejection, ...]
    model: str
    version: str
    unlisted: Mapping[str, int] = field(default_factory=dict)
    suspects: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def refused(self) -> Counter[str]:
        """How many rejections there are of each code, listed or not."""
        return count_codes(self.rejections, self.unlisted)


def count_codes(rejections: tuple[Rejection, ...], unlisted: Mapping[str, int]) -> Counter[str]:
    """Return how many rejections there are of each code, those in a list and those that are only counted."""
    return Counter(r.code for r in rejections) + Counter(unlisted)


class RowsRejected(KappawattError):
    """The payload was read, but rows broke the schema.

    Parameters
    ----------
    rejections : sequence of Rejection
        What was wrong, in row order; maybe the first ones only.
    unlisted : int
        How many more there are.
    rows : int or None
        How many rows were refused; those of `rejections` if absent.
    """

    status = 422
    title = "Rows rejected"

    def __init__(self, rejections: tuple[Rejection, ...], unlisted: int = 0, rows: int | None = None) -> None:
        self.rejections = rejections
        self.unlisted = unlisted
        self.rows = len({r.row for r in rejections}) if rows is None else rows
        first = rejections[0]
        count = len(rejections) + unlisted
        more = f" (and {count - 1} more)" if count > 1 else ""
        super().__init__(f"row {first.row}: {first.message}{more}")

    @classmethod
    def of(cls, rows: Batch | Answer) -> RowsRejected:
        """Return the error of all rows that are not valid."""
        return cls(rows.rejections, sum(rows.unlisted.values()), int((~rows.valid).sum()))
