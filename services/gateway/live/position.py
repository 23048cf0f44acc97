"""Places on the bus, and how a client names them; the id of every streamed event is such a name.

`plant.predictions~5xB0xqDOQ9ukA7dY2wPNSw:0=12,1=40.3;plant.readings.dead:0=7` reads: of partition 0 everything before
offset 12 was seen, of partition 1 everything before offset 40 and the first three rows of that message, a block. What
stands behind a `~` is the topic's log: in another log of the same name those places mean nothing.
Because an id says where to read on and not who was reading, a client resumes at any gateway, also a restarted
one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from kappawatt.bus.interface import TopicPartition

__all__ = ["Logs", "Place", "Position", "format_position", "parse_position"]

LONGEST = 4000
MOST_PARTITIONS = 1000
TOPIC = re.compile(r"(?P<topic>[A-Za-z0-9._-]{1,249})(~(?P<log>[A-Za-z0-9_-]{1,40}))?:(?P<places>[0-9=.,]+)")
PLACE = re.compile(r"(?P<partition>\d{1,6})=(?P<offset>\d{1,18})(\.(?P<row>\d{1,9}))?")


class Place(NamedTuple):
    """The next row to read of one partition: `row` within the message at `offset`."""

    offset: int
    row: int = 0


Position = Mapping[TopicPartition, Place]
Logs = Mapping[str, str]
"""The identity of each topic's log."""


def format_position(position: Position, logs: Logs) -> str:
    """Return the position as text for an event id.

    Examples
    --------
    >>> format_position({("a", 0): Place(12), ("a", 1): Place(40, 3), ("b", 0): Place(7)}, {"a": "5xB0xqDOQ9uk"})
    'a~5xB0xqDOQ9uk:0=12,1=40.3;b:0=7'
    """
    topics: dict[str, list[str]] = {}
    for (topic, partition), place in sorted(position.items()):
        row = f".{place.row}" if place.row else ""
        topics.setdefault(topic, []).append(f"{partition}={place.offset}{row}")
    named = {topic: f"{topic}~{logs[topic]}" if logs.get(topic) else topic for topic in topics}
    return ";".join(f"{named[topic]}:{','.join(places)}" for topic, places in topics.items())


def parse_position(text: str) -> tuple[dict[TopicPartition, Place], dict[str, str]] | None:
    """Return the position that `text` names and the logs it is of, as far as it says; None if it is not one."""
    if not text or len(text) > LONGEST:
        return None
    position: dict[TopicPartition, Place] = {}
    logs: dict[str, str] = {}
    for part in text.split(";"):
        topic = TOPIC.fullmatch(part)
        if topic is None:
            return None
        if topic["log"] is not None:
            logs[topic["topic"]] = topic["log"]
        for place in topic["places"].split(","):
            found = PLACE.fullmatch(place)
            if found is None or len(position) >= MOST_PARTITIONS:
                return None
            at = Place(int(found["offset"]), int(found["row"] or 0))
            position[topic["topic"], int(found["partition"])] = at
    return position, logs
