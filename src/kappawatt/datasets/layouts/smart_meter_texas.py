"""Interval exports of the Smart Meter Texas portal.

Quarter hours by the Central clock, newest or oldest first, of several meters, and with a newer REVISION_DATE where a
value was revised. In spring the skipped hour is exported blank: it never was. In autumn the labels of the repeated
hour come twice without a flag, but for the first of them: it starts at 02:00, where the quarter hour before it ended,
and ends at 01:15.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kappawatt.datasets.layouts.rows import SURPLUS
from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, LeftOut, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Table
from kappawatt.datasets.reading.times import read_clock, read_times
from kappawatt.datasets.series import Problem, Problems
from kappawatt.errors import PayloadInvalid
from kappawatt.forecasting.calendar import to_utc

__all__ = ["SMART_METER_TEXAS", "SURPLUS", "TEXAS_ZONE"]

TEXAS_ZONE = "America/Chicago"
STEP, QUARTERS = 900, 96
NEEDED = ("ESIID", "USAGE_DATE", "REVISION_DATE", "USAGE_START_TIME", "USAGE_END_TIME", "USAGE_KWH")
MORE = ("ESTIMATED_ACTUAL", "CONSUMPTION_SURPLUSGENERATION")  # exports of homes without solar panels lack them
LATE_START, LATE_END = 8, 5  # 02:00 and 01:15 in quarter hours: the row that begins the second run
WORDS = {"consumption": "", "": "", "surplusgeneration": SURPLUS, "generation": SURPLUS}


def _texas(table: Table, options: Options, name: str) -> Meaning | None:
    if table.place("ESIID") is None or table.place("USAGE_START_TIME") is None:
        return None
    places = {column: table.place(column) for column in (*NEEDED, *MORE)}
    for column in NEEDED:
        if places[column] is None:
            raise PayloadInvalid.of("header", repr(",".join(table.header)[:80]), f"one with {column}")
    problems = Problems(table.problems)
    good = np.ones(len(table), dtype=np.bool_)

    texts = {
        column: [""] * len(table) if place is None else [text.strip() for text in table.texts(place)]
        for column, place in places.items()
    }

    def refuse(i: int, column: str, got: str, allowed: str) -> None:
        good[i] = False
        problems.append(Problem(int(table.lines[i]), column, got[:80], allowed))

    days = read_times(texts["USAGE_DATE"], "USAGE_DATE", day_first=options.day_first, habit=False)
    for i, allowed in days.bad:
        refuse(i, "USAGE_DATE", texts["USAGE_DATE"][i], allowed)
    begins, ends = (_quarters(texts[column]) for column in ("USAGE_START_TIME", "USAGE_END_TIME"))
    late = (begins == LATE_START) & (ends == LATE_END)
    for column, quarters in (("USAGE_START_TIME", begins), ("USAGE_END_TIME", ends)):
        for i in np.flatnonzero((quarters < 0) & good).tolist():
            refuse(i, column, texts[column][i], "a quarter hour as HH:MM from 00:00 to 24:00")
    for i in np.flatnonzero(good & ~late & ((ends - begins) % QUARTERS != 1)).tolist():
        refuse(i, "USAGE_END_TIME", texts["USAGE_END_TIME"][i], "15 minutes after USAGE_START_TIME")
    for i, mark in enumerate(texts["ESTIMATED_ACTUAL"]):
        if mark.upper() not in ("", "A", "E"):
            refuse(i, "ESTIMATED_ACTUAL", mark, "A, E or nothing")
    meters = texts["ESIID"]
    for i, meter in enumerate(meters):
        digits = meter.strip("'")
        if not digits.isdigit() or len(digits) > 22:
            refuse(i, "ESIID", meter, "1 to 22 digits, with or without an apostrophe before them")
        word = _direction(texts["CONSUMPTION_SURPLUSGENERATION"][i]) if places[MORE[1]] is not None else ""
        if word is None:
            refuse(i, MORE[1], texts[MORE[1]][i], "Consumption or Surplus Generation")
        meters[i] = digits + (word or "")
    begins = np.where(late, LATE_END - 1, begins)
    local = days.wall + (begins * STEP * 1000).astype("timedelta64[ms]")
    once = to_utc(local, TEXAS_ZONE) == to_utc(local, TEXAS_ZONE, second=True)
    for i in np.flatnonzero(good & late & once).tolist():
        refuse(i, "USAGE_END_TIME", texts["USAGE_END_TIME"][i], "15 minutes after USAGE_START_TIME (02:00)")
    rows = np.flatnonzero(good)
    second = np.zeros(len(table), dtype=np.bool_)
    revised = texts["REVISION_DATE"]
    second[rows] = _second_run(
        [meters[i] for i in rows], days.wall[rows], [revised[i] for i in rows], begins[rows], late[rows]
    )
    kept = replace(
        table,
        header=("ESIID", "USAGE_START_TIME", "second", "REVISION_DATE", "USAGE_KWH"),
        columns=(
            [meters[i] for i in rows],
            local[rows],
            ["Y" if again else "" for again in second[rows].tolist()],
            [revised[i] for i in rows],
            [texts["USAGE_KWH"][i] for i in rows],
        ),
        lines=table.lines[rows],
        problems=problems,
    )
    time = TimeColumn(
        1, Form.MOMENT, None, Labels.START, TEXAS_ZONE, day_first=False, step=STEP, flag=2, second_words=("Y",)
    )
    left_out = tuple(LeftOut(column, "says more of a row") for column in table.header if column not in (*NEEDED, *MORE))
    return Meaning(
        SMART_METER_TEXAS.name, time, (Value(4, "", "kWh", "meter"),), (0,), 3, left_out, days.facts, table=kept
    )


def _direction(text: str) -> str | None:
    """What a direction adds to a meter's key; None if it is none."""
    return WORDS.get(text.lower().replace(" ", "").replace("_", ""))


def _quarters(texts: Sequence[str]) -> NDArray[np.int64]:
    """Quarter hours since midnight, 0 to 95; 24:00 is 00:00; -1 for what is no quarter hour."""
    codes = {text: read_clock(text) for text in set(texts)}
    seconds = np.array([-1 if codes[text] is None else codes[text] for text in texts], dtype=np.int64)
    return np.where((seconds < 0) | (seconds % STEP != 0), -1, seconds // STEP % QUARTERS)


def _second_run(
    meters: Sequence[str],
    days: NDArray[np.datetime64],
    revised: Sequence[str],
    begins: NDArray[np.int64],
    late: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return which rows are of the second run of a repeated hour.

    Within one meter, day and revision, rows that stand in time's order can be walked: each is the earliest instant its
    label allows that is later than the one before.

    Parameters
    ----------
    begins : ndarray of int, shape (n,)
        Quarter hours since midnight of each label, 4 of the row that is labelled 02:00 to 01:15.
    late : ndarray of bool, shape (n,)
        Which rows are labelled so.
    """
    second = np.zeros(len(days), dtype=np.bool_)
    groups: dict[tuple[str, int, str], list[int]] = {}
    for i, (meter, day, revision) in enumerate(zip(meters, days.astype(np.int64).tolist(), revised, strict=True)):
        groups.setdefault((meter, day, revision), []).append(i)
    hour = 4
    forward = np.sign(np.diff(days.astype(np.int64) // 900_000 + begins)).sum() >= 0
    for group in groups.values():
        labels = [LATE_START if late[i] else int(begins[i]) for i in group]
        counts = [int(begins[i]) for i in group]
        repeated = {label for label in counts if hour <= label < 2 * hour}
        if not late[group].any() and len(set(counts)) == len(counts):
            continue
        steps = int(np.sign(np.diff(labels)).sum())
        runs_forward = forward if steps == 0 else steps > 0
        before = -1
        for i in group if runs_forward else reversed(group):
            label = int(begins[i])
            if label not in repeated:
                before = label if label < hour else label + hour
                continue
            candidates = (label + hour,) if late[i] else (label, label + hour)
            elapsed = next((c for c in candidates if c > before), candidates[0])
            second[i] = elapsed >= label + hour
            before = elapsed
    return second


SMART_METER_TEXAS = Layout("Smart Meter Texas", ",".join((*NEEDED, *MORE)), _texas)
