"""`kappawatt ingest`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import click

from kappawatt.cli.options import RATE, bus_option, client_option, options_of, reading_options, tell_reading
from kappawatt.datasets.reading.options import NOTHING_SAID, OPTIONS, Options, flag
from kappawatt.datasets.reading.read import read_file
from kappawatt.errors import SettingInvalid
from kappawatt.ingest.pace import Summary, send_file, send_series
from kappawatt.ingest.senders import Send
from kappawatt.ingest.series_rows import read_own_rows, recognise, rows_of
from kappawatt.settings import Settings
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import STREAMS

__all__ = ["Wanted", "ingest", "ingest_file"]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--rate",
    type=RATE,
    default=10.0,
    show_default=True,
    help="Readings a second.",
)
@click.option("--loop", is_flag=True, help="Start again at the end of the file (plant readings).")
@click.option("--key", help="Name of the plant, load zone or meter; plant-1, or the file's own, if absent.")
@click.option("--from", "start", default="", help="Load and meters: a date (local) or ISO 8601 time with zone.")
@click.option("--until", default="", help="Load and meters: up to here.")
@click.option(
    "--backfill",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Load and meters: days before --from (or the file's first days) that are sent at once, as blocks.",
)
@click.option(
    "--known",
    type=click.Choice(["end", "published"]),
    default="end",
    show_default=True,
    help="Meters: values count as known at the end of their interval, or when the export says they were published.",
)
@reading_options
@click.option(
    "--stream",
    type=click.Choice([stream.name for stream in STREAMS if stream.steps]),
    help="Whose readings a file of series holds; told by columns and units if absent.",
)
@click.option("--allow-refused", is_flag=True, help="End with 0 though rows were refused.")
@click.option("--api-key", envvar="KAPPAWATT_API_KEY", help="Key of a gateway that asks for one. [KAPPAWATT_API_KEY]")
@click.option("--url", help="Address of the ingestor, or of the gateway with /api/sensor-ingestor.")
@bus_option
@client_option
def ingest(file: Path, rate: float, api_key: str | None, url: str | None, allow_refused: bool, **given: Any) -> None:
    """Stream FILE at a steady rate.

    It may hold plant readings, or load or meters in any layout (CSV, workbook, Parquet, Arrow, JSON, Green Button,
    NEM12; gzip and zip too). `kappawatt inspect FILE` says how it is read, and asks for what it does not tell.
    """
    from kappawatt.bus import connect_as
    from kappawatt.ingest import bus_sender, http_sender

    options = options_of(given)
    wanted = Wanted(
        rate=rate, options=options, **{f.name: given.pop(f.name) for f in fields(Wanted) if f.name in given}
    )
    settings = Settings.read(**given)

    def sender(stream: Stream, key: str) -> Send:
        if url is not None:
            headers = {"Authorization": f"Bearer {api_key}"} if api_key else None
            return http_sender(stream, url, key, headers=headers)
        return bus_sender(stream, connect_as(settings), key)

    summary = ingest_file(file, wanted, sender)
    click.echo(str(summary))
    if summary.refused and not allow_refused:
        click.echo("Error: rows were refused; --allow-refused ends with 0 all the same", err=True)
        raise SystemExit(1)


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
    options : Options
        How a table is read.
    stream : str or None
        Name of the stream whose readings a file of series holds; None is told by the file.
    progress : bool
    """

    rate: float
    loop: bool = False
    key: str | None = None
    start: str = ""
    until: str = ""
    backfill: float = 0.0
    known: str = "end"
    options: Options = NOTHING_SAID
    stream: str | None = None
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
    stream = recognise(source)
    if stream is not None and not stream.steps:
        for option, value in (
            ("--from", wanted.start),
            ("--until", wanted.until),
            ("--backfill", wanted.backfill),
            ("--known", wanted.known != "end"),
            ("--stream", wanted.stream),
            *((flag(name), getattr(wanted.options, name)) for name in OPTIONS),
        ):
            if value:
                raise SettingInvalid(f"{option}: got it for {stream.title}, allowed for files of series")
        own = "" if stream.names_key else stream.key.example
        send = sender(stream, own if wanted.key is None else stream.key.checked(wanted.key))
        return send_file(stream, source, send=send, rate=wanted.rate, loop=wanted.loop, progress=wanted.progress)
    said = next((one for one in STREAMS if one.name == wanted.stream), None)
    options = replace(wanted.options, key=wanted.key or "")
    if stream is not None and not wanted.options:
        if said is not None and said is not stream:
            raise SettingInvalid.of("--stream", said.name, f"{stream.name}: the file has the fields of its rows")
        rows = read_own_rows(source, stream, options.key)
    else:
        found = read_file(source, options, said)
        if wanted.progress:
            tell_reading(found)
        rows = rows_of(found, as_published=wanted.known == "published")
        stream = rows[0].stream
    if wanted.loop:
        raise SettingInvalid(f"--loop: got it for {stream.title}, allowed for readings that say no time of their own")
    if wanted.key is not None:
        stream.key.checked(wanted.key)
    series = [one.between(wanted.start, wanted.until, wanted.backfill) for one in rows]
    return send_series(series, send=sender(stream, ""), rate=wanted.rate, progress=wanted.progress)
