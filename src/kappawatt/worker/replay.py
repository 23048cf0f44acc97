"""Replay: answer a span of a source topic again, with any model version, into a side topic.

It is the worker's own code (`Answering`) over a reader without a group, so the live stream is not touched. The
report compares with what is published; `promote` then lets the live workers and readers switch to the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Bus
from kappawatt.bus.promotions import PromotionFollower, Serving, group_of, promote
from kappawatt.bus.reading import read_span
from kappawatt.bus.topic import Topic
from kappawatt.errors import LogRenewed, SettingInvalid
from kappawatt.messages.forecasts import read_documents
from kappawatt.messages.portions import portions
from kappawatt.messages.predictions import read_predictions
from kappawatt.streams.stream import Stream
from kappawatt.streams.table import TOPICS
from kappawatt.worker.interface import Answers

__all__ = ["Report", "compare", "live_topic", "promote_replay", "replay", "span_start"]

ORIGIN = ("source_topic", "source_partition", "source_offset", "source_row", "key", "issue_time", "available_at")


@dataclass(slots=True)
class Report:
    """What a replay did, and how its answers differ from the published ones.

    Parameters
    ----------
    messages, rows, rejected : int
        Read, answered or refused, refused.
    compared, identical : int
        Answers with a published counterpart for the same reading; those equal to the last bit in all fields.
    max_difference, mean_difference : float or None
        Of the target, absolute, in its unit; None if nothing could be compared.
    log : str
        What was read: the identity of the source topic's log.
    begun, covered : mapping of int to int
        By source partition, the offset it started at, and the one up to which was answered (exclusive).
    """

    stream: str
    version: str
    to: str
    log: str = ""
    messages: int = 0
    rows: int = 0
    rejected: int = 0
    compared: int = 0
    identical: int = 0
    max_difference: float | None = None
    mean_difference: float | None = None
    seconds: float = 0.0
    begun: dict[int, int] = field(default_factory=dict)
    covered: dict[int, int] = field(default_factory=dict)
    promoted: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the report as a document."""
        return asdict(self) | {
            name: {str(p): o for p, o in getattr(self, name).items()} for name in ("begun", "covered")
        }

    def describe(self) -> str:
        """Return the report for a person."""
        lines = [
            f"{self.messages} messages, {self.rows} rows ({self.rejected} refused) answered by version {self.version} "
            f"into {self.to} in {self.seconds:.1f} s",
        ]
        if self.compared:
            line = f"{self.compared} compared with what is published: {self.identical} identical"
            if self.max_difference is not None:  # None: the target is text
                line += f", difference max {self.max_difference:.4f}, mean {self.mean_difference:.4f}"
            lines.append(line)
        else:
            lines.append("nothing published to compare with")
        lines.append("promoted: workers and readers switch now" if self.promoted else "not promoted (--promote)")
        return "\n".join(lines)


def span_start(bus: Bus, topic: str, start: str) -> dict[int, int]:
    """Return the offset to start at in each partition.

    Parameters
    ----------
    start : str
        `beginning`, an offset (the same in every partition), or an ISO 8601 time with zone.
    """
    known = bus.offsets(topic)
    if start == "beginning":
        return {p: o.begin for p, o in known.items()}
    if start.isdigit():
        return {p: min(max(int(start), o.begin), o.end) for p, o in known.items()}
    moment: datetime | None
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise SettingInvalid(f"--from: got {start!r}, allowed beginning, an offset or an ISO 8601 time with zone")
    return bus.offsets_at(topic, int(moment.timestamp() * 1000))


def live_topic(bus: Bus, stream: Stream) -> str:
    """Return the topic that serves the stream now."""
    follower = PromotionFollower(bus, stream.answers.name)
    serving = follower.read()
    follower.close()
    return serving.topic if serving else stream.answers.name


def replay(
    bus: Bus,
    stream: Stream,
    answers: Answers,
    version: str,
    *,
    start: Mapping[int, int],
    to: str,
    max_records: int = 5000,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Answer from `start` up to the end the source has now, and publish into the topic `to`.

    Parameters
    ----------
    answers : Answers
        What answers, into the topic `to`.
    version : str
        Of the model that does.
    progress : callable
        (messages done, messages in all), called after each poll.

    Raises
    ------
    SettingInvalid
        `to` is the live topic, or a topic that others write.
    BusError
        The source stopped giving messages before its end.
    """
    if to == live_topic(bus, stream) or to in {topic.name for topic in TOPICS}:
        raise SettingInvalid(f"--to: got {to!r}, allowed a topic of its own, not one that is live")
    bus.ensure([_like(stream.answers, to)])
    report = Report(stream.answers.name, version, to, bus.log_id(stream.readings.name))
    ends = {p: o.end for p, o in bus.offsets(stream.readings.name).items()}
    began = time.monotonic()
    _run(bus, stream.readings.name, to, answers, start, ends, max_records, report, progress)
    report.seconds = time.monotonic() - began
    report.begun, report.covered = dict(start), ends
    return report


def _run(
    bus: Bus,
    source: str,
    to: str,
    answers: Answers,
    start: Mapping[int, int],
    ends: Mapping[int, int],
    max_records: int,
    report: Report,
    progress: Callable[[int, int], None],
) -> None:
    producer = bus.producer()
    total = sum(max(0, ends[p] - start.get(p, 0)) for p in ends)
    begin = {(source, p): offset for p, offset in start.items()}
    end = {(source, p): offset for p, offset in ends.items()}  # what comes later is the live stream's
    try:
        for polled in read_span(bus, [source], begin, end, max_records=max_records):
            if not polled:
                continue
            for portion in portions(polled):
                outcome = answers.answer(portion)
                # What was refused stands in the dead-letter topic already, under the same ids.
                producer.publish([m for m in outcome.outgoing if m.topic == to])
                report.rows += outcome.rows
                report.rejected += outcome.refused_rows
            report.messages += sum(map(len, polled))
            progress(report.messages, total)
    finally:
        producer.close()


def _like(topic: Topic, name: str) -> Topic:
    return replace(topic, name=name, producers=("replay",), meaning=f"a replay of {topic.name}")


def compare(bus: Bus, report: Report, published: str, target: str) -> None:
    """Fill in how the answers in the side topic differ from those in the topic `published`."""
    again = _by_origin(bus, report.to, report.log)
    total, worst, numbers = 0.0, 0.0, 0
    for origin, first in _by_origin(bus, published, report.log).items():
        second = again.get(origin)
        if second is None:
            continue
        report.compared += 1
        differences = _differences(first, second, target)
        if len(differences):
            numbers += 1
            total += float(differences.mean())
            worst = max(worst, float(differences.max()))
        keep = (*ORIGIN, "source_log", "id", "version", "published", "topic", "partition", "offset")
        report.identical += all(first[n] == second.get(n) for n in first if n not in keep)
    if numbers:
        report.max_difference = worst
        report.mean_difference = total / numbers


def _by_origin(bus: Bus, topic: str, log: str) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """All answers to readings of a log in a topic, by the reading they answer; the newest wins."""
    found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for polled in read_span(bus, [topic], {}):
        for document in (*read_predictions(polled), *read_documents(polled)):  # what is one is not the other
            if document.get("source_log", log) not in (log, ""):  # a release before wrote none
                continue
            found[tuple(document.get(name) for name in ORIGIN)] = document
    return found


def _differences(first: Mapping[str, Any], second: Mapping[str, Any], target: str) -> NDArray[np.float64]:
    """How far two answers are apart; empty if what they say is no number, or not as many."""
    values = [np.atleast_1d(np.asarray(_value(document, target))) for document in (first, second)]
    if any(value.dtype.kind not in "biuf" for value in values) or values[0].shape != values[1].shape:
        return np.empty(0)
    return np.abs(values[1].astype(np.float64) - values[0].astype(np.float64))


def _value(document: Mapping[str, Any], target: str) -> Any:
    """The target of a prediction, or the medians of a forecast; None if there is none."""
    return document["quantiles"].get("0.50") if "quantiles" in document else document.get(target)


def promote_replay(bus: Bus, report: Report, service: str, source: str, reason: str) -> None:
    """Make the result of a replay what workers and readers of its stream use.

    Raises
    ------
    LogRenewed
        The source was made again since: what was answered is not in it, and offsets of it mean nothing.
    SettingInvalid
        The replay began behind what was answered before.
    """
    now = bus.log_id(source)
    if now != report.log:
        raise LogRenewed.of(source, now, report.log)
    serving = Serving(report.stream, report.to, report.version, report.covered, reason)
    follower = PromotionFollower(bus, report.stream)
    done = bus.committed(group_of(service, follower.read()), source)
    follower.close()
    for partition, known in bus.offsets(source).items():
        begun, answered = report.begun.get(partition, known.begin), max(done.get(partition, 0), known.begin)
        if begun > answered:
            raise SettingInvalid(
                f"--from: got offset {begun} of {source}[{partition}], allowed {answered} or less for a promotion: "
                "what is between was never answered and would be left out"
            )
    promote(bus, serving, service, source)
    report.promoted = True
