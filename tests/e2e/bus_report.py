"""Run in a pod: count readings and their answers on the bus, and print JSON."""

import json
import re
import sys
import time

from kappawatt.bus import connect_as
from kappawatt.bus.topic import dead_letter
from kappawatt.messages.ids import message_id
from kappawatt.messages.predictions import read_predictions
from kappawatt.settings import Settings
from kappawatt.streams.plant import PLANT_PREDICTIONS, PLANT_READINGS

settings = Settings.read()
bus = connect_as(settings)
SECONDS = 60.0


def everything(topic):
    """Yield the records of a topic from its beginning to its present end."""
    known = bus.offsets(topic)
    wanted = sum(offsets.end - offsets.begin for offsets in known.values())
    reader = bus.reader([topic], {}, max_records=20_000)
    seen, deadline = 0, time.monotonic() + SECONDS
    while seen < wanted:
        for records in reader.poll(0.5):
            within = records.before(known[records.partition].end)
            seen += len(within.offsets)
            yield within
        if time.monotonic() > deadline:
            sys.exit(f"{topic}: {seen} of {wanted} messages within {SECONDS} s")
    reader.close()


readings, different = set(), set()
for records in everything(PLANT_READINGS.name):
    readings.update(message_id(records.topic, records.log, records.partition, offset) for offset in records.offsets)
    different.update(zip(records.keys, records.values, strict=True))
copies = 0
ids, origins = set(), set()
for records in everything(PLANT_PREDICTIONS.name):
    for row in read_predictions([records]):
        copies += row["id"] in ids
        ids.add(row["id"])
        origins.add(re.sub(r"-0@.*", "", row["id"]))
dead = sum(known.end - known.begin for known in bus.offsets(dead_letter(PLANT_READINGS).name).values())
print(
    json.dumps(
        {
            "readings": len(readings),
            "different_readings": len(different),
            "answered": len(origins & readings),
            "ids": len(ids),
            "written_again": copies,
            "dead": dead,
        }
    )
)
