"""`kappawatt sink`: the name of a release before for `kappawatt consume sink`."""

from __future__ import annotations

from typing import Any

import click

from kappawatt.cli.options import beginning_option, bus_option, client_option
from kappawatt.serving.service import find_service
from kappawatt.settings import Settings

__all__ = ["sink"]


@click.command(deprecated="use `kappawatt consume sink`")
@click.option("--database", help="duckdb:FILE or postgresql://... [KAPPAWATT_DATABASE]")
@click.option("--probe-port", type=click.IntRange(1, 65535), help="Port of probes, metrics and queries.")
@beginning_option
@bus_option
@client_option
def sink(**given: Any) -> None:
    """Land what passes on the bus in a database, until SIGTERM: the same as `consume sink`."""
    from kappawatt import logs
    from kappawatt.serving.consume import consume as run_loop

    settings = Settings.read(**given)
    logs.set_up(settings)
    run_loop(find_service("sink"), settings)
