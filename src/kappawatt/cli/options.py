"""Arguments and options that several commands take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from kappawatt.datasets.reading.assemble import Found
from kappawatt.datasets.reading.options import OPTIONS, Options
from kappawatt.datasets.reading.table import Fact
from kappawatt.datasets.series import SeriesFile
from kappawatt.errors import SettingInvalid
from kappawatt.forecasting.holidays import HOLIDAYS, holidays_named
from kappawatt.serving.service import Service, find_service

__all__ = [
    "RATE",
    "SERVICE",
    "artifact_option",
    "beginning_option",
    "bus_option",
    "client_option",
    "holidays_option",
    "json_option",
    "options_of",
    "own_file_options",
    "reading_options",
    "tell_reading",
    "version_option",
    "with_holidays",
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
PROBLEMS_SHOWN = 5
DOUBTFUL = ("rows in skipped hours", "labels", "taken as missing", "dates", "clock", "values")
"""Facts that come with what told them."""
READING_OPTIONS = (
    click.option("--time-column", help="Column of times."),
    click.option("--value-column", multiple=True, help="Column of measurements; again for more of them."),
    click.option(
        "--covariate-column",
        multiple=True,
        help="Column of numbers known ahead that may tell of the load; again for more. NAME_forecast beside it is how"
        " it was forecast. Weather needs none, if columns have its fields' names.",
    ),
    click.option("--sheet", multiple=True, help="Of a workbook the one to read, also as 2024*; again for more."),
    click.option("--epoch", type=click.Choice(["s", "ms"]), help="Times count seconds or milliseconds since 1970."),
    click.option("--labels", type=click.Choice(["start", "end"]), help="What a row's time stands for in its interval."),
    click.option("--sep", help="Character between cells: comma, semicolon, tab, pipe or itself."),
    click.option("--decimal", help="Character before decimals: . or ,"),
    click.option("--thousands", help="Character between groups of three digits."),
    click.option("--day-first/--month-first", default=None, help="How 01/02/2024 is meant."),
    click.option("--unit", help="Of the measurements: W, kW, MW, GW, Wh, kWh, MWh, GWh."),
    click.option("--time-zone", help="IANA name of the clock of times without an offset, and of days."),
    click.option(
        "--clock", help="Clock of the times if it is not that of days, such as UTC+01:00; or --time-zone's once more."
    ),
    click.option(
        "--resample", metavar="LENGTH", help="Intervals wanted, such as 15min or 1h: means of power, sums of energy."
    ),
    click.option(
        "--register", is_flag=True, default=None, help="Values are a counter's; their differences are wanted."
    ),
)
"""What a file does not say itself; `kappawatt inspect` says what is told by what."""


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of how a file is read."""
    for option in reversed(READING_OPTIONS):
        command = option(command)
    return command


def own_file_options(said: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--file` with what it is for, `--key`, and how a file is read."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        path = click.Path(exists=True, dir_okay=False, path_type=Path)
        key = click.option("--key", default="", help="Name of the file's series; its own if absent.")
        return click.option("--file", type=path, help=said)(key(reading_options(command)))

    return add


def options_of(given: dict[str, Any], key: str = "") -> Options:
    """Take the options of how a file is read out of a command's."""
    said = {name: given.pop(name) for name in OPTIONS if name in given and name != "key"}
    return Options.of({**said, "key": key})


def _said(fact: Fact) -> str:
    is_doubtful = fact.name in DOUBTFUL or "nothing says" in fact.because
    return f"{fact.name} {fact.value}" + (f" ({fact.because})" if is_doubtful else "")


def tell_reading(found: Found) -> None:
    """Say on standard error how a file was read, what was left out, and which rows were refused."""
    said = ", ".join(map(_said, found.facts))
    click.echo(f"read as {found.layout}: {said}", err=True)
    for column in found.left_out:
        click.echo(f"left out: column {column.name!r}, {column.why}", err=True)
    for problem in found.problems[:PROBLEMS_SHOWN]:
        click.echo(f"refused: {problem.message}", err=True)
    if len(found.problems) > PROBLEMS_SHOWN:
        click.echo(f"refused: {len(found.problems) - PROBLEMS_SHOWN} more rows", err=True)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")


holidays_option = click.option(
    "--holidays",
    default="",
    metavar="DE|DE-BY|none",
    help="Whose public holidays a file's series have; those of the time zone's country if absent.",
)


def with_holidays(service: Service, series: Sequence[SeriesFile], holidays: str) -> list[SeriesFile]:
    """Return a file's series with the holidays that `--holidays` names.

    Raises
    ------
    SettingInvalid
        Nobody knows them, or the service has no use for holidays.
    """
    if not holidays:
        return list(series)
    if service.stream is None or HOLIDAYS not in service.stream.schema.names:
        raise SettingInvalid.of("--holidays", holidays, f"nothing: {service.name} knows no holidays")
    return [replace(one, holidays=holidays_named(holidays, "--holidays")) for one in series]
