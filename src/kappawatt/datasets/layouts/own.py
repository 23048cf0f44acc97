"""Rows as the project's own topics have them: `interval_start` and the stream's measurement."""

from __future__ import annotations

from kappawatt.datasets.reading.labels import Labels
from kappawatt.datasets.reading.meaning import Form, Layout, LeftOut, Meaning, TimeColumn, Value
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.table import Table
from kappawatt.streams.series import AVAILABLE_AT, INTERVAL_SECONDS, INTERVAL_START, TIME_ZONE
from kappawatt.streams.table import STREAMS

__all__ = ["OWN_ROWS"]


def _own(table: Table, options: Options, name: str) -> Meaning | None:
    place = table.place(INTERVAL_START.name)
    stream = next((one for one in STREAMS if one.steps and table.place(one.target) is not None), None)
    if place is None or stream is None:
        return None
    key, published = table.place(stream.key.name), table.place(AVAILABLE_AT.name)
    zone_place, step_place = table.place(TIME_ZONE.name), table.place(INTERVAL_SECONDS)
    covariates = [value for value in stream.values if value != stream.target]
    values = [Value(table.place(stream.target) or 0, options.key if key is None else "", "", stream.name)]
    values.extend(Value(p, field=field) for field in covariates if (p := table.place(field)) is not None)
    zones = {text for text in table.texts(zone_place) if text} if zone_place is not None else set()
    time = TimeColumn(place, Form.MOMENT, None, Labels.START, "UTC", step_place=step_place)
    read = {place, key, published, zone_place, step_place, *(value.place for value in values)}
    left_out = tuple(LeftOut(column, "no field of a reading") for i, column in enumerate(table.header) if i not in read)
    return Meaning(
        OWN_ROWS.name, time, tuple(values), () if key is None else (key,), published, left_out,
        days_in=zones.pop() if len(zones) == 1 else "",
    )  # fmt: skip


OWN_ROWS = Layout("kappawatt's own rows", "interval_start,load", _own)
