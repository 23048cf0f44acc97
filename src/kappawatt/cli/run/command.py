"""`kappawatt run`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kappawatt.cli.options import RATE, client_option, options_of, own_file_options, tell_reading
from kappawatt.datasets.reading.options import OPTIONS, Options, flag
from kappawatt.datasets.reading.read import read_file
from kappawatt.errors import KappawattError, SettingInvalid
from kappawatt.settings import Settings
from kappawatt.signals import stop_on_signals
from kappawatt.streams.table import STREAMS

if TYPE_CHECKING:
    from kappawatt.broker import Broker
    from kappawatt.cli.run.demos import Part

__all__ = ["run"]

LOOK_SECONDS = 0.5  # between two looks whether the broker lives
END_SECONDS = 90.0  # twice what children may take, and the broker's own; after that the process ends anyway


@click.command()
@click.option(
    "--rate",
    type=RATE,
    default=10.0,
    show_default=True,
    help="Readings a second, of streams whose rows stand by themselves: a plant's.",
)
@click.option(
    "--pace",
    type=RATE,
    default=1.0,
    show_default=True,
    help="Hours a second, of streams whose rows are intervals: load zones, meters.",
)
@click.option(
    "--only",
    type=click.Choice([stream.name for stream in STREAMS if stream.demo]),
    help="Only this part; all of them if absent.",
)
@own_file_options("Load or meters of your own, in any layout: streamed instead of the demos; its end is taken for now.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".run"),
    show_default=True,
    help="Where bus, logs and database go.",
)
@click.option("--bus", help="kafka starts a broker here; kafka://HOST:PORT uses yours; embedded bus if absent.")
@client_option
def run(
    rate: float,
    pace: float,
    only: str | None,
    file: Path | None,
    key: str,
    folder: Path,
    bus: str | None,
    **given: Any,
) -> None:
    """Run the whole stack on this machine, until Ctrl-C: every stream there is, with its service."""
    from contextlib import ExitStack

    from kappawatt import logs
    from kappawatt.cli.run import alone_in, run_stack, store_name

    parts = _parts(only, file, options_of(given, key))
    os.environ.setdefault("KAPPAWATT_LOG_FORMAT", "text")
    stopped, lost = threading.Event(), threading.Event()
    stop_on_signals(stopped.set, within=END_SECONDS)
    folder = folder.absolute()
    bus = bus or os.environ.get("KAPPAWATT_BUS")
    with ExitStack() as cleanup:
        cleanup.enter_context(alone_in(folder))
        own_broker = bus == "kafka"
        if own_broker:
            click.echo("starting Apache Kafka (its jars are fetched once, 44 MB) ...")
            broker = cleanup.enter_context(_broker(folder, stopped, lost))
            if stopped.is_set():
                return
            bus = f"kafka://{broker.bootstrap}"
        database = os.environ.get("KAPPAWATT_DATABASE") or f"duckdb:{folder}/{store_name(bus, own_broker)}"
        settings = Settings.read(bus=bus or f"embedded:{folder}/bus.sqlite", database=database, **given)
        logs.set_up(settings)
        click.echo(f"bus        {settings.bus}")

        run_stack(settings, folder, rate=rate, pace=pace, parts=parts, say=click.echo, stopped=stopped, lost=lost)


def _parts(only: str | None, file: Path | None, options: Options) -> list[Part]:
    """What is streamed: a person's file, or the demos."""
    from kappawatt.cli.run import PARTS
    from kappawatt.cli.run.demos import part_of

    if file is None:
        given = next((name for name in OPTIONS if getattr(options, name)), None)
        if given:
            raise SettingInvalid(f"{flag(given)}: got it without a file, allowed with --file")
        return [part for part in PARTS if only in (None, part.name)]
    found = read_file(file, options)
    tell_reading(found)
    return [part_of(found, file.name)]


@contextmanager
def _broker(folder: Path, stopped: threading.Event, lost: threading.Event) -> Iterator[Broker]:
    """A broker of this command's own while the block runs.

    If it dies, that is said, `lost` and `stopped` are set, since nothing goes on without it, and the command ends
    with 1; what fails in the block because of it is not said as well.
    """
    from kappawatt.broker import Broker

    broker = Broker(folder / "kafka")

    def watch() -> None:
        while not stopped.wait(LOOK_SECONDS):
            if why := broker.why_ended():
                click.echo(f"Error: {why}", err=True)
                lost.set()
                stopped.set()

    try:
        broker.start(stopped)
        threading.Thread(target=watch, name="broker", daemon=True).start()
        yield broker
    except KappawattError:
        if not lost.is_set():
            raise
    finally:
        stopped.set()
        broker.stop()
    if lost.is_set():
        raise click.exceptions.Exit(1)
