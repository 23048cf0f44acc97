"""Which columns of a table are known ahead of the load: weather by its name, anything else as a person names it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kappawatt.columns.schema import Field
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Table
from kappawatt.datasets.series import FORECAST
from kappawatt.errors import PayloadInvalid
from kappawatt.streams import load

__all__ = ["covariate_columns", "covariate_field"]

WORD_TEMPERATURE = re.compile(r"(?:(?:air_?)?temperature(?:_?c)?|temp_c)(_[1-9][0-9]?)?(_forecast)?", re.IGNORECASE)
OWN = "covariate"
MOST_NAMED = 8


def covariate_columns(table: Table, options: Options, numbers: Sequence[int]) -> dict[int, str]:
    """Return the field that each column of numbers fills, by place: `temperature_2`, `covariate_1_forecast`.

    Parameters
    ----------
    table : Table
    options : Options
        Columns it names become `covariate_1`, `covariate_2` and so on, in the order in which it names them; beside each
        may stand one of the same name and `_forecast`.
    numbers : sequence of int
        Places of the columns that hold numbers.

    Raises
    ------
    PayloadInvalid
        A named column is not there, or holds no numbers.
    """
    header = table.header
    found = {place: name for place in numbers if (name := _by_name(header[place]))}
    used = {name.removesuffix(FORECAST) for name in found.values()}
    free = (name for i in range(1, 100) if (name := f"{OWN}_{i}") not in used)
    for wanted in options.covariate_column:
        place = table.place(wanted)
        if place is None or place not in numbers:
            allowed = ", ".join(header[place] for place in numbers[:MOST_NAMED])
            raise PayloadInvalid.of("--covariate-column", repr(wanted[:80]), f"a column of numbers: {allowed}")
        if place in found:
            continue
        found[place] = next(free)
        forecast = table.place(wanted + FORECAST)
        if forecast is not None and forecast in numbers:
            found[forecast] = found[place] + FORECAST
    return found


def covariate_field(name: str) -> Field | None:
    """Return the field that a covariate fills, measured or forecast; None if it is none of the load stream's."""
    stem = name.removesuffix(FORECAST)
    if stem == load.TEMPERATURE.name:
        return load.TEMPERATURE
    return next((field for family in load.WEATHER if (field := family.field(stem)) is not None), None)


def _by_name(column: str) -> str:
    """The field that a column's name says; "" if it says none."""
    match = WORD_TEMPERATURE.fullmatch(column)
    name = f"temperature{match[1] or ''}{match[2] or ''}".lower() if match else column.strip().lower()
    return name if covariate_field(name) is not None else ""
