"""Texts of a column of times -> wall-clock times or instants, and in which order day and month stand.

Each different text is read once. A date written 01/02/2024 is ambiguous; what settles it is, in this order, what a
person says, a day above 12 somewhere in the column, days that follow one another in one order and leave holes in the
other, and the layout's own habit. A column that settles nothing is refused, and so are the first days of one month
where no layout is known: read the other way they are one day of each month, which files of meters have as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.reading.table import Fact
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import Times

__all__ = ["ABBREVIATIONS", "FORMS", "MONTHS", "Moments", "is_time", "read_clock", "read_times", "split_span"]

NOTHING = np.datetime64("NaT", "ms")
NO_OFFSET = np.timedelta64("NaT", "ms")
MONTHS = {
    name: i
    for i, names in enumerate(
        (
            "jan january januar janv janvier ene enero", "feb february februar fev fevr fevrier febrero",
            "mar march marz maerz mars marzo", "apr april avr avril abr abril", "may mai mayo",
            "jun june juni juin junio", "jul july juli juil juillet julio", "aug august aout ago agosto",
            "sep sept september septembre septiembre", "oct october okt oktober octobre octubre",
            "nov november novembre noviembre", "dec december dez dezember decembre dic diciembre",
        ), 1)
    for name in names.split()
}  # fmt: skip
SECOND = r"(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
CLOCK = rf"(?P<hour>\d{{1,2}}):(?P<minute>\d{{2}}){SECOND}(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?"
OFFSET = r"\s*(?P<offset>Z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2}|[A-Z]{2,4}T|MES?Z)?"
YEAR_FIRST = re.compile(r"(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})")
YEAR_LAST = re.compile(r"(?P<one>\d{1,2})(?P<mark>[-/.])(?P<other>\d{1,2})(?P=mark)(?P<year>\d{4}|\d{2})")
DAY_NAME = re.compile(r"(?P<day>\d{1,2})[-/ .]+(?P<name>[^\W\d_]{3,10})\.?[-/ ,.]+(?P<year>\d{4}|\d{2})")
NAME_DAY = re.compile(r"(?P<name>[^\W\d_]{3,10})\.? +(?P<day>\d{1,2}),? +(?P<year>\d{4})")
ONLY_CLOCK = re.compile(CLOCK)
CLOCK_OFFSET = re.compile(CLOCK + OFFSET)
BETWEEN = re.compile(r"(?<=\d)(?: *T *| *, *| +)$")
SPAN = re.compile(r"\s+-\s+|\s+to\s+| ?– ?")
DIGITS = re.compile(r"\d{5,19}(?:\.\d+)?")
DIGITS_OF = {
    5: "a count of days", 8: "a day run together", 10: "seconds since 1970", 12: "a day and time run together",
    13: "milliseconds since 1970", 14: "a day and time run together", 16: "microseconds since 1970",
    19: "nanoseconds since 1970",
}  # fmt: skip
EPOCH_DIGITS = {10: "s", 13: "ms"}
LONGEST = 80
FORMS = (
    "2024-01-31 23:00, 2024-01-31T22:00:00Z, 31.01.2024 23:00, 31/01/2024 11:00 PM or 31 Jan 2024 23:00, or the day and"
    " the time of the day in two columns"
)
"""Of times that are read, for messages."""
MOST_OFFSETS = 4  # of one column: winter, summer, and both of another time
ABBREVIATIONS = {
    "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
    "CET": 1, "CEST": 2, "MEZ": 1, "MESZ": 2, "BST": 1, "WET": 0, "WEST": 1, "EET": 2, "EEST": 3, "AEST": 10,
    "AEDT": 11, "NZST": 12, "NZDT": 13, "IST": None,
}  # fmt: skip
ASCII_OF = str.maketrans("äáàâéèêëïîíóôöúûü", "aaaaeeeeiiiooouuu")


class Order(Enum):
    """In which order a date has its parts, where the text does not say."""

    DAY_FIRST = "day first"
    MONTH_FIRST = "month first"


@dataclass(frozen=True, slots=True)
class Moments:
    """What a column of times says.

    Parameters
    ----------
    wall : ndarray of datetime64[ms], shape (n,)
        As the text has it, without its offset; NaT where it cannot be read.
    offset : ndarray of timedelta64[ms], shape (n,)
        Its offset from UTC; NaT where the text has none.
    bad : tuple of (int, str)
        Positions that cannot be read, and what would be.
    has_clock : bool
        Whether any text has a time of the day.
    words : tuple of str
        Abbreviations of clocks that texts have for an offset, such as `CET`.
    facts : tuple of Fact
    """

    wall: Times
    offset: NDArray[np.timedelta64]
    bad: tuple[tuple[int, str], ...] = ()
    has_clock: bool = True
    words: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = field(default=())

    @property
    def instants(self) -> Times:
        """UTC, where the text has an offset; else NaT."""
        found: Times = self.wall - self.offset
        return found


def is_time(text: str) -> bool:
    """Whether a text is a date, with or without a time of the day, or a span of two.

    Examples
    --------
    >>> is_time("31.12.2024 23:00"), is_time("2024"), is_time("01.01.2023 00:00 - 01.01.2023 01:00")
    (True, False, True)
    """
    return len(text) <= 2 * LONGEST and text[:1].isalnum() and _is_one(split_span(text)[0])


def _is_one(text: str) -> bool:
    date, clock = _parts(text)
    return _date(date) is not None and (not clock or CLOCK_OFFSET.fullmatch(clock) is not None)


def split_span(text: str) -> tuple[str, str]:
    """Return begin and end of `A - B`; the text and nothing if it is one time."""
    parts = SPAN.split(text, maxsplit=1)
    return (parts[0], parts[1]) if len(parts) == 2 and _is_one(parts[1]) else (text, "")


def _parts(text: str) -> tuple[str, str]:
    """A text's date, and its time of the day with its offset; texts have few of either, however many they are."""
    text = text.strip().strip("'").strip()
    place = text.find(":")
    if place < 0:
        return text, ""
    while place > 0 and text[place - 1].isdigit():
        place -= 1
    date = BETWEEN.sub("", text[:place])
    return (date, text[place:]) if len(date) < place else (text, "")  # nothing between them: it is no time


def _date(text: str) -> re.Match[str] | None:
    if len(text) > LONGEST:
        return None
    for pattern in (YEAR_FIRST, YEAR_LAST, DAY_NAME, NAME_DAY):
        found = pattern.fullmatch(text)
        if found and ("name" not in found.groupdict() or _month(found["name"])):
            return found
    return None


def _month(name: str) -> int:
    return MONTHS.get(name.lower().translate(ASCII_OF), 0)


def read_times(
    texts: Sequence[str],
    name: str,
    *,
    day_first: bool | None = None,
    habit: bool | None = None,
    in_a_row: bool = False,
) -> Moments:
    """Read a column of times.

    Parameters
    ----------
    texts : sequence of str
    name : str
        Of the column, for messages.
    day_first : bool or None
        What a person says of dates such as 01/02/2024.
    habit : bool or None
        What the layout does, if nothing else tells.
    in_a_row : bool
        Whether the layout is of days that follow one another, so that those of a month are not one of each month.

    Raises
    ------
    PayloadInvalid
        The texts are counts of seconds or days run together, or nothing says which of day and month comes first.

    Examples
    --------
    >>> read_times(["31/01/2024 23:00"], "time").wall.astype(str).tolist()
    ['2024-01-31T23:00:00.000']
    """
    codes: dict[str, int] = {}
    code = np.fromiter((codes.setdefault(text, len(codes)) for text in texts), dtype=np.intp, count=len(texts))
    parts = [_parts(text) for text in codes]
    dates = {date: _date(date) for date in dict.fromkeys(date for date, _ in parts)}  # few, of however many texts
    clocks = {clock: _clock(clock) for clock in dict.fromkeys(clock for _, clock in parts)}
    _refuse_digits(
        [text for text, (date, _) in zip(codes, parts, strict=True) if dates[date] is None], len(codes), name
    )
    order, fact = _order([match for match in dates.values() if match is not None], name, day_first, habit, in_a_row)
    days = {date: NOTHING if match is None else _day(match, order) for date, match in dates.items()}
    wall = np.array([days[date] for date, _ in parts], dtype="datetime64[ms]")
    wall = wall + np.array([clocks[clock][0] for _, clock in parts], dtype="timedelta64[ms]")
    offset = np.array([clocks[clock][1] for _, clock in parts], dtype="timedelta64[ms]")
    why = {
        i: _why_not(text, dates[parts[i][0]], parts[i][1], order)
        for i, (text, gone) in enumerate(zip(codes, np.isnat(wall).tolist(), strict=True))
        if gone
    }
    bad = tuple((i, why[k]) for i, k in enumerate(code.tolist()) if k in why) if why else ()
    if len({clocks[clock][1] for clock in clocks if not np.isnat(clocks[clock][1])}) > MOST_OFFSETS:
        allowed = "a time, with one offset or two; a range such as 00:00-01:00 needs blanks around its hyphen"
        raise PayloadInvalid.of(name, f"{next(iter(codes))!r}, with an offset that changes from row to row", allowed)
    words = tuple(dict.fromkeys(word for clock in clocks if (word := _word(clock))))
    return Moments(wall[code], offset[code], bad, any(clocks), words, (fact,) if fact else ())


def _why_not(text: str, date: re.Match[str] | None, clock: str, order: Order) -> str:
    """What would have been read."""
    if date is None or (clock and not CLOCK_OFFSET.fullmatch(clock)):
        return "a date and time, such as 2024-01-31 23:00"
    match = CLOCK_OFFSET.fullmatch(clock) if clock else None
    if match is not None and match["offset"] and _offset(match["offset"]) is None:
        return f"an offset such as +01:00 instead of {match['offset']!r}"
    return "a day and time that there are" + (f" ({order.value})" if date.re is YEAR_LAST else "")


def _day(match: re.Match[str], order: Order) -> np.datetime64:
    """The day of a date; NaT if there is none such."""
    parts = match.groupdict()
    year = int(parts["year"]) + (2000 if len(parts["year"]) == 2 else 0)
    if "one" in parts:
        one, other = int(parts["one"]), int(parts["other"])
        is_day_first = parts["mark"] == "." or order is Order.DAY_FIRST
        month, day = (other, one) if is_day_first else (one, other)
    else:
        month = _month(parts["name"]) if "name" in parts else int(parts["month"])
        day = int(parts["day"])
    try:
        return np.datetime64(f"{year:04}-{month:02}-{day:02}", "ms")
    except ValueError:
        return NOTHING


def _clock(text: str) -> tuple[np.timedelta64, np.timedelta64]:
    """Time of the day and offset of a text; NaT for an offset there is none of, and for both if it cannot be read."""
    if not text:
        return np.timedelta64(0, "ms"), NO_OFFSET
    match = CLOCK_OFFSET.fullmatch(text)
    seconds = None if match is None else _seconds(match.groupdict())
    if match is None or seconds is None:
        return NO_OFFSET, NO_OFFSET
    offset = _offset(match["offset"]) if match["offset"] else NO_OFFSET
    return (NO_OFFSET, NO_OFFSET) if offset is None else (np.timedelta64(round(seconds * 1000), "ms"), offset)


def _word(clock: str) -> str:
    """The abbreviation of a clock that a time of the day ends with; "" if it has none."""
    end = clock[-4:].lstrip(" 0123456789:.")
    return end if end in ABBREVIATIONS else ""


def _seconds(parts: dict[str, str]) -> float | None:
    """Seconds since midnight of a clock's parts; None if there is no such time. 24:00 is the day's end."""
    hour, minute, second = int(parts["hour"]), int(parts["minute"]), int(parts["second"] or 0)
    if parts["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if parts["half"] in "pP" else 0)
    if minute > 59 or second > 59 or hour > 24 or (hour == 24 and minute + second > 0):
        return None
    return hour * 3600 + minute * 60 + second + float("0." + (parts["fraction"] or "0"))


def read_clock(text: str) -> int | None:
    """Return the seconds since midnight that a text such as `01:15` or `1:15 PM` says; None if it is none.

    Examples
    --------
    >>> read_clock("24:00"), read_clock("1:15 PM"), read_clock("25:00")
    (86400, 47700, None)
    """
    match = ONLY_CLOCK.fullmatch(text.strip())
    seconds = _seconds(match.groupdict()) if match else None
    return None if seconds is None else int(seconds)


def _offset(word: str) -> np.timedelta64 | None:
    if word in ("Z", "UTC", "GMT"):
        return np.timedelta64(0, "ms")
    if word[0] in "+-":
        digits = word[1:].replace(":", "").ljust(4, "0")
        minutes = int(digits[:2]) * 60 + int(digits[2:])
        if minutes > 14 * 60 or minutes % 60 not in (0, 30, 45) or (word[0] == "-" and minutes == 45):
            return None
        return np.timedelta64((-minutes if word[0] == "-" else minutes) * 60_000, "ms")
    hours = ABBREVIATIONS.get(word)
    return None if hours is None else np.timedelta64(hours * 3_600_000, "ms")


def _refuse_digits(unreadable: Sequence[str], n: int, name: str) -> None:
    """Refuse a column that counts seconds, or writes a day as one number: nobody knows what it means."""
    digits = [text.strip() for text in unreadable if DIGITS.fullmatch(text.strip())]
    if not digits or 2 * len(digits) < n:
        return
    size = len(digits[0].partition(".")[0])
    looks = DIGITS_OF.get(size, "a number")
    allowed = "a date and time, such as 2024-01-31 23:00 or 2024-01-31T22:00:00Z"
    if size in EPOCH_DIGITS:
        allowed += f"; --epoch {EPOCH_DIGITS[size]}, if it is so"
    raise PayloadInvalid.of(name or "time", f"{digits[0]!r}, which looks like {looks}", allowed)


def _order(
    matches: Sequence[re.Match[str]], name: str, said: bool | None, habit: bool | None, in_a_row: bool
) -> tuple[Order, Fact | None]:
    """Whether the day stands first, and what told it; no fact where no text is ambiguous."""
    last = [m for m in matches if m.re is YEAR_LAST]
    short = next((m.group() for m in last if len(m["year"]) == 2), "")
    if short and said is None and habit is None:
        raise PayloadInvalid.of(
            name, f"{short!r}, a year of two digits", "one of four digits, or --day-first or --month-first"
        )
    dotted = next((m.group() for m in last if m["mark"] == "."), "")
    if dotted and said is False:
        raise PayloadInvalid.of(
            name, f"{dotted!r}, day first as dates with points are", "months first, as --month-first says"
        )
    open_ = [m for m in last if m["mark"] != "."]
    if not open_:
        return Order.DAY_FIRST, None
    days = np.array([(int(m["one"]), int(m["other"])) for m in open_])
    days = days[(days <= 12).any(axis=1)]  # 13/13/2024 tells nothing
    above = days.max(axis=0, initial=0) > 12
    if above.all():
        first = next(m.group() for m in open_ if int(m["one"]) > 12)
        other = next(m.group() for m in open_ if int(m["other"]) > 12)
        raise PayloadInvalid.of(name, f"{first!r} beside {other!r}", "days first or months first in the whole column")
    if above.any():
        order = Order.DAY_FIRST if above[0] else Order.MONTH_FIRST
        text = next(m.group() for m in open_ if int(m["one" if above[0] else "other"]) > 12)
        if said is not None and said is not (order is Order.DAY_FIRST):
            wanted = Order.DAY_FIRST if said else Order.MONTH_FIRST
            raise PayloadInvalid.of(name, f"{text!r}, {order.value}", f"{wanted.value}, as --day-first says")
        return order, Fact("dates", order.value, f"{text} can be read no other way")
    if said is not None:
        order = Order.DAY_FIRST if said else Order.MONTH_FIRST
        return order, Fact("dates", order.value, "--day-first")
    if not len(days):
        return Order.DAY_FIRST, None
    years = np.array([int(m["year"]) for m in open_ if int(m["one"]) <= 12 or int(m["other"]) <= 12])
    holes = [_holes(years, days[:, 1 - i], days[:, i]) for i in (0, 1)]
    is_mirrored = bool((days == days[0]).all(axis=0).any())  # days of a month, or one day of each month
    if holes[0] != holes[1] and (in_a_row or habit is not None or not is_mirrored):
        order = Order.DAY_FIRST if holes[0] < holes[1] else Order.MONTH_FIRST
        why = f"the days follow one another so; read the other way {max(holes)} days are left out between them"
        return order, Fact("dates", order.value, why)
    if habit is not None:
        order = Order.DAY_FIRST if habit else Order.MONTH_FIRST
        return order, Fact("dates", order.value, "the layout's habit")
    one, other = open_[0].group(), open_[-1].group()
    got = repr(one) + (f" to {other!r}, in which any number may be the month" if other != one else "")
    raise PayloadInvalid.of(name, got, "a date that tells day from month, or --day-first or --month-first")


def _holes(years: NDArray[np.int64], months: NDArray[np.int64], days: NDArray[np.int64]) -> int:
    """Days between the first and the last that are not there, if dates are read so."""
    if months.max() > 12:
        return 2**31
    years = np.where(years < 100, years + 2000, years)
    starts = (years - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (months - 1).astype("timedelta64[M]")
    dates = np.unique(starts.astype("datetime64[D]") + (days - 1).astype("timedelta64[D]"))
    return int((dates[-1] - dates[0]).astype(np.int64)) + 1 - len(dates)
