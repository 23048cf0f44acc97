"""`kappawatt train`: model, baseline, report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from kappawatt.cli.options import (
    SERVICE,
    holidays_option,
    options_of,
    own_file_options,
    tell_reading,
    with_holidays,
)
from kappawatt.datasets.named import SeriesSet, series_set
from kappawatt.datasets.reading.options import Options
from kappawatt.datasets.reading.read import read_file
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
@own_file_options("Load or meters of your own, in any layout, to train a service that forecasts on; needs --out.")
@holidays_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder of model versions; the service's own if absent.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Where the HTML report goes; docs/results if absent.",
)
@click.option("--quick", is_flag=True, help="Skip the 5x2 cross-validation.")
def train(service: Service, data: Path | None, file: Path | None, key: str, holidays: str, **options: Any) -> None:
    """Train SERVICE's model and its baseline, and write artifacts and a report."""
    if service.train is None:
        raise SettingInvalid(f"{service.name} has no model to train")
    reading = options_of(options, key)
    if file is not None:
        options |= {"quick": True, "series": _series(service, file, reading, holidays, options["out"])}
    elif holidays:
        raise SettingInvalid.of("--holidays", holidays, "it with --file: the series of data sets have their own")
    from kappawatt import logs

    os.environ.setdefault("KAPPAWATT_LOG_FORMAT", "text")
    settings = Settings.read(data=data)
    logs.set_up(settings)
    for path in service.train(settings, **options):
        click.echo(path)


def _series(service: Service, file: Path, reading: Options, holidays: str, out: Path | None) -> SeriesSet:
    """A file's series, of the kind that the service forecasts."""
    if service.model is None or service.model.rolling is None:
        raise SettingInvalid(f"--file: got it for {service.name}, allowed for services that forecast")
    if out is None:
        raise SettingInvalid("--out: got nothing, allowed a folder: models of your own file stand beside no others")
    found = read_file(file, reading, service.stream)
    tell_reading(found)
    return series_set(tuple(with_holidays(service, found.series, holidays)), f"real, file: {file.name}")
