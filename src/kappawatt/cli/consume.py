"""`kappawatt consume`: a service's loop on the bus."""

from __future__ import annotations

from typing import Any

import click

from kappawatt.cli.options import (
    SERVICE,
    artifact_option,
    beginning_option,
    bus_option,
    client_option,
    version_option,
)
from kappawatt.errors import SettingInvalid
from kappawatt.serving.service import Service
from kappawatt.settings import Settings

__all__ = ["consume"]


@click.command()
@click.argument("service", type=SERVICE)
@click.option("--probe-port", type=click.IntRange(1, 65535), help="Port of probes and metrics.")
@click.option(
    "--block-rows",
    type=click.IntRange(0),
    help="Answers of one key from which on they travel as a block; 0 never.",
)
@click.option("--max-records", type=click.IntRange(1), help="Most messages in one poll.")
@beginning_option
@bus_option
@client_option
@artifact_option
@version_option
def consume(service: Service, **given: Any) -> None:
    """Answer SERVICE's topic on the bus until SIGTERM."""
    from kappawatt import logs
    from kappawatt.serving.consume import consume as run_worker

    if given["from_beginning"] and service.name != "sink":
        allowed = f"with sink; `kappawatt replay {service.name}` answers again"
        raise SettingInvalid.of("--from-beginning", f"with {service.name}", allowed)
    settings = Settings.read(**given)
    logs.set_up(settings)
    run_worker(service, settings)
