"""`kappawatt doctor`: is the bus there, are the topics, does anybody read them, does a reading get its answer?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from kappawatt.bus import connect
from kappawatt.bus.interface import Bus, BusOptions, Outgoing
from kappawatt.bus.promotions import StreamFollower, group_of
from kappawatt.bus.topic import LOAD_READINGS, METER_READINGS, PLANT_READINGS, TOPICS
from kappawatt.columns.content import JSON
from kappawatt.errors import BusError, SettingInvalid
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.forecasts import read_documents
from kappawatt.messages.predictions import read_predictions
from kappawatt.serving.service import Service, Stream

__all__ = ["PROBE_KEY", "Finding", "examine"]

PROBE_KEY = b"kappawatt-doctor"
SINK_GROUP = "sink"
READ_SECONDS = 5.0  # for the newest forecasts


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    is_well: bool
    detail: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.is_well else 'FAIL'} {self.check}: {self.detail}"


def examine(
    url: str, options: BusOptions, services: list[Service], *, probe_seconds: float = 10.0, sink: bool = True
) -> Iterator[Finding]:
    """Look at each hop in the order a reading takes; stop where nothing behind can be told.

    The probe is a reading with the key `kappawatt-doctor`; it stays in the log like any other. `sink` says whether
    there has to be one.
    """
    try:
        bus = connect(url, options)
        there = bus.topics()
    except (BusError, SettingInvalid) as error:
        yield Finding("bus", False, f"{url}: {error}")
        return
    yield Finding("bus", True, f"{url} answers")
    try:
        missing = [topic for topic in TOPICS if topic.name not in there]
        for topic in TOPICS:
            found = there.get(topic.name)
            detail = f"{found} partitions" if found else "missing; create it with `kappawatt topics --create`"
            yield Finding(f"topic {topic.name}", found is not None, detail)
        if missing:
            return
        for service in services:
            if service.stream is not None:
                yield from _examine_stream(bus, service, service.stream, probe_seconds)
        for source in (PLANT_READINGS, LOAD_READINGS, METER_READINGS):
            if sink and (source is PLANT_READINGS or _held(bus, source.name)):
                yield _group(bus, "sink", SINK_GROUP, source.name, "`kappawatt sink`")
    finally:
        bus.close()


def _examine_stream(bus: Bus, service: Service, stream: Stream, seconds: float) -> Iterator[Finding]:
    follower = StreamFollower(bus, stream.output.name)
    serving = follower.read()
    follower.close()
    name = service.name
    output = serving.topic if serving else stream.output.name
    group = group_of(name, serving)
    forecasts = isinstance(service.predictor, Forecaster)
    if forecasts and not _held(bus, stream.source.name):
        yield Finding(f"{name} group", True, f"{stream.source.name} is empty: nothing to read, nothing to forecast")
        return
    yield _group(bus, name, group, stream.source.name, f"`kappawatt consume {name}`")
    yield _newest_forecast(bus, name, output) if forecasts else _probe(bus, name, stream, output, seconds)


def _held(bus: Bus, topic: str) -> int:
    """How many messages a topic holds."""
    return sum(o.end - o.begin for o in bus.offsets(topic).values())


def _newest_forecast(bus: Bus, name: str, output: str) -> Finding:
    """What a probe cannot tell: weeks of history would stay in the log, under a series that never was."""
    ends = {(output, p): max(o.begin, o.end - 1) for p, o in bus.offsets(output).items()}
    reader = bus.reader([output], ends)
    found: list[dict[str, Any]] = []
    try:
        deadline = time.monotonic() + READ_SECONDS
        while time.monotonic() < deadline and len(found) < _with_messages(bus, output):
            found += read_documents(reader.poll(0.25))
    finally:
        reader.close()
    skipped = "no probe, it would need weeks of history"
    if not found:
        return Finding(f"{name} forecasts", True, f"{skipped}; none on {output} yet")
    newest = max(found, key=lambda document: int(document["published"]))
    age = max(0.0, time.time() - int(newest["published"]) / 1000)
    detail = (
        f"{skipped}; newest on {output}: {newest.get('key')} as of {newest.get('issue_time')} "
        f"by version {newest.get('version')}, published {age:,.0f} s ago"
    )
    return Finding(f"{name} forecasts", True, detail)


def _with_messages(bus: Bus, topic: str) -> int:
    """How many partitions of a topic hold a message."""
    return sum(o.end > o.begin for o in bus.offsets(topic).values())


def _group(bus: Bus, name: str, group: str, topic: str, starts_with: str) -> Finding:
    committed = bus.committed(group, topic)
    if not committed:
        return Finding(f"{name} group", False, f"{group} never read {topic}; start it with {starts_with}")
    ends = bus.offsets(topic)
    behind = {p: o.end - committed.get(p, o.begin) for p, o in ends.items()}
    return Finding(f"{name} group", True, f"{group} is {sum(behind.values())} messages behind on {topic} {behind}")


def _probe(bus: Bus, name: str, stream: Stream, output: str, seconds: float) -> Finding:
    row = {f.name: f.example for f in stream.source.message.required} if stream.source.message else {}
    before = {(t, p): o.end for t in (output, stream.dead.name) for p, o in bus.offsets(t).items()}
    reader = bus.reader([output, stream.dead.name], before)
    producer = bus.producer()
    try:
        started = time.monotonic()
        headers = (("content-type", JSON.encode()),)
        producer.publish([Outgoing(stream.source.name, orjson.dumps(row), PROBE_KEY, headers)])
        sent = time.monotonic() - started
        while time.monotonic() - started < seconds:
            polled = reader.poll(0.25)
            for document in read_predictions(polled):
                if document.get("key") == PROBE_KEY.decode():
                    took = time.monotonic() - started
                    detail = (
                        f"stored after {sent * 1000:.0f} ms, answered on {output} after {took * 1000:.0f} ms "
                        f"by version {document['version']}"
                    )
                    return Finding(f"{name} probe", True, detail)
            for letter in read_dead_letters(polled):
                if letter.get("key") == PROBE_KEY.decode():
                    return Finding(f"{name} probe", False, f"refused: {letter['message']}")
    finally:
        producer.close()
        reader.close()
    return Finding(f"{name} probe", False, f"no answer on {output} within {seconds:g} s")
