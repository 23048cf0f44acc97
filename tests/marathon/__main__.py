"""A stand-in for DC/OS on this machine, until Ctrl-C, to type commands at: `python -m tests.marathon`."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import click

from kappawatt.signals import stop_on_signals
from tests.marathon.server import Marathon, read_schema
from tests.marathon.tasks import Agent


@click.command(help=__doc__)
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--network", help="Docker network in which containers find each other by their VIPs' names.")
@click.option("--secret", "secrets", multiple=True, metavar="PATH=VALUE", help="An entry of the secret store.")
@click.option("--no-secrets", is_flag=True, help="Be a Marathon without the feature.")
def main(port: int, network: str | None, secrets: tuple[str, ...], no_secrets: bool) -> None:
    schema = os.environ.get("KAPPAWATT_MARATHON_SCHEMA")
    store = dict(entry.partition("=")[::2] for entry in secrets)
    ended = threading.Event()
    stop_on_signals(ended.set)
    with tempfile.TemporaryDirectory(prefix="marathon-") as folder:
        agent = Agent(Path(folder), store, network)
        features = () if no_secrets else ("secrets",)
        with Marathon(agent, read_schema(Path(schema)) if schema else None, features, port) as marathon:
            click.echo(f"{marathon.url}   Ctrl-C ends it and everything it runs")
            ended.wait()


if __name__ == "__main__":
    main()
