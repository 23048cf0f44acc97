"""Whether answers come: a reading sent through, or the newest forecast looked at."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson

from kappawatt.bus.interface import Bus, Outgoing
from kappawatt.columns.content import JSON
from kappawatt.messages.dead_letters import read_dead_letters
from kappawatt.messages.envelopes import BARE
from kappawatt.messages.forecasts import read_documents
from kappawatt.messages.predictions import read_predictions
from kappawatt.streams.stream import Stream

__all__ = ["PROBE_KEY", "Finding", "messages_on", "newest_forecast", "send_probe"]

PROBE_KEY = b"kappawatt-doctor"
READ_SECONDS = 5.0  # for the newest forecasts


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    is_well: bool
    detail: str
    is_warning: bool = False

    def __str__(self) -> str:
        mark = "FAIL" if not self.is_well else "warn" if self.is_warning else "ok  "
        return f"{mark} {self.check}: {self.detail}"


def messages_on(bus: Bus, topic: str) -> int:
    """Return how many messages a topic holds."""
    return sum(o.end - o.begin for o in bus.offsets(topic).values())


def newest_forecast(bus: Bus, name: str, stream: Stream, output: str) -> Finding:
    """Look at what is there: a probe would need weeks of history, which would stay in the log."""
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


def send_probe(bus: Bus, name: str, stream: Stream, output: str, seconds: float) -> Finding:
    """Publish a reading of the schema's own examples and wait for its answer; it stays in the log like any other."""
    before = {(t, p): o.end for t in (output, stream.dead.name) for p, o in bus.offsets(t).items()}
    reader = bus.reader([output, stream.dead.name], before)
    producer = bus.producer()
    try:
        started = time.monotonic()
        headers = (("content-type", JSON.encode()), BARE)
        producer.publish([Outgoing(stream.readings.name, orjson.dumps(stream.example_row()), PROBE_KEY, headers)])
        sent = time.monotonic() - started
        while time.monotonic() - started < seconds:
            polled = reader.poll(0.25)
            for document in read_predictions(polled):
                if document.get("key") == PROBE_KEY.decode():
                    took = time.monotonic() - started
                    detail = (
                        f"stored after {sent * 1000:.0f} ms, answered on {output} after {took * 1000:.0f} ms "
                        f"by version {document.get('version')}"
                    )
                    return Finding(f"{name} probe", True, detail)
            for letter in read_dead_letters(polled):
                if letter.get("key") == PROBE_KEY.decode():
                    return Finding(f"{name} probe", False, f"refused: {letter.get('message')}")
    finally:
        producer.close()
        reader.close()
    return Finding(f"{name} probe", False, f"no answer on {output} within {seconds:g} s")
