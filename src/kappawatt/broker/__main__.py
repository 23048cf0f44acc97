"""`python -m kappawatt.broker`."""

from __future__ import annotations

import threading

import click

from kappawatt.broker.node import Broker
from kappawatt.errors import BusUnreachable, SettingInvalid
from kappawatt.signals import stop_on_signals

__all__ = ["main"]


@click.command(help="Run one Apache Kafka node until interrupted; print its address once it serves.")
@click.option("--port", type=int, default=9092, show_default=True, help="PLAINTEXT port; 0 takes a free one.")
@click.option("--data", type=click.Path(file_okay=False), required=True, help="Data directory.")
@click.option("--sasl-port", type=int, default=0, help="SASL_SSL port; 0 takes a free one.")
@click.option("--user", "users", multiple=True, metavar="NAME:PASSWORD", help="SASL user; may be repeated.")
def main(port: int, data: str, sasl_port: int, users: tuple[str, ...]) -> None:
    ended = threading.Event()
    stop_on_signals(ended.set)
    pairs = dict(user.partition(":")[::2] for user in users)
    try:
        broker = Broker(data, port or None, sasl_port or None, pairs)
        try:
            broker.start(ended)
            if not ended.is_set():
                click.echo(broker.bootstrap)
                if pairs:
                    click.echo(f"{broker.sasl_bootstrap} SASL_SSL, ssl.ca.location={broker.ca_file}")
            while not ended.wait(0.5):
                if why := broker.why_ended():
                    raise BusUnreachable(why)
        finally:
            broker.stop()
    except (BusUnreachable, SettingInvalid) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
