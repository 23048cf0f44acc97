"""Schemas: field, unit, range, meaning. Validation, JSON Schema, OpenAPI and docs tables come from here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as derived
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.batch import Batch, Rejection
from kappawatt.columns.refusals import Refusals
from kappawatt.columns.shown import SHORTEST, shorten
from kappawatt.errors import PayloadInvalid

__all__ = ["SHORTEST", "Family", "Field", "Kind", "Schema", "shorten"]

LARGEST = float(np.finfo(np.float64).max)
NO_NUMBER = (math.inf, -math.inf)  # the range of a field that holds no number: nothing is in it
LONGEST_TEXT = 200  # characters, where a field does not say
MOST_OF_FAMILIES = 32  # fields of one body that are of families: each is a column of all its rows


class Kind(StrEnum):
    """What a field holds."""

    NUMBER = "number"  # float64, finite
    INTEGER = "integer"  # int64 or float64 with whole values
    BOOLEAN = "boolean"
    TEXT = "text"
    TIMESTAMP = "timestamp"  # datetime64 in the field's `finest` unit, UTC


@dataclass(frozen=True, slots=True)
class Field:
    """One named quantity.

    Parameters
    ----------
    name : str
        The field's standard term, in full.
    unit : str
        Unit symbol, "" for none.
    meaning : str
        One phrase for a person.
    kind : Kind
    minimum, maximum : float or None
        Inclusive range outside of which a value is rejected, in `unit`; of text its length, 1 to 200 if not given.
    column : str or None
        Header under which files know this field (CCPP: AT, V, AP, RH, PE); mapped where a file is read.
    required : bool
    example : object
        A value that is accepted.
    finest : str
        Of a time: the unit it is kept in, `us` or `ms`. Digits beyond it are cut.
    """

    name: str
    unit: str
    meaning: str
    kind: Kind = Kind.NUMBER
    minimum: float | None = None
    maximum: float | None = None
    column: str | None = None
    required: bool = True
    example: Any = None
    finest: str = "us"

    @property
    def limits(self) -> tuple[float, float]:
        """Of a number: smallest and largest; infinite where there is no limit."""
        return (
            -math.inf if self.minimum is None else self.minimum,
            math.inf if self.maximum is None else self.maximum,
        )

    @property
    def lengths(self) -> tuple[int, int]:
        """Of text: fewest and most characters."""
        shortest = 1 if self.minimum is None else int(self.minimum)
        return shortest, LONGEST_TEXT if self.maximum is None else int(self.maximum)

    @property
    def allowed(self) -> str:
        """What is accepted, for a person."""
        if self.kind is Kind.TEXT:
            shortest, longest = self.lengths
            return f"text of {shortest} to {longest} characters"
        if self.kind is Kind.TIMESTAMP:
            milliseconds = "milliseconds since the epoch (no seconds, no digits of a date)"
            return f"an ISO 8601 time with zone, or {milliseconds}, in the years 1970 to 2261"
        if self.kind is Kind.BOOLEAN:
            return "true or false"
        noun = "an integer" if self.kind is Kind.INTEGER else "a number"
        if self.minimum is None and self.maximum is None:
            return f"{noun} in {self.unit}" if self.unit else noun
        low = "" if self.minimum is None else f" from {self.minimum:g}"
        high = "" if self.maximum is None else f" to {self.maximum:g}"
        return f"{noun}{low}{high} {self.unit}".rstrip()

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of one value."""
        description = f"{self.meaning} [{self.unit}]" if self.unit else self.meaning
        result: dict[str, Any] = {"description": description}
        if self.kind is Kind.TIMESTAMP:
            result["anyOf"] = [
                {"type": "string", "format": "date-time"},
                {"type": "integer", "minimum": MIN_TIMESTAMP, "maximum": MAX_TIMESTAMP},
            ]
        elif self.kind is Kind.TEXT:
            shortest, longest = self.lengths
            result |= {"type": "string", "minLength": shortest, "maxLength": longest}
        elif self.kind is Kind.BOOLEAN:
            result["type"] = "boolean"
        else:
            result["type"] = str(self.kind)
            if self.minimum is not None:
                result["minimum"] = self.minimum
            if self.maximum is not None:
                result["maximum"] = self.maximum
        if self.unit:
            result["x-unit"] = self.unit
        if not self.required:
            nullable: dict[str, Any] = {key: result.pop(key) for key in ("description", "x-unit") if key in result}
            result = {"anyOf": [result, {"type": "null"}], **nullable}
        return result


@dataclass(frozen=True, slots=True)
class Family:
    """Optional numbers that are alike but for a running number: the temperatures of several stations.

    There are at most as many as `most` says, so that rows of many messages side by side take bounded memory.

    Parameters
    ----------
    like : Field
        Its name is the stem: `temperature` of `temperature_1`.
    most : int
        The numbers go from 1 to this.
    bare : bool
        Whether the stem alone is a field of the family too.
    """

    like: Field
    most: int = 32
    bare: bool = True

    @property
    def shown(self) -> str:
        """The names, for a person."""
        stem = self.like.name
        return (f"{stem}, " if self.bare else "") + f"{stem}_1 to {stem}_{self.most}"

    @property
    def pattern(self) -> str:
        """The names, as a regular expression."""
        tens, units = divmod(self.most, 10)
        many = [f"[1-{tens - 1}][0-9]"] if tens > 1 else []
        numbers = "|".join(["[1-9]", *many, *([f"{tens}[0-{units}]"] if tens else [])])
        number = f"_(?:{numbers})"
        return f"^{re.escape(self.like.name)}{f'(?:{number})?' if self.bare else number}$"

    def field(self, name: str) -> Field | None:
        """Return the field of a name; None if the family has none of it."""
        return _member(self, name) if name.startswith(self.like.name) and len(name) <= len(self.like.name) + 3 else None


@lru_cache(maxsize=4_096)
def _member(family: Family, name: str) -> Field | None:
    if not re.fullmatch(family.pattern, name):
        return None
    return replace(family.like, name=name, column=name, required=False)


# Times that are let into the log [ms since the epoch]: the years 1970 to 2261. Kafka has no earlier record time, and
# whatever reads the store later has them: PostgreSQL and DuckDB, Python's datetime, and the nanoseconds of pandas,
# Arrow and Parquet, which end in April 2262.
MIN_TIMESTAMP = 0
MAX_TIMESTAMP = 9_214_646_399_999
EARLIEST, LATEST = (np.datetime64(ms, "ms") for ms in (MIN_TIMESTAMP, MAX_TIMESTAMP))


@dataclass(frozen=True, slots=True)
class Schema:
    """An ordered set of fields that one row of a message or request has.

    Parameters
    ----------
    name : str
        Noun in CamelCase, as it appears in OpenAPI.
    meaning : str
        One sentence.
    fields : tuple of Field
        CSV without a header has these in this order (only those with `column` set).
    families : tuple of Family
        More fields, which a row may have. A batch has columns of those that its rows have.

    Attributes
    ----------
    names : tuple of str
        Names of all fields, in order.
    required : tuple of Field
        The fields every row must have.
    """

    name: str
    meaning: str
    fields: tuple[Field, ...]
    families: tuple[Family, ...] = ()
    names: tuple[str, ...] = derived(init=False, repr=False, compare=False)
    required: tuple[Field, ...] = derived(init=False, repr=False, compare=False)
    _limits: Mapping[str, tuple[float, float]] = derived(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = [f for f in self.fields if f.kind not in (Kind.TEXT, Kind.TIMESTAMP)]
        limits = {
            f.name: (
                -LARGEST if f.minimum is None else f.minimum,
                LARGEST if f.maximum is None else f.maximum,
            )
            for f in numbers
        }
        object.__setattr__(self, "names", tuple(f.name for f in self.fields))
        object.__setattr__(self, "required", tuple(f for f in self.fields if f.required))
        object.__setattr__(self, "_limits", limits)

    @property
    def csv_fields(self) -> tuple[Field, ...]:
        """The fields of a CSV row without a header, in order."""
        return tuple(field for field in self.fields if field.column)

    def field(self, name: str) -> Field:
        """Return the field `name`; KeyError if there is none."""
        for known in self.fields:
            if known.name == name:
                return known
        found = self._of_family(name)
        if found is None:
            raise KeyError(name)
        return found

    def knows(self, name: str) -> bool:
        """Whether a row may have a field of this name."""
        return name in self.names or self._of_family(name) is not None

    def _of_family(self, name: str) -> Field | None:
        return next((found for family in self.families if (found := family.field(name)) is not None), None)

    def more(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of some names that are of a family, in the order of the families.

        Raises
        ------
        PayloadInvalid
            There are more than one body may have.
        """
        if not self.families:
            return ()
        found = self.more_unbounded(names)
        if len(found) > MOST_OF_FAMILIES:
            got = f"{len(found)} of {', '.join(family.shown for family in self.families)}"
            raise PayloadInvalid.of("fields", got, f"{MOST_OF_FAMILIES} in one body")
        return found

    def more_unbounded(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of some names that are of a family, however many: of several bodies together."""
        others = {name for name in names if name not in self.names}
        places = {
            name: (place, len(name), name)
            for place, family in enumerate(self.families)
            for name in others
            if family.field(name) is not None
        }
        return tuple(sorted(places, key=places.__getitem__))

    def by_header(self) -> dict[str, Field]:
        """Return fields by every header a file may use for them: the name, and the file's own column."""
        headers = {field.name: field for field in self.fields}
        return headers | {field.column: field for field in self.fields if field.column}

    def unknown(self, row: int, name: str, got: Any) -> Rejection:
        """Return the rejection of a field that is not in the schema; a file header gets a hint."""
        known = ", ".join([*self.names, *(family.shown for family in self.families)])
        hint = next((f.name for f in self.fields if f.column == name), None)
        allowed = f"{hint} (that is {name} in full)" if hint else f"only {known}"
        return Rejection(row, "unknown_field", name[:SHORTEST], shorten(got), allowed)

    def check(self, columns: Mapping[str, NDArray[Any]], n: int, refusals: Refusals | None = None) -> Batch:
        """Validate columns that were read by `kappawatt.columns.codec` and return them as a Batch.

        Parameters
        ----------
        columns : mapping of str to ndarray of shape (n,)
            Number and integer fields as float64 with NaN where nothing was read; timestamps as
            datetime64 in the field's `finest` unit; text as object. Fields may be absent.
        n : int
            Number of rows.
        refusals : Refusals, optional
            What reading has refused already; those rows and fields are not reported twice.
        """
        if not refusals and self._all_good(columns, n):
            whole = {f.name: columns[f.name] if f.name in columns else nothing(f, n) for f in self.fields}
            return Batch(whole, np.ones(n, dtype=np.bool_))
        found = refusals
        complete: dict[str, NDArray[Any]] = {}
        for field in (*self.fields, *map(self.field, self.more_unbounded(columns))):
            column = columns.get(field.name)
            if column is None:
                column = nothing(field, n)
            complete[field.name] = column
            for code, bad in _faults(field, column):
                if found is None:
                    found = self.refusals(n)
                found.refuse_all(bad, code, field.name, column, field.allowed)
        if not found:
            return Batch(complete, np.ones(n, dtype=np.bool_))
        listed, unlisted = found.listed()
        return Batch(complete, ~found.rows, listed, unlisted)

    def refusals(self, n: int, listed: int | None = None) -> Refusals:
        """Return what takes the refusals of n rows, and keeps so many of them with their reasons (None: all)."""
        return Refusals(n, self.names, listed)

    def plain_row(self, row: Mapping[str, Any]) -> Batch | None:
        """Return one row as a batch if it is what comes all day: the required fields, numbers in range, no more.

        Plain Python: for a single row NumPy's calls cost ten times the comparisons.
        """
        if len(row) != len(self.required):
            return None
        values = []
        for f in self.required:
            value = row.get(f.name)
            if type(value) is not float and type(value) is not int:
                return None
            low, high = self._limits.get(f.name, NO_NUMBER)
            if not low <= value <= high:
                return None
            values.append((value,))
        matrix = np.array(values, dtype=np.float64)
        columns = {f.name: column for f, column in zip(self.required, matrix, strict=True)}
        for f in self.fields:
            if not f.required:
                columns[f.name] = nothing(f, 1)
        return Batch(columns, np.ones(1, dtype=np.bool_))

    def _all_good(self, columns: Mapping[str, NDArray[Any]], n: int) -> bool:
        """Whether all columns are numbers in range and none that is required is absent; one look at all of them."""
        if not columns.keys() <= self._limits.keys() or any(f.name not in columns for f in self.required):
            return False
        low, high = np.array([self._limits[name] for name in columns]).T.reshape(2, -1, 1)
        values = np.array(list(columns.values()))
        return bool(((values >= low) & (values <= high)).all())

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of one row."""
        examples = {f.name: f.example for f in self.fields if f.example is not None}
        return {
            "title": self.name,
            "description": self.meaning,
            "type": "object",
            "properties": {field.name: field.json_schema() for field in self.fields},
            **self._patterns(lambda schema: schema),
            "required": [field.name for field in self.required],
            "additionalProperties": False,
        } | ({"examples": [examples]} if examples else {})

    def columns_json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the same rows as columns."""
        return {
            "title": f"{self.name}Columns",
            "description": f"{self.meaning} As columns of equal length.",
            "type": "object",
            "properties": {f.name: _list_of(f.json_schema()) for f in self.fields},
            **self._patterns(_list_of),
            "required": [field.name for field in self.required],
            "additionalProperties": False,
        }

    def _patterns(self, shape: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        if not self.families:
            return {}
        own = {family.pattern: shape(replace(family.like, required=False).json_schema()) for family in self.families}
        return {"patternProperties": own}

    def markdown_table(self) -> str:
        """Return the fields as a Markdown table for docs."""
        lines = ["| field | unit | allowed | in files | meaning |", "| --- | --- | --- | --- | --- |"]
        for f in self.fields:
            need = "" if f.required else " (optional)"
            lines.append(f"| `{f.name}`{need} | {f.unit} | {f.allowed} | {f.column or ''} | {f.meaning} |")
        for family in self.families:
            f, names = family.like, family.shown.replace(", ", "`, `").replace(" to ", "` to `")
            lines.append(f"| `{names}` (optional) | {f.unit} | {f.allowed} | the same | {f.meaning} |")
        return "\n".join(lines)


def _list_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


@lru_cache(maxsize=8)
def _nothing_for_one(kind: Kind, finest: str) -> NDArray[Any]:
    column = _missing(kind, finest, 1)
    column.setflags(write=False)
    return column


def nothing(field: Field, n: int) -> NDArray[Any]:
    """Return a column of n missing values; not to be written to."""
    return _nothing_for_one(field.kind, field.finest) if n == 1 else _missing(field.kind, field.finest, n)


def _missing(kind: Kind, finest: str, n: int) -> NDArray[Any]:
    """One missing value, seen n times: a field that nobody uses takes no memory."""
    if kind is Kind.TIMESTAMP:
        return np.broadcast_to(np.array("NaT", f"datetime64[{finest}]"), n)
    if kind is Kind.TEXT:
        return np.broadcast_to(np.array(None, object), n)
    return np.broadcast_to(np.array(np.nan), n)


def _faults(field: Field, column: NDArray[Any]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return (code, mask) for each way values of this field are wrong, none if all are right."""
    if field.kind is Kind.TEXT:
        missing = np.array([value is None for value in column], dtype=np.bool_)
        return [("missing_field", missing)] if field.required and missing.any() else []
    if field.kind is Kind.TIMESTAMP:
        missing = np.isnat(column)
        faults = [("missing_field", missing)] if field.required and missing.any() else []
        if missing.all():
            return faults
        outside = ~missing & ((column < EARLIEST) | (column > LATEST))
        return [*faults, ("out_of_range", outside)] if outside.any() else faults
    low, high = field.limits
    good = (column >= low) & (column <= high) & np.isfinite(column)
    if good.all():
        return []
    faults = []
    missing = np.isnan(column)
    if missing.any():
        if field.required:
            faults.append(("missing_field", missing))
        good = good | missing
    infinite = np.isinf(column)
    if infinite.any():
        faults.append(("not_finite", infinite))
        good = good | infinite
    if not good.all():
        faults.append(("out_of_range", ~good))
    return faults
