"""Readings in: from files at a steady rate (`kappawatt ingest`), and through the ingestor's door.

intakes    the one table of streams that can be ingested: path, topic, key, rules of a row
messages   rows to messages of the bus
bodies     request bodies and publishers' exports to rows by key
senders    rows to an ingestor or straight to the bus
files      files of plant readings, row by row
series     files of load zones and meters, in order of time
stream     the clock, the progress bar and the sum at the end

Nothing is lost or doubled on the way to an ingestor: a request that got no answer is sent again with the same
Idempotency-Key. Straight to the bus it is at least once.
"""

from kappawatt.ingest.files import read_file
from kappawatt.ingest.pace import Summary, ingest, stream_columns, stream_series
from kappawatt.ingest.senders import Send, Sent, bus_sender, http_sender
from kappawatt.ingest.series_rows import SeriesRows, read_series_rows, series_rows
from kappawatt.messages.readings import BLOCK_ROWS, reading_messages
from kappawatt.messages.tracing import new_traceparent
from kappawatt.streams.rules import INTAKES, LOAD, METER, PLANT, Intake

__all__ = [
    "BLOCK_ROWS",
    "INTAKES",
    "LOAD",
    "METER",
    "PLANT",
    "Intake",
    "Send",
    "Sent",
    "SeriesRows",
    "Summary",
    "bus_sender",
    "http_sender",
    "ingest",
    "new_traceparent",
    "read_file",
    "read_series_rows",
    "reading_messages",
    "series_rows",
    "stream_columns",
    "stream_series",
]
