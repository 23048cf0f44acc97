"""The forecasting services of the stack: whether they can run, and the series that are streamed through them.

A series' past goes first, as blocks; then its hours follow faster than life. What the bus has of a series already is
not sent again: a stack that is started anew goes on where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kappawatt.bus import Bus
from kappawatt.columns.codec import decode
from kappawatt.columns.content import READABLE
from kappawatt.datasets import named as datasets
from kappawatt.datasets.named import SeriesSet
from kappawatt.errors import BusError, KappawattError, PayloadInvalid
from kappawatt.forecasting.calendar import DAY
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.ingest import LOAD, METER, Intake, SeriesRows, http_sender, series_rows, stream_series
from kappawatt.messages.readings import content_type
from kappawatt.models.artifact import find_artifact
from kappawatt.serving.models import artifact_root
from kappawatt.serving.service import Service, find_service
from kappawatt.settings import Settings

__all__ = ["DEMOS", "Demo", "newest_on", "prepare", "streaming", "usable", "what_the_error_means"]

HOUR = 3600
MOST_SERIES = 8  # streamed at once
LIVE_DAYS = 2 * 365  # of a long series, the last so many are streamed and what is before is history
LEAST_LIVE_DAYS = 28
LOOKED_AT = 500  # messages at the end of each partition, to find where a stream had got to
JOIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Demo:
    """One forecasting service and its data.

    Parameters
    ----------
    name : str
        What the command line and the watch line call it.
    service : str
    intake : Intake
    data : callable
        Folder (or None) to series.
    history : int
        Days sent at once before the stream begins, or as many as the model looks back on if that is more.
    """

    name: str
    service: str
    intake: Intake
    data: Callable[[Path | None], SeriesSet]
    history: int


DEMOS = (
    Demo("load", "hourly-load", LOAD, datasets.load_zones, 62 * 7),
    Demo("meter", "smart-meter", METER, datasets.meters, 6 * 7),
)


def usable(demo: Demo, settings: Settings) -> Service | str:
    """Return the demo's service, or why it cannot run here."""
    try:
        service = find_service(demo.service)
    except (KappawattError, ImportError) as error:
        return str(error)
    if service.stream is None or service.stream.errors is None or not isinstance(service.predictor, Forecaster):
        return f"{demo.service} does not forecast from the bus"
    root = artifact_root(service, settings)
    if not ((root / "CURRENT").exists() or (root / "manifest.json").exists()):
        return f"{root} holds no trained model; kappawatt train {demo.service} makes one"
    return service


def prepare(demo: Demo, service: Service, found: SeriesSet, bus: Bus) -> tuple[list[SeriesRows], str]:
    """Return what is to be streamed of each series, and what that is for a person."""
    assert isinstance(service.predictor, Forecaster)
    history = max(demo.history, round(service.predictor.depth / DAY))
    known = newest_on(bus, demo.intake)
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
    data = find_artifact(artifact_root(service, settings), settings.model_version or None).manifest.data
    if found.is_synthetic:
        return "; the model was trained on other series, so its error on synthetic ones says nothing"
    if data.get("sha256") == found.sha256:
        return "; the model was trained on these series, so the error below is better than on new ones"
    return ""


def newest_on(bus: Bus, intake: Intake) -> dict[str, np.datetime64]:
    """Return the start of the newest interval that the bus has of each series, as far as its ends show."""
    topic = intake.topic.name
    offsets = bus.offsets(topic)
    reader = bus.reader([topic], {(topic, p): max(o.begin, o.end - LOOKED_AT) for p, o in offsets.items()})
    newest: dict[str, np.datetime64] = {}
    try:
        while any(reader.positions().get((topic, p), 0) < o.end for p, o in offsets.items() if o.end > o.begin):
            for records in reader.poll(1.0):
                for key, value, headers in zip(records.keys, records.values, records.headers, strict=True):
                    kind = content_type(headers, value)
                    if key is None or kind not in READABLE:
                        continue
                    try:
                        batch = decode(value, kind, intake.schema).batch
                    except PayloadInvalid:
                        continue
                    if batch.valid.any():
                        name, last = key.decode("utf-8", "replace"), batch.columns["interval_start"][batch.valid].max()
                        newest[name] = max(newest.get(name, last), last)
    except BusError:
        return newest
    finally:
        reader.close()
    return newest


@contextmanager
def streaming(
    rows: Sequence[SeriesRows], url: str, pace: float, stopped: threading.Event, say: Callable[[str], None]
) -> Iterator[None]:
    """Stream series side by side, each at `pace` hours a second, while the block runs."""

    def stream(one: SeriesRows) -> None:
        seconds = {float(s) for s in one.live.columns.get("interval_seconds", np.array([HOUR]))[:1]}
        send = http_sender(url, "", intake=one.intake)
        try:
            summary = stream_series([one], send=send, rate=pace * HOUR / seconds.pop(), stopped=stopped)
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
