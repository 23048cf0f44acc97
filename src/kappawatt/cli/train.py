"""`kappawatt train`: model, baseline, report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from kappawatt.cli.options import SERVICE
from kappawatt.errors import SettingInvalid
from kappawatt.serving.service import Service
from kappawatt.settings import Settings

__all__ = ["train"]


@click.command()
@click.argument("service", type=SERVICE)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of data sets. [KAPPAWATT_DATA]",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of model versions; the service's own if absent.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Where the HTML report goes; docs/results if absent.",
)
@click.option("--quick", is_flag=True, help="Skip the 5x2 cross-validation.")
def train(service: Service, data: Path | None, **options: Any) -> None:
    """Train SERVICE's model and its baseline, and write artifacts and a report."""
    if service.train is None:
        raise SettingInvalid(f"{service.name} has no model to train")
    from kappawatt import logs

    os.environ.setdefault("KAPPAWATT_LOG_FORMAT", "text")
    settings = Settings.read(data=data)
    logs.set_up(settings)
    for path in service.train(settings, **options):
        click.echo(path)
