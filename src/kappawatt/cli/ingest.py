"""What `kappawatt ingest FILE` does with a file, whatever it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.calendar import zone_named
from kappawatt.ingest.pace import Summary, ingest, stream_series
from kappawatt.ingest.senders import Send
from kappawatt.ingest.series_rows import read_series_rows, recognise
from kappawatt.streams.rules import PLANT, Intake

__all__ = ["Wanted", "ingest_file"]

PLANT_NAME = "plant-1"


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


def ingest_file(source: Path, wanted: Wanted, sender: Callable[[Intake, str], Send]) -> Summary:
    """Recognise a file and stream it.

    Parameters
    ----------
    sender : callable
        (intake, key) to what sends its rows; with the key "" rows name their own.

    Raises
    ------
    SettingInvalid
        An option is not for a file of this kind.
    PayloadInvalid
        The file cannot be read.
    DeliveryFailed
        The other side did not take rows for five minutes.
    """
    intake, _ = recognise(source)
    if intake is PLANT:
        for option, value in (
            ("--from", wanted.start),
            ("--until", wanted.until),
            ("--backfill", wanted.backfill),
            ("--time-zone", wanted.time_zone),
            ("--known", wanted.known != "end"),
        ):
            if value:
                raise SettingInvalid(f"{option}: got it for plant readings, allowed for load and meter files")
        send = sender(intake, wanted.key or PLANT_NAME)
        return ingest(source, send=send, rate=wanted.rate, loop=wanted.loop, progress=wanted.progress)
    if wanted.loop:
        raise SettingInvalid("--loop: got it for a load or meter file, allowed for plant readings")
    if wanted.time_zone:
        zone_named(wanted.time_zone)
    found = read_series_rows(
        source,
        key="" if wanted.key is None else intake.checked_key(wanted.key),
        time_zone=wanted.time_zone,
        as_published=wanted.known == "published",
    )
    series = [one.between(wanted.start, wanted.until, wanted.backfill) for one in found]
    return stream_series(series, send=sender(intake, ""), rate=wanted.rate, progress=wanted.progress)
