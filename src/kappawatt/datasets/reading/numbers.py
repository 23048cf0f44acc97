"""Texts of columns of numbers -> numbers: which character stands before decimals, and which between groups of three."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Column, Fact
from kappawatt.errors import PayloadInvalid

__all__ = ["UNKNOWN", "NumberFormat", "find_format", "is_number", "read_numbers"]

UNKNOWN = frozenset(
    [
        "", "-", "--", "n/e", "n/a", "n.a.", "n.a", "n.v.", "na", "nan", "null", "none", "#n/a", "#nv", "k.a.", "k. a.",
        "nil", "missing", "?", "*", ".",
    ]
)  # fmt: skip
"""What stands where there is no value, in small letters."""

SPACES = " \u00a0\u202f\u2009'’"
PLAIN = set("0123456789.+-eE \n")
NUMBER = re.compile(r"[+-]?[0-9.,'’ \u00a0\u202f\u2009]*[0-9][0-9.,'’ \u00a0\u202f\u2009]*(?:[eE][+-]?[0-9]{1,3})?")
DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
ONE_GROUP = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
MOST_ASKED = 200_000
LONGEST = 60


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How numbers are written.

    Parameters
    ----------
    decimal : str
        `.` or `,`.
    thousands : str
        Characters between groups of three digits; "" if there are none.
    facts : tuple of Fact
    """

    decimal: str = "."
    thousands: str = ""
    facts: tuple[Fact, ...] = ()


def is_number(text: str) -> bool:
    """Whether a text may be a number, with whatever marks.

    Examples
    --------
    >>> is_number("1.234,5"), is_number("-.5"), is_number("12:30")
    (True, True, False)
    """
    return len(text) <= LONGEST and NUMBER.fullmatch(text.strip()) is not None


def find_format(columns: Iterable[Column], separator: str, options: Options) -> NumberFormat:
    """Return how the numbers of these columns are written, all of them alike.

    Parameters
    ----------
    columns : iterable of Column
        Texts; columns that are numbers already say nothing.
    separator : str
        Between cells: where it is no comma, a comma is more often a decimal one.

    Raises
    ------
    PayloadInvalid
        The marks can be read in two ways, or contradict each other or what a person says.

    Examples
    --------
    >>> find_format([["46.990,9", "1.045,25"]], ";", Options()).thousands
    '.'
    """
    asked = [text.strip() for column in columns if isinstance(column, list) for text in islice(column, MOST_ASKED)]
    whole = [text for text in asked if text.isdigit()]
    marked = [text for text in asked if ("," in text or "." in text) and is_number(text)]
    spaces = "".join(mark for mark in SPACES if any(mark in text for text in asked if is_number(text)))
    found = _marks(marked, separator, options, whole)
    thousands = found.thousands + spaces
    if options.thousands and thousands and options.thousands not in thousands:
        example = next(text for text in asked if any(mark in text for mark in thousands))
        raise PayloadInvalid.of(
            "numbers", repr(example), f"groups parted by {options.thousands!r}, as --thousands says"
        )
    facts = found.facts
    if thousands:
        example = next((t for t in asked if is_number(t) and any(mark in t for mark in thousands)), "")
        facts = (*facts, Fact("thousands", thousands[0], example and f"as in {example}"))
    return NumberFormat(found.decimal, thousands, facts)


def _marks(texts: list[str], separator: str, options: Options, whole: list[str]) -> NumberFormat:
    """Which of comma and point is which; thousands here are one of the two, or nothing."""
    both = [text for text in texts if "," in text and "." in text]
    decimals = {max(text, key=lambda mark, t=text: t.rfind(mark) if mark in ".," else -1) for text in both}  # type: ignore[misc]
    if len(decimals) > 1:
        one, other = (next(t for t in both if t.rfind(d) > t.rfind("," if d == "." else ".")) for d in sorted(decimals))
        raise PayloadInvalid.of("numbers", f"{one!r} beside {other!r}", "one decimal mark in all of a file")
    if options.decimal:
        other = "," if options.decimal == "." else "."
        has_other = next((text for text in texts if other in text), "")
        if decimals and options.decimal not in decimals:
            raise PayloadInvalid.of("numbers", repr(both[0]), f"{options.decimal!r} before decimals, as --decimal says")
        wrong = next((text for text in texts if not _grouped(text, other, options.decimal)), "")
        if wrong:
            allowed = f"{options.decimal!r} before decimals, as --decimal says, and {other!r} between groups of three"
            raise PayloadInvalid.of("numbers", repr(wrong), allowed)
        return NumberFormat(
            options.decimal, other if has_other else "", (Fact("decimal", options.decimal, "--decimal"),)
        )
    if decimals:
        decimal = decimals.pop()
        why = f"as in {both[0]}"
    else:
        decimal, why = _only_mark(texts, separator, options, whole)
    other = "," if decimal == "." else "."
    used = [text for text in texts if other in text]
    wrong = next((text for text in used if not _grouped(text, other, decimal)), "")
    if wrong:
        raise PayloadInvalid.of("numbers", repr(wrong), f"{decimal!r} before decimals, {why}, or --decimal")
    return NumberFormat(decimal, other if used else "", (Fact("decimal", decimal, why),))


def _only_mark(texts: list[str], separator: str, options: Options, whole: list[str]) -> tuple[str, str]:
    """The decimal mark where no text has both marks, and what told it."""
    found = {mark: [text for text in texts if mark in text] for mark in ".,"}
    if options.thousands in (",", "."):
        return ("," if options.thousands == "." else "."), "--thousands"
    if found[","] and found["."]:
        repeated = [mark for mark in ",." if any(text.count(mark) > 1 for text in found[mark])]
        single = [m for m in ",." if not all(ONE_GROUP.fullmatch(t) for t in found[m])]
        if len(repeated) == 1:
            return ("." if repeated[0] == "," else ","), f"{repeated[0]!r} comes twice in a number"
        if len(single) == 1:
            return single[0], f"as in {next(t for t in found[single[0]] if not ONE_GROUP.fullmatch(t))}"
        raise PayloadInvalid.of("numbers", f"{found[','][0]!r} beside {found['.'][0]!r}", "one with --decimal")
    for mark, other in ((",", "."), (".", ",")):
        if not found[mark]:
            continue
        if any(text.count(mark) > 1 for text in found[mark]):
            return other, f"{mark!r} comes twice in a number"
        telling = next((text for text in found[mark] if not ONE_GROUP.fullmatch(text)), "")
        if telling:
            return mark, f"as in {telling}"
        if mark == "," or separator == ";" or whole:
            text = found[mark][0]
            got = f"{text!r} and the like, which may be {text.replace(mark, '')} or have a decimal {mark!r}"
            raise PayloadInvalid.of("numbers", got, "one with --decimal or --thousands")
        return mark, "as programs write numbers"
    return ("," if separator == ";" else "."), "" if not texts else "as programs write numbers"


def _grouped(text: str, thousands: str, decimal: str) -> bool:
    """Whether a number without decimals is parted into groups of three from its first to its last."""
    if thousands not in text:
        return text.count(decimal) < 2
    whole, _, fraction = text.lstrip("+-").partition(decimal)
    groups = whole.split(thousands)
    return (
        thousands not in fraction
        and decimal not in fraction
        and 1 <= len(groups[0]) <= 3
        and all(len(group) == 3 and group.isdigit() for group in groups[1:])
    )


def read_numbers(column: Column, written: NumberFormat) -> tuple[NDArray[np.float64], list[int]]:
    """Return a column's numbers and the positions of cells that hold none.

    Returns
    -------
    values : ndarray of shape (n,)
        NaN where there is none.
    bad : list of int
        Positions of cells that are neither a number nor one of `UNKNOWN`.

    Examples
    --------
    >>> values, bad = read_numbers(["1,5", "n/e", "x"], NumberFormat(","))
    >>> values.tolist(), bad
    ([1.5, nan, nan], [2])
    """
    if not isinstance(column, list):
        if column.dtype.kind == "M":
            return np.full(len(column), np.nan), np.flatnonzero(~np.isnat(column)).tolist()
        return np.asarray(column, dtype=np.float64), []
    joined = "\n".join(column)
    if not written.thousands and set(joined) <= PLAIN - {"."} | {written.decimal}:
        plain = column if written.decimal == "." else joined.replace(",", ".").split("\n")
        try:
            return np.array(plain, dtype=object).astype(np.float64), []
        except ValueError:
            pass  # a cell is empty, or is no number though its characters are a number's
    bad: list[int] = []
    return np.array([_number(text, i, written, bad) for i, text in enumerate(column)], dtype=np.float64), bad


def _number(text: str, place: int, written: NumberFormat, bad: list[int]) -> float:
    plain = text.strip()
    if written.thousands:
        for mark in written.thousands:
            if mark in plain:
                if not _grouped(plain, mark, written.decimal):
                    bad.append(place)
                    return float("nan")
                plain = plain.replace(mark, "")
    if written.decimal == ",":
        if "." in plain:
            plain = ""
            if text.strip().lower() not in UNKNOWN:
                bad.append(place)
            return float("nan")
        plain = plain.replace(",", ".")
    if len(plain) <= LONGEST and DECIMAL.fullmatch(plain):
        value = float(plain)
        if np.isfinite(value):
            return value
    elif text.strip().lower() in UNKNOWN:
        return float("nan")
    bad.append(place)
    return float("nan")
