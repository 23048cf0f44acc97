"""What `kappawatt ingest FILE` does with a file, whatever it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import zone_named
from kappawatt.ingest.pace import Summary, ingest, send_series
from kappawatt.ingest.senders import Send
from kappawatt.ingest.series_rows import read_series_rows, recognise
from kappawatt.streams.stream import Stream

__all__ = ["Wanted", "ingest_file"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The command's options.

    Parameters
    ----------
    rate : float
        Rows a second.
    loop : bool
        Start again at the end: of plant readings only, since the same hours again say nothing new.
    key : str or None
        Name of the plant, load zone or meter, instead of the file's own.
    start, until : str
        See `SeriesRows.between`.
    backfill : float
        Days of history sent at once.
    known : str
        `end` of the interval, or `published`.
    time_zone : str
        Clock of a load export's labels.
    progress : bool
    """

    rate: float
    loop: bool = False
    key: str | None = None
    start: str = ""
    until: str = ""
    backfill: float = 0.0
    known: str = "end"
    time_zone: str = ""
    progress: bool = True


def ingest_file(source: Path, wanted: Wanted, sender: Callable[[Stream, str], Send]) -> Summary:
    """Recognise a file and stream it.

    Parameters
    ----------
    sender : callable
        (stream, key) to what sends its rows; with the key "" rows name their own.

    Raises
    ------
    SettingInvalid
        An option is not for a file of this kind.
    PayloadInvalid
        The file cannot be read.
    DeliveryFailed
        The other side did not take rows for five minutes.
    """
    stream, _ = recognise(source)
    if not stream.steps:
        for option, value in (
            ("--from", wanted.start),
            ("--until", wanted.until),
            ("--backfill", wanted.backfill),
            ("--time-zone", wanted.time_zone),
            ("--known", wanted.known != "end"),
        ):
            if value:
                raise SettingInvalid(f"{option}: got it for {stream.title}, allowed for files of series")
        send = sender(stream, wanted.key or stream.key.example)
        return ingest(stream, source, send=send, rate=wanted.rate, loop=wanted.loop, progress=wanted.progress)
    if wanted.loop:
        raise SettingInvalid(f"--loop: got it for {stream.title}, allowed for readings that say no time of their own")
    if wanted.time_zone:
        zone_named(wanted.time_zone)
    found = read_series_rows(
        source,
        key="" if wanted.key is None else stream.key.checked(wanted.key),
        time_zone=wanted.time_zone,
        as_published=wanted.known == "published",
    )
    series = [one.between(wanted.start, wanted.until, wanted.backfill) for one in found]
    return send_series(series, send=sender(stream, ""), rate=wanted.rate, progress=wanted.progress)
