"""What a person says of a file that it does not say itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from kappawatt.datasets.reading.units import UNITS, unit_named
from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import zone_named

__all__ = ["EPOCHS", "NOTHING_SAID", "OPTIONS", "Options", "flag", "zone_at"]

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": " "}
THOUSANDS = (",", ".", " ", "'")
FIXED = re.compile(r"(?:UTC|GMT) ?([+-])([0-9]{1,2})(?::?([0-9]{2}))?", re.IGNORECASE)
BETWEEN_HOURS = {330: "Asia/Kolkata", 345: "Asia/Kathmandu", 390: "Asia/Yangon", 570: "Australia/Darwin"}  # [min]
LENGTH = re.compile(r"([1-9][0-9]{0,4}) ?(min|m|h|s)?")
SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, None: 60}
YES, NO = ("true", "yes", "1", "day"), ("false", "no", "0", "month")
MOST_COLUMNS = 1_000
EPOCHS = {"s": "seconds", "ms": "milliseconds"}


@dataclass(frozen=True, slots=True)
class Options:
    """What is said of a file beside it; empty is what the file tells.

    Parameters
    ----------
    key : str
        Name of the series.
    time_column : str
    value_column : tuple of str
        The measured columns.
    covariate_column : tuple of str
        Columns of what is known ahead and may tell of the load.
    labels : str
        `start` or `end` of the interval that a row's time stands for.
    sep, decimal, thousands : str
        Characters between cells, before decimals, and between groups of three digits.
    day_first : bool or None
        Whether 01/02/2024 is the first of February.
    unit : str
        Of the measured columns, one of `units.UNITS`.
    time_zone : str
        IANA name of the clock that times without an offset follow, and that days follow.
    clock : str
        IANA name of the clock of the times, if days follow another; or `time_zone` once more, for a file whose labels
        show no change of its clock and follow it all the same.
    resample : int
        Length of the intervals wanted [s]: means of power, sums of energy.
    register : bool
        Whether values are those of a counter that only rises, whose differences are wanted.
    sheet : tuple of str
        Sheets of a workbook to read, together.
    epoch : str
        `s` or `ms` that a column of times counts since 1970.
    """

    key: str = ""
    time_column: str = ""
    value_column: tuple[str, ...] = ()
    covariate_column: tuple[str, ...] = ()
    labels: str = ""
    sep: str = ""
    decimal: str = ""
    thousands: str = ""
    day_first: bool | None = None
    unit: str = ""
    time_zone: str = ""
    clock: str = ""
    resample: int = 0
    register: bool = False
    sheet: tuple[str, ...] = ()
    epoch: str = ""

    @classmethod
    def of(cls, said: Mapping[str, object]) -> Options:
        """Return the options of texts by name, as a command line or the query of an address has them.

        Raises
        ------
        SettingInvalid
            An option is unknown or has a value that is not allowed; the message names both.
        """
        given = {name: value for name, value in said.items() if value not in (None, "", ())}
        for name in given:
            if name not in OPTIONS:
                raise SettingInvalid.of(name[:80], "an unknown option", ", ".join(OPTIONS))
        return cls(**{name: _READ[name](name, value) for name, value in given.items()}).checked()

    def checked(self) -> Options:
        """Return the options if they fit each other; SettingInvalid names the two that do not."""
        for one, other in (("decimal", "thousands"), ("decimal", "sep"), ("thousands", "sep")):
            mark = getattr(self, one)
            if mark and mark == getattr(self, other):
                raise SettingInvalid.of(flag(one), repr(mark), f"another character than {flag(other)}")
        return self

    def __bool__(self) -> bool:
        return self != NOTHING_SAID


def flag(name: str) -> str:
    """Return an option's name on the command line: `--time-zone`."""
    return "--" + name.replace("_", "-")


def _text(name: str, value: object) -> str:
    return str(value)


def _texts(name: str, value: object) -> tuple[str, ...]:
    found = tuple(value) if isinstance(value, (tuple, list)) else (str(value),)
    if len(found) > MOST_COLUMNS:
        raise SettingInvalid.of(flag(name), f"{len(found)} columns", f"up to {MOST_COLUMNS}")
    return found


def _labels(name: str, value: object) -> str:
    if value not in ("start", "end"):
        raise SettingInvalid.of(flag(name), repr(str(value)[:20]), "start or end")
    return str(value)


def _separator(name: str, value: object) -> str:
    found = SEPARATORS.get(str(value).lower(), str(value))
    if len(found) != 1 or found.isalnum() or found in '"\r\n':
        raise SettingInvalid.of(flag(name), repr(str(value)[:20]), f"one character, or {', '.join(SEPARATORS)}")
    return found


def _decimal(name: str, value: object) -> str:
    found = SEPARATORS.get(str(value).lower(), str(value))
    if found not in (".", ","):
        raise SettingInvalid.of(flag(name), repr(str(value)[:20]), "'.' or ','")
    return found


def _thousands(name: str, value: object) -> str:
    found = SEPARATORS.get(str(value).lower(), str(value))
    if found not in THOUSANDS:
        raise SettingInvalid.of(flag(name), repr(str(value)[:20]), " or ".join(map(repr, THOUSANDS)))
    return found


def _truth(name: str, value: object) -> bool:
    word = str(value).lower()
    if word not in (*YES, *NO):
        raise SettingInvalid.of(flag(name), repr(word[:20]), "true or false")
    return word in YES


def _unit(name: str, value: object) -> str:
    found = unit_named(str(value))
    if found is None:
        raise SettingInvalid.of(flag(name), repr(str(value)[:20]), ", ".join(UNITS))
    return found.name


def _zone(name: str, value: object) -> str:
    """A zone by its IANA name, or a clock that is never changed by its offset: `UTC+01:00`."""
    match = FIXED.fullmatch(str(value).strip())
    if match is None:
        return zone_named(str(value))
    found = zone_at((60 * int(match[2]) + int(match[3] or 0)) * (-1 if match[1] == "-" else 1))
    if not found:
        raise SettingInvalid.of(flag(name), repr(str(value)[:20]), "an IANA name, or whole hours such as UTC+01:00")
    return found


def _epoch(name: str, value: object) -> str:
    if value not in EPOCHS:
        raise SettingInvalid.of(flag(name), repr(str(value)[:20]), " or ".join(EPOCHS))
    return str(value)


def zone_at(minutes: int) -> str:
    """Return the IANA name of a clock that is always at one offset from UTC [min]; "" if there is none.

    Examples
    --------
    >>> zone_at(60), zone_at(0), zone_at(330), zone_at(95)
    ('Etc/GMT-1', 'UTC', 'Asia/Kolkata', '')
    """
    hours, rest = divmod(abs(minutes), 60)
    if rest or not minutes:
        return BETWEEN_HOURS.get(minutes, "") if minutes else "UTC"
    return f"Etc/GMT{'-' if minutes > 0 else '+'}{hours}" if -12 <= minutes // 60 <= 14 else ""


def _length(name: str, value: object) -> int:
    match = LENGTH.fullmatch(str(value).strip().lower())
    found = int(match[1]) * SECONDS[match[2]] if match else 0
    if not found or 86_400 % found:
        raise SettingInvalid.of(
            flag(name), repr(str(value)[:20]), "minutes that part a day, such as 15min, 30min or 1h"
        )
    return found


_READ: dict[str, Callable[[str, object], Any]] = {
    "key": _text,
    "time_column": _text,
    "value_column": _texts,
    "covariate_column": _texts,
    "labels": _labels,
    "sep": _separator,
    "decimal": _decimal,
    "thousands": _thousands,
    "day_first": _truth,
    "unit": _unit,
    "time_zone": _zone,
    "clock": _zone,
    "resample": _length,
    "register": _truth,
    "sheet": _texts,
    "epoch": _epoch,
}
OPTIONS = tuple(field.name for field in fields(Options))
NOTHING_SAID = Options()
