"""`kappawatt run`."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import click

from kappawatt.cli.options import RATE, client_option
from kappawatt.settings import Settings
from kappawatt.streams.table import STREAMS

__all__ = ["run"]


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
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".run"),
    show_default=True,
    help="Where bus, logs and database go.",
)
@click.option("--bus", help="kafka starts a broker here; kafka://HOST:PORT uses yours; embedded bus if absent.")
@client_option
def run(rate: float, pace: float, only: str | None, folder: Path, bus: str | None, **given: Any) -> None:
    """Run the whole stack on this machine, until Ctrl-C: every stream there is, with its service."""
    from contextlib import ExitStack

    from kappawatt import logs
    from kappawatt.cli.run import alone_in, run_stack, store_name

    os.environ.setdefault("KAPPAWATT_LOG_FORMAT", "text")
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    folder = folder.absolute()
    bus = bus or os.environ.get("KAPPAWATT_BUS")
    with ExitStack() as cleanup:
        cleanup.enter_context(alone_in(folder))
        own_broker = bus == "kafka"
        if own_broker:
            from kappawatt.broker import Broker

            click.echo("starting Apache Kafka (its jars are fetched once, 44 MB) ...")
            broker = cleanup.enter_context(Broker(folder / "kafka"))
            bus = f"kafka://{broker.bootstrap}"
        database = os.environ.get("KAPPAWATT_DATABASE") or f"duckdb:{folder}/{store_name(bus, own_broker)}"
        settings = Settings.read(bus=bus or f"embedded:{folder}/bus.sqlite", database=database, **given)
        logs.set_up(settings)
        click.echo(f"bus        {settings.bus}")

        run_stack(settings, folder, rate=rate, pace=pace, only=only, say=click.echo, stopped=stopped)
