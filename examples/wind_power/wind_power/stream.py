"""Turbine: what a wind turbine's sensors say every ten minutes, and what a model answers."""

from __future__ import annotations

from kappawatt.bus.topic import DAY, Topic
from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.streams.stream import Demo, Key, Stream, View

__all__ = ["ANSWER", "READING", "STREAM"]

READING = Schema(
    "TurbineReading",
    "Ten minutes of a wind turbine; `power` is there when it is measured.",
    (
        Field("wind_speed", "m/s", "mean at hub height", minimum=0, maximum=75, column="wind_speed", example=8.2),
        Field("air_density", "kg/m3", "of the air there", minimum=0.8, maximum=1.6, column="air_density", example=1.22),
        Field("power", "kW", "mean net power", minimum=-500, maximum=25_000, column="power", required=False),
        Field("event_time", "", "end of the ten minutes; arrival if absent", kind=Kind.TIMESTAMP, required=False),
    ),
)
ANSWER = Schema(
    "TurbinePower",
    "The power a turbine's curve gives at a reading's wind, with its 90 % prediction interval.",
    (
        Field("power", "kW", "expected net power", example=1012.0),
        Field("power_lower", "kW", "lower end of the 90 % prediction interval", example=940.0),
        Field("power_upper", "kW", "upper end of the 90 % prediction interval", example=1084.0),
        Field("extrapolated", "", "more wind than in training", kind=Kind.BOOLEAN, example=False),
    ),
)

STREAM = Stream(
    name="turbine",
    service="wind-power",
    title="ten minutes of a wind turbine",
    key=Key("turbine", "turbine", "turbine-1"),
    target="power",
    readings=Topic(
        "turbine.readings",
        "turbine",
        READING,
        4,
        7 * DAY,
        ("sensor-ingestor",),
        ("wind-power", "sink"),
        "wind and power as turbines report them",
    ),
    answers=Topic(
        "turbine.predictions",
        "turbine",
        ANSWER,
        4,
        7 * DAY,
        ("wind-power",),
        ("gateway", "sink"),
        "expected power of every reading, with interval, id and origin",
    ),
    path="turbines",
    arrival="event_time",
    view=View("Turbines"),
    demo=Demo("wind_power.train:readings"),
)
