"""The one command line: `kappawatt serve | consume | ingest | train | score | backtest | replay | deploy | topics |
sink | doctor | run`. Each command reads settings, then calls the module that knows how.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import orjson

from kappawatt import __version__
from kappawatt.cli.deploy import deploy
from kappawatt.errors import KappawattError, SettingInvalid
from kappawatt.serving.service import Service, find_service, service_names
from kappawatt.settings import Settings

__all__ = ["main"]


class _Commands(click.Group):
    """A group whose commands end with the error's own sentence, not with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KappawattError as error:
            raise click.ClickException(str(error)) from error


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
artifact_option = click.option(
    "--artifact",
    "artifacts",
    type=click.Path(path_type=Path),
    help="Folder of model versions, or one artifact.",
)
version_option = click.option("--model", "model_version", help="Model version; the current one if absent.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="kappawatt")
def main() -> None:
    """Energy models as small services on a Kafka bus.

    Settings come from KAPPAWATT_* variables (docs/settings.md); options here stand above them.
    """


@main.command()
@click.argument("service", type=SERVICE)
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on; the service's own if absent.")
@click.option("--workers", type=click.IntRange(1, 64), help="Serving processes.")
@click.option("--threads", type=click.IntRange(1, 256), help="Threads a process answers with.")
@bus_option
@client_option
@artifact_option
@version_option
def serve(service: Service, **given: Any) -> None:
    """Serve SERVICE over HTTP until SIGTERM."""
    from kappawatt import logs
    from kappawatt.serving.server.server import metrics_folder
    from kappawatt.serving.server.server import serve as serve_app

    settings = Settings.read(**given)
    logs.set_up(settings)
    with metrics_folder(settings.workers):
        from kappawatt.serving.app import create_app

        serve_app(service, settings, lambda: create_app(service, settings))


@main.command()
@click.argument("service", type=SERVICE)
@click.option("--probe-port", type=click.IntRange(1, 65535), help="Port of probes and metrics.")
@click.option(
    "--block-rows",
    type=click.IntRange(0),
    help="Answers of one key from which on they travel as a block; 0 never.",
)
@click.option("--max-records", type=click.IntRange(1), help="Most messages in one poll.")
@bus_option
@client_option
@artifact_option
@version_option
def consume(service: Service, **given: Any) -> None:
    """Answer SERVICE's topic on the bus until SIGTERM."""
    from kappawatt import logs
    from kappawatt.serving.consume import consume as run_worker

    settings = Settings.read(**given)
    logs.set_up(settings)
    run_worker(service, settings)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--rate",
    type=RATE,
    default=10.0,
    show_default=True,
    help="Readings a second.",
)
@click.option("--loop", is_flag=True, help="Start again at the end of the file (plant readings).")
@click.option("--key", help="Name of the plant, load zone or meter; plant-1, or the file's own, if absent.")
@click.option("--from", "start", default="", help="Load and meters: a date (local) or ISO 8601 time with zone.")
@click.option("--until", default="", help="Load and meters: up to here.")
@click.option(
    "--backfill",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Load and meters: days before --from (or the file's first days) that are sent at once, as blocks.",
)
@click.option(
    "--known",
    type=click.Choice(["end", "published"]),
    default="end",
    show_default=True,
    help="Meters: values count as known at the end of their interval, or when the export says they were published.",
)
@click.option("--time-zone", default="", help="Load: the clock of the file's labels. [America/New_York]")
@click.option("--api-key", envvar="KAPPAWATT_API_KEY", help="Key of a gateway that asks for one. [KAPPAWATT_API_KEY]")
@click.option("--url", help="Address of the ingestor, or of the gateway with /api/sensor-ingestor.")
@bus_option
@client_option
def ingest(file: Path, rate: float, api_key: str | None, url: str | None, **given: Any) -> None:
    """Stream FILE (CSV, NDJSON or Arrow, gzip too) at a steady rate.

    What it holds is told by its header: plant readings, hourly load as PJM's readers write it, meter exports of Smart
    Meter Texas or Low Carbon London, or rows of these streams' own schemas.
    """
    from kappawatt.bus import connect
    from kappawatt.cli.ingest import Wanted, ingest_file
    from kappawatt.ingest import bus_sender, http_sender
    from kappawatt.ingest.senders import Send
    from kappawatt.streams.rules import Intake

    wanted = Wanted(rate=rate, **{f.name: given.pop(f.name) for f in fields(Wanted) if f.name in given})
    settings = Settings.read(**given)

    def sender(intake: Intake, key: str) -> Send:
        if url is not None:
            headers = {"Authorization": f"Bearer {api_key}"} if api_key else None
            return http_sender(url, key, intake=intake, headers=headers)
        return bus_sender(connect(settings.bus, settings.bus_options()), key, intake=intake)

    click.echo(str(ingest_file(file, wanted, sender)))


@main.command()
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


@main.command()
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
    from kappawatt.evaluation.score import score_file
    from kappawatt.models.predictor import Model
    from kappawatt.serving.models import open_model

    _needs_model(service)
    model = open_model(service, Settings.read(**given))
    if not isinstance(model, Model):
        raise SettingInvalid(f"{service.name} forecasts: kappawatt backtest {service.name} --data FILE scores it")
    scores = score_file(model, path)
    if as_json:
        click.echo(orjson.dumps(scores).decode())
        return
    for name, value in scores.items():
        click.echo(f"{name:20} {value:.4f}" if isinstance(value, float) else f"{name:20} {value}")


DATE = click.DateTime(["%Y-%m-%d"])


@main.command()
@click.argument("service", type=SERVICE)
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="File of measurements for a service that forecasts (CSV, gzip too); else folder of data [KAPPAWATT_DATA].",
)
@click.option("--from", "first", type=DATE, help="First local day to forecast.")
@click.option("--to", "last", type=DATE, help="Last local day to forecast.")
@click.option("--issue", metavar="HH:MM", help="Local time forecasts are issued at: 00:00 is when the day begins.")
@click.option(
    "--retrain",
    type=click.Choice(["daily", "weekly", "fortnightly", "monthly", "quarterly", "never", "shipped"]),
    help="How often it trains; `shipped` does not and evaluates the model that comes with the service.",
)
@click.option(
    "--known",
    type=click.Choice(["end", "published"]),
    default="end",
    show_default=True,
    help="When an interval is known: at its end, or when the file says it was published.",
)
@click.option(
    "--weather",
    type=click.Choice(["none", "perfect"]),
    default="none",
    show_default=True,
    help="What to do with a file's measured weather: leave it out, or take it as if it had been forecast.",
)
@click.option("--key", default="", help="Name of the series; the file's own if absent.")
@click.option("--time-zone", default="", help="IANA name; what the file's layout implies if absent.")
@click.option("--report", type=click.Path(path_type=Path), help="HTML file; scores.json goes beside it.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".run/backtest"),
    show_default=True,
    help="Where days that are done are kept, so that an interrupted run goes on.",
)
@click.option("--fresh", is_flag=True, help="Do not take over days kept from before.")
@json_option
def backtest(service: Service, data: Path | None, as_json: bool, **options: Any) -> None:
    """Evaluate SERVICE's model, trained afresh on what lies before.

    A service that forecasts rolls through the days --from to --to of a FILE and needs nothing else. Others follow
    their published protocol.
    """
    from kappawatt import logs

    os.environ.setdefault("KAPPAWATT_LOG_FORMAT", "text")
    if service.fit is not None:
        from kappawatt.cli.backtest import backtest_file

        logs.set_up(Settings.read())
        backtest_file(service, data, as_json=as_json, **options)
        return
    if service.backtest is None:
        raise SettingInvalid(f"{service.name} has no backtest")
    given = [name for name in ("first", "last", "issue", "retrain", "report") if options[name] is not None]
    if given:
        raise SettingInvalid(f"--{given[0]}: {service.name} does not forecast; it follows its published protocol")
    settings = Settings.read(data=data)
    logs.set_up(settings)
    service.backtest(settings, as_json=as_json)


@main.command()
@click.argument("service", type=SERVICE)
@click.option(
    "--from",
    "start",
    default="beginning",
    show_default=True,
    help="beginning, an offset, or an ISO 8601 time with zone.",
)
@click.option("--to", required=True, help="Side topic for the answers.")
@click.option("--promote", is_flag=True, help="Switch workers and readers to the result.")
@click.option("--reason", default="", help="Why it is promoted, for the log.")
@bus_option
@client_option
@artifact_option
@version_option
@json_option
def replay(service: Service, start: str, to: str, promote: bool, reason: str, as_json: bool, **given: Any) -> None:
    """Answer a span of SERVICE's topic again, while the live stream runs."""
    from tqdm import tqdm

    from kappawatt.bus import connect
    from kappawatt.serving.models import open_model
    from kappawatt.worker import replay as replaying

    _needs_model(service)
    assert service.stream is not None
    assert service.predictor is not None
    settings = Settings.read(**given)
    bus = connect(settings.bus, settings.bus_options())
    source = service.stream.source.name
    with tqdm(unit="msg", disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        report = replaying.replay(
            bus,
            service.stream,
            open_model(service, settings),
            start=replaying.span_start(bus, source, start),
            to=to,
            block_rows=settings.block_rows,
            max_records=settings.max_records,
            progress=progress,
        )
    replaying.compare(bus, report, replaying.live_topic(bus, service.stream), service.predictor.target)
    if promote:
        replaying.promote_replay(bus, report, service.name, source, reason)
    bus.close()
    click.echo(orjson.dumps(report.to_json()).decode() if as_json else report.describe())


@main.command()
@click.option("--create", is_flag=True, help="Create those that are missing.")
@bus_option
@client_option
def topics(create: bool, **given: Any) -> None:
    """List the topics, what they hold and how far they go."""
    from kappawatt.bus import connect
    from kappawatt.bus.topic import TOPICS

    settings = Settings.read(**given)
    bus = connect(settings.bus, settings.bus_options())
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


@main.command()
@click.option("--database", help="duckdb:FILE or postgresql://... [KAPPAWATT_DATABASE]")
@click.option("--probe-port", type=click.IntRange(1, 65535), help="Port of probes, metrics and queries.")
@bus_option
@client_option
def sink(**given: Any) -> None:
    """Land readings, predictions and rejections in a database, until SIGTERM."""
    from kappawatt import logs
    from kappawatt.serving.consume import run_sink

    settings = Settings.read(**given)
    logs.set_up(settings)
    run_sink(settings)


@main.command()
@click.option("--wait", default=10.0, show_default=True, help="Seconds to wait for the probe's answer.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([*service_names(), "sink"]),
    help="Look at this service (or the sink) alone; may be given again. All of them if absent.",
)
@bus_option
@client_option
@json_option
def doctor(wait: float, only: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Look at every hop: bus, topics, consumer lag, and a probe reading that has to come back answered."""
    from kappawatt.cli.doctor import examine

    settings = Settings.read(**given)
    services = [find_service(name) for name in service_names() if not only or name in only]
    sink = not only or "sink" in only
    well = True
    for finding in examine(settings.bus, settings.bus_options(), services, probe_seconds=wait, sink=sink):
        well &= finding.is_well
        if as_json:
            row = {"check": finding.check, "ok": finding.is_well, "detail": finding.detail}
            click.echo(orjson.dumps(row).decode())
        else:
            click.echo(str(finding))
    if not well:
        sys.exit(1)


@main.command()
@click.option(
    "--rate",
    type=RATE,
    default=10.0,
    show_default=True,
    help="Plant readings a second.",
)
@click.option("--pace", type=RATE, default=1.0, show_default=True, help="Hours a second of load zones and meters.")
@click.option("--only", type=click.Choice(["plant", "load", "meter"]), help="Only this part; all of them if absent.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".run"),
    show_default=True,
    help="Where bus, logs and database go.",
)
@click.option("--bus", help="kafka starts a broker here; kafka://HOST:PORT uses yours; embedded bus if absent.")
@client_option
def run(rate: float, pace: float, only: str | None, folder: Path, bus: str | None, **given: Any) -> None:
    """Run the whole stream on this machine, until Ctrl-C: plant predictions, load and meter forecasts."""
    from contextlib import ExitStack

    from kappawatt import logs
    from kappawatt.cli.run import alone_in, run_stack, store_name
    from kappawatt.datasets import named as datasets

    os.environ.setdefault("KAPPAWATT_LOG_FORMAT", "text")
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    folder = folder.absolute()
    bus = bus or os.environ.get("KAPPAWATT_BUS")
    with ExitStack() as cleanup:
        cleanup.enter_context(alone_in(folder))
        own_broker = bus == "kafka"
        if own_broker:
            from kappawatt.broker import Broker

            click.echo("starting Apache Kafka (its jars are fetched once, 44 MB) ...")
            broker = cleanup.enter_context(Broker(folder / "kafka"))
            bus = f"kafka://{broker.bootstrap}"
        database = os.environ.get("KAPPAWATT_DATABASE") or f"duckdb:{folder}/{store_name(bus, own_broker)}"
        settings = Settings.read(bus=bus or f"embedded:{folder}/bus.sqlite", database=database, **given)
        logs.set_up(settings)
        click.echo(f"bus        {settings.bus}")

        def plant_readings() -> datasets.Dataset:
            dataset = datasets.plant(settings.data, events=True)
            click.echo(f"data       {len(dataset)} readings, {dataset.source}")
            if dataset.is_synthetic:
                click.secho("           THIS IS SYNTHETIC DATA: no plant ever said it", fg="yellow", bold=True)
            return dataset

        run_stack(settings, folder, plant_readings, rate=rate, pace=pace, only=only, say=click.echo, stopped=stopped)


main.add_command(deploy)


def _needs_model(service: Service) -> None:
    if service.predictor is None:
        raise SettingInvalid(f"{service.name} has no model")
