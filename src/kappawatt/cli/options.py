"""Arguments and options that several commands take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from kappawatt.errors import SettingInvalid
from kappawatt.serving.service import Service, find_service

__all__ = [
    "RATE",
    "SERVICE",
    "artifact_option",
    "beginning_option",
    "bus_option",
    "client_option",
    "json_option",
    "version_option",
]


class _ServiceName(click.ParamType[Service]):
    """A service by name."""

    name = "service"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Service:
        try:
            return find_service(value)
        except SettingInvalid as error:
            self.fail(str(error), param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "SERVICE"


class _Rate(click.FloatRange):
    """Readings a second: more than 0, and a number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        rate = float(super().convert(value, param, ctx))
        if not math.isfinite(rate):
            self.fail(f"got {value!r}, allowed a number above 0", param, ctx)
        return rate


SERVICE = _ServiceName()
RATE = _Rate(min=0, min_open=True)
bus_option = click.option(
    "--bus",
    help="embedded:FILE or kafka://HOST:PORT[,HOST:PORT]. [KAPPAWATT_BUS, default embedded:.run/bus.sqlite]",
)
client_option = click.option(
    "--kafka-client", type=click.Choice(["kafka-python", "confluent"]), help="Which Kafka client speaks."
)
beginning_option = click.option(
    "--from-beginning",
    is_flag=True,
    default=None,
    help="Of the sink: land everything the bus has once more.",
)
artifact_option = click.option(
    "--artifact",
    "artifacts",
    type=click.Path(path_type=Path),
    help="Folder of model versions, or one artifact.",
)
version_option = click.option(
    "--model",
    "model_version",
    help="Model version, or a kind (baseline) for the newest of it; the current one if absent.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
