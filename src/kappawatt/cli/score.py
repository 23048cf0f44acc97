"""`kappawatt score`: a shipped model on a file it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

from kappawatt.cli.options import SERVICE, artifact_option, json_option, version_option
from kappawatt.serving.service import Service
from kappawatt.settings import Settings

__all__ = ["score"]


@click.command()
@click.argument("service", type=SERVICE)
@click.option(
    "--data",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="CSV, gzip too.",
)
@artifact_option
@version_option
@json_option
def score(service: Service, path: Path, as_json: bool, **given: Any) -> None:
    """Score SERVICE's shipped model on a file it has not seen."""
    kind = service.modelled()
    scores = kind.score(service.open(Settings.read(**given)), path)
    if as_json:
        click.echo(orjson.dumps(scores).decode())
        return
    for name, value in scores.items():
        click.echo(f"{name:20} {value:.4f}" if isinstance(value, float) else f"{name:20} {value}")
