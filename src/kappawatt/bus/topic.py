"""The one table of topics. `docs/events.md` is made from it."""

from __future__ import annotations

from dataclasses import dataclass

from kappawatt.columns.schema import Schema
from kappawatt.streams import load, meter, plant

__all__ = [
    "LOAD_ERRORS",
    "LOAD_FORECASTS",
    "LOAD_READINGS",
    "METER_ERRORS",
    "METER_FORECASTS",
    "METER_READINGS",
    "PLANT_PREDICTIONS",
    "PLANT_READINGS",
    "STREAMS",
    "TOPICS",
    "Topic",
    "dead_letter",
]

HOUR = 3600
DAY = 24 * HOUR
LARGEST_MESSAGE = 4 * 1024 * 1024
DEAD_LETTER_SUFFIX = ".dead"


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the table.

    Parameters
    ----------
    name : str
    key : str
        What the message key is; messages of one key keep their order.
    message : Schema or None
        Schema of one row; None where messages are documents of kappawatt's own.
    partitions : int
    retention : int or None
        Seconds a message is kept; None keeps the newest message of each key for ever (compacted).
    producers, consumers : tuple of str
        Service and command names.
    meaning : str
    max_message_bytes : int
        Largest message.
    """

    name: str
    key: str
    message: Schema | None
    partitions: int
    retention: int | None
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    meaning: str
    max_message_bytes: int = 1_048_588  # Kafka's own default


PLANT_READINGS = Topic(
    "plant.readings",
    "plant",
    plant.READING,
    4,
    7 * DAY,
    ("sensor-ingestor",),
    ("plant-power", "sink"),
    "sensor readings as they arrived, single events or blocks",
)
PLANT_PREDICTIONS = Topic(
    "plant.predictions",
    "plant",
    plant.POWER,
    4,
    7 * DAY,
    ("plant-power",),
    ("gateway", "sink"),
    "expected net power for every reading, with interval, id and origin",
)
LOAD_READINGS = Topic(
    "load.readings",
    "load_zone",
    load.READING,
    4,
    1_300 * DAY,  # a forecast looks back on three years
    ("sensor-ingestor",),
    ("hourly-load", "sink", "gateway"),
    "hourly load of zones as it is metered, late and corrected hours too, and weather known ahead",
)
LOAD_FORECASTS = Topic(
    "load.forecasts",
    "load_zone",
    None,
    4,
    90 * DAY,
    ("hourly-load",),
    ("gateway", "sink"),
    "the next day's load in quantiles, one document a zone and issue time, and corrections",
)
LOAD_ERRORS = Topic(
    "load.forecast-errors",
    "load_zone",
    None,
    4,
    90 * DAY,
    ("hourly-load",),
    ("gateway", "sink"),
    "what became of each forecast hour once its load was metered",
)
METER_READINGS = Topic(
    "meter.readings",
    "meter_id",
    meter.READING,
    8,
    100 * DAY,
    ("sensor-ingestor",),
    ("smart-meter", "sink", "gateway"),
    "energy smart meters counted, interval by interval, late and revised ones too",
)
METER_FORECASTS = Topic(
    "meter.forecasts",
    "meter_id",
    None,
    8,
    30 * DAY,
    ("smart-meter",),
    ("gateway", "sink"),
    "the next day's energy of a meter in quantiles, with the day's total and peak, and corrections",
)
METER_ERRORS = Topic(
    "meter.forecast-errors",
    "meter_id",
    None,
    8,
    30 * DAY,
    ("smart-meter",),
    ("gateway", "sink"),
    "what became of each forecast interval once it was metered",
)
STREAMS = Topic(
    "kappawatt.streams",
    "stream",
    None,
    1,
    None,
    ("replay --promote",),
    ("plant-power", "hourly-load", "smart-meter", "gateway", "sink"),
    "which topic and model version currently serve each stream of predictions",
)


def dead_letter(topic: Topic) -> Topic:
    """Return the topic that holds what could not be answered of `topic`."""
    return Topic(
        topic.name + DEAD_LETTER_SUFFIX,
        topic.key,
        None,
        1,
        30 * DAY,
        topic.consumers[:1],
        ("gateway", "sink"),
        f"messages and rows of {topic.name} that were refused, with reason, origin and original bytes",
        max_message_bytes=LARGEST_MESSAGE,  # the original, base64, and what was wrong with it
    )


TOPICS = (
    PLANT_READINGS,
    PLANT_PREDICTIONS,
    dead_letter(PLANT_READINGS),
    LOAD_READINGS,
    LOAD_FORECASTS,
    LOAD_ERRORS,
    dead_letter(LOAD_READINGS),
    METER_READINGS,
    METER_FORECASTS,
    METER_ERRORS,
    dead_letter(METER_READINGS),
    STREAMS,
)
