"""The one command line. A command stands in a module of its own, which is imported when it is asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from kappawatt import __version__
from kappawatt.errors import KappawattError

__all__ = ["main"]

COMMANDS = {  # in the order of --help
    "run": "kappawatt.cli.run.command:run",
    "serve": "kappawatt.cli.serve:serve",
    "consume": "kappawatt.cli.consume:consume",
    "ingest": "kappawatt.cli.ingest:ingest",
    "weather": "kappawatt.cli.weather:weather",
    "inspect": "kappawatt.cli.inspect:inspect",
    "train": "kappawatt.cli.train:train",
    "score": "kappawatt.cli.score:score",
    "backtest": "kappawatt.cli.backtest:backtest",
    "replay": "kappawatt.cli.replay:replay",
    "topics": "kappawatt.cli.topics:topics",
    "doctor": "kappawatt.cli.doctor:doctor",
    "deploy": "kappawatt.cli.deploy:deploy",
    "sink": "kappawatt.cli.sink:sink",
}


class _Commands(click.Group):
    """Imports a command when it is asked for; ends with an error's own sentence, not with a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except KappawattError as error:  # while a command is looked for: a package beside kappawatt cannot be used
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KappawattError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="kappawatt")
def main() -> None:
    """Energy models as small services on a Kafka bus.

    Settings come from KAPPAWATT_* variables (docs/settings.md); options here stand above them.
    """
