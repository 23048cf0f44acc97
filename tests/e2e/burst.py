"""Run in a pod: put N different readings on the bus as single events, as fast as they go; print how many."""

import json
import sys

from kappawatt.bus import Outgoing, connect
from kappawatt.bus.topic import PLANT_READINGS
from kappawatt.settings import Settings

CHUNK = 2_000
settings = Settings.read()
producer = connect(settings.bus, settings.bus_options()).producer()
count = int(sys.argv[1])
for start in range(0, count, CHUNK):
    chunk = range(start, min(start + CHUNK, count))
    # Different values, none of which a load over HTTP sends: relative humidity of 20 to 60 %.
    rows = [
        b"%.2f,41.76,%.2f,%.2f,463.26" % (5 + i % 3000 / 100, 1000 + i // 3000 % 3000 / 100, 20 + i % 40) for i in chunk
    ]
    producer.publish(
        [Outgoing(PLANT_READINGS.name, row, b"burst-%d" % (i % 16)) for i, row in zip(chunk, rows, strict=True)],
        timeout=60,
    )
producer.close()
print(json.dumps({"sent": count}))
