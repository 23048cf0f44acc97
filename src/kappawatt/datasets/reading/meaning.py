"""What the columns of a table mean. Each publisher's layout says it of its own; `generic` finds it for the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Fact, Table

__all__ = ["SOMEBODYS_FORECAST", "Form", "Layout", "LeftOut", "Meaning", "TimeColumn", "Value"]

SOMEBODYS_FORECAST = "somebody's forecast"  # why a column is left out


class Form(Enum):
    """How a row says its time."""

    MOMENT = "a time"
    SPAN = "begin - end"
    DATE_CLOCK = "a date, and a time of the day beside it"
    DATE_HOUR = "a date, and the hour from 1 to 24 beside it"
    DATE_PERIOD = "a date, and the number of the interval in the local day beside it"


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """Where a row's time stands and how it is meant.

    Parameters
    ----------
    place : int
    form : Form
    beside : int or None
        Column of the time of the day, hour or number.
    labels : Labels or None
        None is told by the file.
    zone : str
        IANA name of the clock; "" is to be told, unless the texts have offsets.
    day_first : bool or None
        The layout's habit.
    step : int
        Length of an interval [s]; 0 is told by the file.
    longest_step : int
        Length of an interval [s] of files in which fewer rows tell a longer one; 0 if there is none.
    is_in_order : bool
        Whether the order of rows tells which of two with one label is earlier.
    end_place : int or None
        Column of the interval's end, beside one of its start.
    flag : int or None
        Column that says which hour it is where the clock shows one twice: `Y`, `DST`, or a zone such as `EST`.
    second_words : tuple of str
        What stands in it for the second hour; abbreviations of zones count by themselves.
    is_off_grid_noise : bool
        Whether rows between the intervals are the publisher's habit and no fault.
    words : tuple of str
        Abbreviations of the clock that the file has beside the table.
    said : str
        Where.
    """

    place: int
    form: Form = Form.MOMENT
    beside: int | None = None
    labels: Labels | None = None
    zone: str = ""
    day_first: bool | None = None
    step: int = 0
    longest_step: int = 0
    is_in_order: bool = True
    end_place: int | None = None
    flag: int | None = None
    second_words: tuple[str, ...] = ()
    is_off_grid_noise: bool = False
    words: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """A column of measurements.

    Parameters
    ----------
    place : int
    key : str
        Name of its series; "" is that of the row's key column, or the one given beside the file.
    unit : str
        One of `units.UNITS`; "" is not told. Of a covariate, `degF` where it is no degC.
    stream : str
        Whose measurement it is, by name; "" is told by the unit.
    field : str
        Of the stream's reading, where it is no measurement but a covariate such as `temperature`; `temperature_2` is
        another station's, and `temperature_forecast` what was forecast by noon of the day before.
    """

    place: int
    key: str = ""
    unit: str = ""
    stream: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A column that is not read, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the columns of a table mean.

    Parameters
    ----------
    layout : str
        What people call it.
    time : TimeColumn
    values : tuple of Value
    key : tuple of int
        Columns that name the series, joined by a hyphen.
    published : int or None
        Column that says when a value was published, by the same clock.
    left_out : tuple of LeftOut
    facts : tuple of Fact
    days_in : str
        IANA name of the clock that days follow, where times are instants or the labels' clock cannot be another; "" is
        told by a person, or is the labels' own.
    table : Table or None
        The table these places are of, where the layout made its own.
    takes_clock : bool
        Whether the layout itself has read times by the clock that a person names.
    """

    layout: str
    time: TimeColumn
    values: tuple[Value, ...]
    key: tuple[int, ...] = ()
    published: int | None = None
    left_out: tuple[LeftOut, ...] = ()
    facts: tuple[Fact, ...] = field(default=())
    days_in: str = ""
    table: Table | None = None
    takes_clock: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """One publisher's way to write a file.

    Parameters
    ----------
    name : str
        What people call it.
    looks : str
        Its header, for messages and docs.
    meaning : callable
        (table, options, name of the file) to what its columns mean; None if it is not of this layout.
    reshape : callable or None
        (first bytes, all bytes) to a table, of a file that is none; None from it means that it is another's.
    """

    name: str
    looks: str
    meaning: Callable[[Table, Options, str], Meaning | None]
    reshape: Callable[[bytes], Table | None] | None = None
