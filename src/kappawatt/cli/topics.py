"""`kappawatt topics`: what the bus holds."""

from __future__ import annotations

from typing import Any

import click

from kappawatt.cli.options import bus_option, client_option
from kappawatt.settings import Settings
from kappawatt.streams.table import TOPICS

__all__ = ["topics"]


@click.command()
@click.option("--create", is_flag=True, help="Create those that are missing.")
@bus_option
@client_option
def topics(create: bool, **given: Any) -> None:
    """List the topics, what they hold and how far they go."""
    from kappawatt.bus import connect_as

    settings = Settings.read(**given)
    bus = connect_as(settings)
    if create:
        for name in bus.ensure(TOPICS):
            click.echo(f"created {name}", err=True)
    there = bus.topics()
    table = {topic.name: topic.meaning for topic in TOPICS}
    for name in [*table, *sorted(there.keys() - table.keys())]:
        if name not in there:
            click.echo(f"{name:28} missing; kappawatt topics --create")
            continue
        known = bus.offsets(name)
        held = sum(o.end - o.begin for o in known.values())
        click.echo(f"{name:28} {len(known)} partitions  {held:>10} messages  {table.get(name, '')}")
    bus.close()
