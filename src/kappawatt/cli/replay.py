"""`kappawatt replay`: a span of a topic once more, compared, promoted."""

from __future__ import annotations

import sys
from typing import Any

import click
import orjson

from kappawatt.cli.options import SERVICE, artifact_option, bus_option, client_option, json_option, version_option
from kappawatt.serving.service import Service
from kappawatt.settings import Settings

__all__ = ["replay"]


@click.command()
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

    from kappawatt.bus import connect_as
    from kappawatt.messages.envelopes import check_topics
    from kappawatt.worker import replay as replaying

    kind, stream = service.modelled(), service.streamed()
    settings = Settings.read(**given)
    check_topics(settings.envelopes)
    bus = connect_as(settings)
    source = stream.readings.name
    model = service.open(settings)
    answers = kind.answers(model, bus, stream, to, settings)
    with tqdm(unit="msg", disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        report = replaying.replay(
            bus,
            stream,
            answers,
            model.version,
            start=replaying.span_start(bus, source, start),
            to=to,
            max_records=settings.max_records,
            progress=progress,
        )
    replaying.compare(bus, report, replaying.live_topic(bus, stream), kind.predictor.target)
    if promote:
        replaying.promote_replay(bus, report, service.name, source, reason)
    bus.close()
    click.echo(orjson.dumps(report.to_json()).decode() if as_json else report.describe())
