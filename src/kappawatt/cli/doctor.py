"""`kappawatt doctor`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any

import click
import orjson

from kappawatt.bus import connect_as
from kappawatt.bus.interface import Bus
from kappawatt.bus.promotions import PromotionFollower, group_of
from kappawatt.cli.options import bus_option, client_option, json_option
from kappawatt.errors import BusError, SettingInvalid
from kappawatt.serving.memory import Limit, examine_memory, memory_limit
from kappawatt.serving.probes import Finding, messages_on
from kappawatt.serving.service import ModelKind, Service, find_service, service_names
from kappawatt.settings import Settings
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import STREAMS, TOPICS

__all__ = ["doctor", "examine"]

SINK_GROUP = "sink"


@click.command()
@click.option("--wait", default=10.0, show_default=True, help="Seconds to wait for the probe's answer.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(service_names()),
    help="Look at this service (or the sink) alone; may be given again. All of them if absent.",
)
@bus_option
@client_option
@json_option
def doctor(wait: float, only: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Look at every hop: bus, topics, consumer lag, and a probe reading that has to come back answered."""

    settings = Settings.read(**given)
    services, broken = [], []
    for name in service_names():
        if not only or name in only:
            try:
                services.append(find_service(name))
            except SettingInvalid as error:
                broken.append(Finding(f"service {name}", False, str(error)))
    sink = not only or "sink" in only
    well = True
    for finding in chain(broken, examine(settings, services, probe_seconds=wait, sink=sink)):
        well &= finding.is_well
        if as_json:
            row = {"check": finding.check, "ok": finding.is_well, "detail": finding.detail}
            row |= {"warning": True} if finding.is_warning else {}
            click.echo(orjson.dumps(row).decode())
        else:
            click.echo(str(finding))
    if not well:
        sys.exit(1)


def examine(
    settings: Settings,
    services: list[Service],
    *,
    probe_seconds: float = 10.0,
    sink: bool = True,
    limit: Limit | None = None,
) -> Iterator[Finding]:
    """Look at each hop in the order a reading takes; stop where nothing behind can be told.

    The probe is a reading with the key `kappawatt-doctor`; it stays in the log like any other. `sink` says whether
    there has to be one. `limit` is what the memory of series is held against; this process' own if absent.
    """
    try:
        bus = connect_as(settings)
        there = bus.topics()
    except (BusError, SettingInvalid) as error:
        yield Finding("bus", False, f"{settings.bus}: {error}")
        return
    yield Finding("bus", True, f"{settings.bus} answers")
    try:
        missing = [topic for topic in TOPICS if topic.name not in there]
        for topic in TOPICS:
            found = there.get(topic.name)
            detail = f"{found} partitions" if found else "missing; create it with `kappawatt topics --create`"
            yield Finding(f"topic {topic.name}", found is not None, detail)
        if missing:
            return
        for service in services:
            if service.model is not None and service.stream is not None:
                yield from _examine_stream(bus, service.name, service.model, service.stream, probe_seconds)
                memory = examine_memory(bus, service.name, service.model, service.stream, limit or memory_limit())
                if memory is not None:
                    yield memory
        for i, stream in enumerate(STREAMS):
            source = stream.readings.name
            if sink and (i == 0 or messages_on(bus, source)):
                yield _group(bus, "sink", SINK_GROUP, source, "`kappawatt consume sink`")
    finally:
        bus.close()


def _examine_stream(bus: Bus, name: str, kind: ModelKind[Any], stream: Stream, seconds: float) -> Iterator[Finding]:
    follower = PromotionFollower(bus, stream.answers.name)
    serving = follower.read()
    follower.close()
    output = serving.topic if serving else stream.answers.name
    source = stream.readings.name
    if kind.needs_history and not messages_on(bus, source):
        yield Finding(f"{name} group", True, f"{source} is empty: nothing to read, nothing to forecast")
        return
    yield _group(bus, name, group_of(name, serving), source, f"`kappawatt consume {name}`")
    yield kind.probe(bus, name, stream, output, seconds)


def _group(bus: Bus, name: str, group: str, topic: str, starts_with: str) -> Finding:
    committed = bus.committed(group, topic)
    if not committed:
        return Finding(f"{name} group", False, f"{group} never read {topic}; start it with {starts_with}")
    ends = bus.offsets(topic)
    behind = {p: o.end - committed.get(p, o.begin) for p, o in ends.items()}
    return Finding(f"{name} group", True, f"{group} is {sum(behind.values())} messages behind on {topic} {behind}")
