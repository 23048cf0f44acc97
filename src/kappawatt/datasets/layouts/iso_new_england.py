"""ISO New England's hourly system load, as ISO Express exports its reports.

Each row begins with a letter: C comments, H names and then units, D data, T the number of lines. An hour is labelled by
its end, 01 to 24, by the clock of New York: in spring there is no 03, in autumn the second hour that ends at 2 is 02X.
(https://www.iso-ne.com/isoexpress/web/reports/load-and-demand, Real-Time Hourly System Load Report)
"""

from __future__ import annotations

import csv
import io

import numpy as np

from kappawatt.datasets.layouts.rows import others
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Table
from kappawatt.datasets.series import Problem, Problems
from kappawatt.errors import PayloadInvalid

__all__ = ["ISO_NEW_ENGLAND"]

NEW_YORK = "America/New_York"
NAMES = ("H", "Date", "Hour Ending")
LOADS = ("Total Load", "System Load", "Native Load")
REPEATED = "isRepeated"
HEAD_BYTES = 4_096
MOST_NAMES = 20


def _reshape(data: bytes) -> Table | None:
    head = data[:HEAD_BYTES].decode("utf-8", "replace").replace('"', "").splitlines()
    start = next((line for line in head if line.startswith(",".join(NAMES))), None)
    if start is None or not head[0].startswith(("C,", "H,")):
        return None
    names = [name.strip() for name in start.split(",")][1:]
    if len(names) > MOST_NAMES:
        raise PayloadInvalid.of("header", f"{len(names)} columns", f"up to {MOST_NAMES}")
    rows: list[list[str]] = []
    lines: list[int] = []
    problems = Problems()
    reader = csv.reader(io.StringIO(data.decode()))
    try:
        for row in reader:
            if not row or row[0].strip() != "D":
                continue
            if len(row) != len(names) + 1:
                got = ",".join(row)[:80]
                problems.append(Problem(reader.line_num, "row", got, f"{len(names) + 1} values"))
                continue
            hour = row[2].strip().upper()
            rows.append([*row[1:2], hour.removesuffix("X"), *row[3:], "Y" if hour.endswith("X") else ""])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise PayloadInvalid(f"line {reader.line_num}: {error}") from None
    header = (*names, REPEATED)
    columns = tuple(list(column) for column in zip(*rows, strict=True)) or tuple([] for _ in header)
    return Table(header, columns, np.array(lines, np.int64), ",", problems)


def _load(table: Table, options: Options, name: str) -> Meaning | None:
    date, hour, repeated = table.place("Date"), table.place("Hour Ending"), table.place(REPEATED)
    if date is None or hour is None or repeated is None:
        return None
    value = table.place(*(options.value_column or LOADS))
    if value is None:
        got = f"no load, only {', '.join(table.header[2:-1])[:120]}"
        raise PayloadInvalid.of("header", got, f"one of {', '.join(LOADS)}; --value-column names another")
    time = TimeColumn(
        date, Form.DATE_HOUR, hour, Labels.AFTER_START, NEW_YORK, day_first=False, step=3600, flag=repeated,
        second_words=("Y",),
    )  # fmt: skip
    left_out = others(table, {date, hour, repeated, value}, "another measure")
    values = (Value(value, "ISONE", "MWh", "load"),)
    return Meaning(ISO_NEW_ENGLAND.name, time, values, left_out=left_out, days_in=NEW_YORK)


ISO_NEW_ENGLAND = Layout("ISO New England load", "H,Date,Hour Ending,Total Load", _load, _reshape)
