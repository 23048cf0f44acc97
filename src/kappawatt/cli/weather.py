"""`kappawatt weather`: forecasts and measured weather of stations, from where they are published to the bus."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kappawatt.cli.options import bus_option, client_option
from kappawatt.ingest.weather.stations import read_stations
from kappawatt.settings import Settings

if TYPE_CHECKING:
    from kappawatt.ingest.weather.loop import Outcome

__all__ = ["weather"]

FAULTS = ("failed", "unreadable")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--once", is_flag=True, help="Ask what is due once, and end.")
@click.option("--dry-run", is_flag=True, help="Ask everything once and show it; publish and remember nothing.")
@bus_option
@client_option
def weather(file: Path, once: bool, dry_run: bool, **given: Any) -> None:
    """Read weather of the stations in FILE, TOML or JSON, and put what is new on the topic of load readings.

    docs/weather.md says what FILE holds. Without an option it goes on until it is stopped, as the loop of the ingestor
    does (KAPPAWATT_WEATHER). Sources are asked when they are due, over restarts too.
    """
    from kappawatt.bus import connect_as
    from kappawatt.ingest.weather.loop import LOOK_SECONDS, Sources, state_folder
    from kappawatt.streams.load import STREAM

    settings = Settings.read(**given)
    stations = read_stations(file)
    bus = None if dry_run else connect_as(settings)
    if bus is not None:
        bus.ensure([STREAM.readings])
    sources = Sources(stations, state_folder(settings.state, settings.bus), bus)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                outcomes = sources.round()
                for outcome in outcomes:
                    if once or dry_run or outcome.result != "not_due":
                        click.echo(f"{outcome.station}: {_said(outcome, dry_run)}", err=outcome.result in FAULTS)
                if once or dry_run:
                    if any(outcome.result in FAULTS for outcome in outcomes):
                        raise SystemExit(1)
                    return
                time.sleep(LOOK_SECONDS)
    finally:
        if bus is not None:
            bus.close()


def _said(outcome: Outcome, dry_run: bool) -> str:
    if outcome.result == "not_due":
        return outcome.said
    word = "would publish" if dry_run and outcome.rows else outcome.result
    return f"{word}: {outcome.said}"
