"""Plant: what a combined-cycle plant's sensors say, and what a model answers.

Ranges are physical limits of the instruments, wider than any reading of the training data; what a model has
seen in training stands in its manifest, and an answer outside of it is marked `extrapolated`.
"""

from __future__ import annotations

from kappawatt.bus.topic import DAY, Topic
from kappawatt.columns.schema import Field, Kind, Schema
from kappawatt.streams.stream import Bins, Demo, Key, Stream, View

__all__ = [
    "CONDITIONS",
    "NET_POWER",
    "PLANT_PREDICTIONS",
    "PLANT_READINGS",
    "POWER",
    "READING",
    "STREAM",
    "TIME_OF_EVENT",
]

AMBIENT_TEMPERATURE = Field(
    "ambient_temperature",
    "degC",
    "air temperature at the compressor inlet",
    minimum=-50,
    maximum=60,
    column="AT",
    example=14.96,
)
EXHAUST_VACUUM = Field(
    "exhaust_vacuum",
    "cm Hg",
    "steam turbine exhaust pressure below atmosphere",
    minimum=0,
    maximum=100,
    column="V",
    example=41.76,
)
AMBIENT_PRESSURE = Field(
    "ambient_pressure",
    "mbar",
    "air pressure at the plant",
    minimum=800,
    maximum=1100,
    column="AP",
    example=1024.07,
)
RELATIVE_HUMIDITY = Field(
    "relative_humidity",
    "%",
    "relative humidity; capacitive sensors read slightly above 100 in fog",
    minimum=0,
    maximum=105,
    column="RH",
    example=73.17,
)
NET_POWER = Field(
    "net_power",
    "MW",
    "measured net electrical power, hourly mean",
    minimum=0,
    maximum=2000,
    column="PE",
    required=False,
    example=463.26,
)
TIME_OF_EVENT = Field(
    "event_time",
    "",
    "when the sensors were read; the time of arrival if absent",
    kind=Kind.TIMESTAMP,
    required=False,
)

CONDITIONS = (AMBIENT_TEMPERATURE, EXHAUST_VACUUM, AMBIENT_PRESSURE, RELATIVE_HUMIDITY)

READING = Schema(
    "PlantReading",
    "One reading of a combined-cycle plant's sensors; `net_power` is there when the plant measures it.",
    (*CONDITIONS, NET_POWER, TIME_OF_EVENT),
)

POWER = Schema(
    "PlantPower",
    "The net power a model expects under the conditions of one reading, with its 90 % prediction interval.",
    (
        Field("net_power", "MW", "expected net electrical power", example=467.3),
        Field("net_power_lower", "MW", "lower end of the 90 % prediction interval", example=461.9),
        Field("net_power_upper", "MW", "upper end of the 90 % prediction interval", example=472.8),
        Field(
            "extrapolated",
            "",
            "a condition lies outside the range of the training data",
            kind=Kind.BOOLEAN,
            example=False,
        ),
    ),
)

PLANT_READINGS = Topic(
    "plant.readings",
    "plant",
    READING,
    4,
    7 * DAY,
    ("sensor-ingestor",),
    ("plant-power", "sink"),
    "sensor readings as they arrived, single events or blocks",
)
PLANT_PREDICTIONS = Topic(
    "plant.predictions",
    "plant",
    POWER,
    4,
    7 * DAY,
    ("plant-power",),
    ("gateway", "sink"),
    "expected net power for every reading, with interval, id and origin",
)

STREAM = Stream(
    name="plant",
    service="plant-power",
    title="a reading of a combined-cycle plant",
    key=Key("plant", "plant", "plant-1"),
    target=NET_POWER.name,
    readings=PLANT_READINGS,
    answers=PLANT_PREDICTIONS,
    path="readings",
    arrival=TIME_OF_EVENT.name,
    readings_table="readings",
    answers_table="predictions",
    scored_view="scored",
    error_by=(Bins(AMBIENT_TEMPERATURE.name, 2, "temperature"),),
    view=View("Plant"),
    demo=Demo("kappawatt.datasets.named:plant_readings"),
    order=1,
)
