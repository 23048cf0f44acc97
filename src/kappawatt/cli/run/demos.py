"""The streams of the stack: whether their services can run here, and the series that are streamed through them.

A series' past goes first, as blocks; then its hours follow faster than life. What the bus has of a series already is
not sent again: a stack that is started anew goes on where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kappawatt.bus import Bus
from kappawatt.bus.interface import Records
from kappawatt.bus.reading import read_span
from kappawatt.datasets.named import SeriesSet, series_set
from kappawatt.datasets.reading.assemble import Found
from kappawatt.errors import ArtifactInvalid, BusError, KappawattError, ModelNotFound, SettingInvalid
from kappawatt.forecasting.calendar import DAY
from kappawatt.ingest import SeriesRows, http_sender, send_series, series_rows
from kappawatt.messages.readings import decoded_messages
from kappawatt.serving.service import Service, find_service
from kappawatt.settings import Settings
from kappawatt.streams.series import INTERVAL_START
from kappawatt.streams.stream import Demo, Stream, resolve
from kappawatt.streams.table import STREAMS

__all__ = ["PARTS", "Part", "newest_on", "part_of", "prepare", "streaming", "usable", "what_the_error_means"]

HOUR = 3600
MOST_SERIES = 8  # streamed at once
LIVE_DAYS = 2 * 365  # of a long series, the last so many are streamed and what is before is history
LEAST_LIVE_DAYS = 28
LOOKED_AT = 500  # messages at the end of each partition, to find where a stream had got to
JOIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Part:
    """One stream of the stack, and the data that is streamed through it."""

    stream: Stream
    demo: Demo

    own: SeriesSet | None = None  # of a person's file, instead of the demo's

    @property
    def name(self) -> str:
        """What the command line and the watch line call it."""
        return self.stream.name

    def data(self, folder: Path | None) -> Any:
        """Return the data set: a `SeriesSet` of a stream whose rows are intervals, else a `Dataset`."""
        return self.own or resolve(self.demo.data)(folder)


def part_of(found: Found, name: str) -> Part:
    """Return the part that streams a file's series.

    Raises
    ------
    SettingInvalid
        Nothing is streamed through the stack of that kind.
    """
    stream = found.series[0].stream
    if stream.demo is None:
        raise SettingInvalid.of("--file", stream.title, f"one of {', '.join(part.name for part in PARTS)}")
    return Part(stream, stream.demo, series_set(tuple(found.series), f"your file {name}"))


PARTS = tuple(Part(stream, stream.demo) for stream in STREAMS if stream.demo is not None)


def usable(part: Part, settings: Settings) -> Service | str:
    """Return the part's service, or why it cannot run here; SettingInvalid if settings pin a version it has not."""
    try:
        service = find_service(part.stream.service)
    except (KappawattError, ImportError) as error:
        return str(error)
    if service.model is None or service.stream is not part.stream:
        return f"{service.name} does not answer {part.name}"
    root = service.artifacts(settings)
    if not ((root / "CURRENT").exists() or (root / "manifest.json").exists()):
        return f"{root} holds no trained model; kappawatt train {service.name} makes one"
    try:
        service.artifact(settings)
    except (ArtifactInvalid, ModelNotFound) as error:
        return str(error)
    return service


def prepare(part: Part, service: Service, found: SeriesSet, bus: Bus) -> tuple[list[SeriesRows], str]:
    """Return what is to be streamed of each series, and what that is for a person."""
    history = max(part.demo.history_days, round(service.modelled().looks_back / DAY))
    known = newest_on(bus, part.stream)
    rows = []
    for series in found.series[:MOST_SERIES]:
        whole = series_rows(series)
        times = whole.live.columns["interval_start"]
        if series.key in known:
            rest = np.flatnonzero(times > known[series.key])
            rows.append(replace(whole, live=whole.live.take(rest)))
            continue
        span = (times[-1] - times[0]) / DAY
        live = min(LIVE_DAYS, max(LEAST_LIVE_DAYS, span - history))
        turn = f"{np.datetime_as_string(times[-1] - round(live) * DAY, unit='s')}+00:00"
        rows.append(whole.between(turn, backfill=float(history)))
    before = f"{history // 7} weeks of history first" if not known else "going on where the bus is"
    more = f", {len(found.series) - MOST_SERIES} more left out" if len(found.series) > MOST_SERIES else ""
    return rows, f"{len(rows)} series, {found.source}{more}; {before}"


def what_the_error_means(service: Service, settings: Settings, found: SeriesSet) -> str:
    """Say what the error shown is to be compared with; "" if the model has not seen these series in training."""
    data = service.artifact(settings).manifest.data
    if found.is_synthetic:
        return "; the model was trained on other series, so its error on synthetic ones says nothing"
    if data.get("sha256") == found.sha256:
        return "; the model was trained on these series, so the error below is better than on new ones"
    return ""


def newest_on(bus: Bus, stream: Stream) -> dict[str, np.datetime64]:
    """Return the start of the newest interval that the bus has of each series, as far as its ends show."""
    topic = stream.readings.name
    begin = {(topic, p): known.end - LOOKED_AT for p, known in bus.offsets(topic).items()}
    newest: dict[str, np.datetime64] = {}
    try:
        for polled in read_span(bus, [topic], begin):
            for name, last in _last_intervals(polled, stream):
                newest[name] = max(newest.get(name, last), last)
    except BusError:
        return newest  # as far as it was read
    return newest


def _last_intervals(polled: Sequence[Records], stream: Stream) -> Iterator[tuple[str, np.datetime64]]:
    """Yield the start of each message's last interval with its series."""
    for records in polled:
        for message, batch, rows in decoded_messages(records, stream.schema):
            key, valid = records.keys[message], rows[batch.valid[rows]]
            if key is not None and len(valid):
                yield key.decode("utf-8", "replace"), batch.columns[INTERVAL_START.name][valid].max()


@contextmanager
def streaming(
    rows: Sequence[SeriesRows], url: str, pace: float, stopped: threading.Event, say: Callable[[str], None]
) -> Iterator[None]:
    """Stream series side by side, each at `pace` hours a second, while the block runs."""

    def stream(one: SeriesRows) -> None:
        seconds = {float(s) for s in one.live.columns.get("interval_seconds", np.array([HOUR]))[:1]}
        send = http_sender(one.stream, url, "")
        try:
            summary = send_series([one], send=send, rate=pace * HOUR / seconds.pop(), stopped=stopped)
        except KappawattError as error:
            say(f"  {one.key}: streaming ended: {error}")
            return
        if not stopped.is_set():
            say(f"  {one.key}: all there is has been sent ({summary.accepted} rows)")

    threads = [threading.Thread(target=stream, args=(one,), name=f"ingest {one.key}", daemon=True) for one in rows]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join(JOIN_SECONDS)
