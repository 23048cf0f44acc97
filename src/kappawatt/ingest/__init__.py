"""Readings in, from files at a steady rate (`kappawatt ingest`) and through the ingestor's door: rows of a stream's own
schema, publishers' exports, the clock and progress bar of what is sent, and the way to an ingestor or straight to the
bus. May read files and publish; may not answer, and may not know which streams there are but by `STREAMS`.

Nothing is lost or doubled on the way to an ingestor: a request that got no answer is sent again with the same
Idempotency-Key. Straight to the bus it is at least once.
"""

from kappawatt.ingest.files import read_file
from kappawatt.ingest.pace import Summary, send_columns, send_file, send_series
from kappawatt.ingest.senders import Send, Sent, bus_sender, http_sender
from kappawatt.ingest.series_rows import SeriesRows, read_own_rows, rows_of, series_rows

__all__ = [
    "Send",
    "Sent",
    "SeriesRows",
    "Summary",
    "bus_sender",
    "http_sender",
    "read_file",
    "read_own_rows",
    "rows_of",
    "send_columns",
    "send_file",
    "send_series",
    "series_rows",
]
