"""The loop: each source when it is due, what is new of it to the bus, and how it went in a metric and the log.

Failures of a source are logged and counted, and never end the loop. One process of a state folder asks; the others
wait for its place.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.bus.interface import Bus
from kappawatt.bus.retrying import RetryingThread
from kappawatt.columns.batch import Batch
from kappawatt.errors import PayloadInvalid
from kappawatt.ingest.senders import bus_sender
from kappawatt.ingest.weather.asking import Reply, SourceFailed, ask, look, shown
from kappawatt.ingest.weather.mosmix import read_mosmix
from kappawatt.ingest.weather.open_meteo import read_open_meteo
from kappawatt.ingest.weather.remembered import Remembered, load, save
from kappawatt.ingest.weather.stations import Station
from kappawatt.ingest.weather.weather import Weather
from kappawatt.streams.load import STREAM, TEMPERATURE
from kappawatt.streams.rules import screened

__all__ = ["LOOK_SECONDS", "Outcome", "Sources", "WeatherLoop", "rows_of", "state_folder"]

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0  # between two looks at what is due, and at whether another process is gone
FIRST_RETRY, LAST_RETRY = 60.0, 3_600.0  # s, doubled from failure to failure
LONGEST_WAIT = 2 * 86_400.0  # s; who is due later was noted by a clock that has been set back since
SPREAD = (1.0, 1.1)  # of the time between two questions, so that not all ask at the full hour
AHEAD = np.timedelta64(15, "D")  # as far as the door takes it
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one station went.

    Parameters
    ----------
    result : str
        `published`, `unchanged`, `not_due`, `failed` (no answer, or none that is weather) or `unreadable`.
    rows : int
        Put on the bus.
    said : str
        For a person.
    """

    station: Station
    result: str
    rows: int
    said: str


def state_folder(state: Path | None, bus: str) -> Path:
    """Return where sources are remembered: below `state`, else beside the embedded bus, else below `.run`."""
    if state is not None:
        return state / "weather"
    scheme, _, rest = bus.partition(":")
    if scheme == "embedded":
        path = Path(rest).expanduser().absolute()
        return path.with_name(path.name + ".weather")
    return Path(".run", "weather").absolute()


def rows_of(station: Station, weather: Weather, known: Mapping[str, Mapping[str, float]], now: float) -> Batch:
    """Return rows of a load series: what is new of a station's weather; rows that cannot be are in the rejections.

    Parameters
    ----------
    known : mapping
        What the bus has, by field and start [ms since 1970].
    now : float
        When it was fetched [s since 1970]: from then on it is known.
    """
    at = np.datetime64(int(now * 1000), "ms")
    starts = weather.starts
    columns: dict[str, NDArray[Any]] = {}
    for quantity, values in weather.columns.items():
        name = station.field(quantity)
        before = known.get(name, {})
        old = np.array([before.get(str(start), np.nan) for start in starts.astype(np.int64).tolist()], np.float64)
        columns[name] = np.where(values == old, np.nan, values)
    is_new = np.any([~np.isnan(column) for column in columns.values()], axis=0) & (starts < at + AHEAD)
    n = int(is_new.sum())
    given: dict[str, NDArray[Any]] = {name: column[is_new] for name, column in columns.items()}
    given |= {"interval_start": starts[is_new], "available_at": np.full(n, at)}
    if weather.issue_time is not None:
        given["weather_issue_time"] = np.full(n, weather.issue_time)
    if station.time_zone:
        given["time_zone"] = np.full(n, station.time_zone, object)
    batch = STREAM.schema.check(given, n)
    return screened(STREAM, batch, station.load_zone) if n else batch


class Sources:
    """All sources, asked when they are due.

    Parameters
    ----------
    stations : sequence of Station
    folder : Path
        Where they are remembered.
    bus : Bus or None
        None publishes nothing and remembers nothing.
    count : callable, optional
        Told (source, result) of each station.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        stations: Sequence[Station],
        folder: Path,
        bus: Bus | None,
        count: Callable[[str, str], None] = lambda source, result: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        import urllib3

        self._by_address: dict[str, list[Station]] = {}
        for station in stations:
            self._by_address.setdefault(station.address, []).append(station)
        self._folder = folder
        self._bus = bus
        self._count = count
        self._clock = clock
        self._pool = urllib3.PoolManager()
        self._newest: dict[str, Remembered] = {}
        self._arrived: dict[str, tuple[Reply, float]] = {}  # what the bus did not take yet
        self._send = None if bus is None else bus_sender(STREAM, bus, "", patience=PATIENCE_SECONDS)

    def round(self) -> list[Outcome]:
        """Ask what is due, and publish what is new.

        Raises
        ------
        BusError
            The bus takes nothing. What came is kept, and not asked for again.
        """
        return [outcome for address in self._by_address for outcome in self._one(address)]

    def _one(self, address: str) -> list[Outcome]:
        stations, now = self._by_address[address], self._clock()
        # First of all: what does not answer here must not be noticed only once the source was asked.
        bus_log = "" if self._bus is None else self._bus.log_id(STREAM.readings.name)
        before = self._before(address)
        if before.log != bus_log:  # another bus, or a topic made again: it has nothing yet
            before = replace(before, etag="", last_modified="", issued={}, published={}, due=min(before.due, now))
        if now < before.due <= now + LONGEST_WAIT and address not in self._arrived:
            at = np.datetime64(int(before.due), "s")
            return [Outcome(station, "not_due", 0, f"not due before {at}Z") for station in stations]
        if any(str(station) not in before.published for station in stations):  # one that has joined
            before = replace(before, etag="", last_modified="")
        every = 60.0 * min(station.every_minutes for station in stations)
        try:
            reply, asked = self._arrived.get(address) or (self._ask(stations[0], before), now)
        except SourceFailed as error:
            wait = min(FIRST_RETRY * 2.0 ** min(before.failures, 10), LAST_RETRY) * random.uniform(0.75, 1.25)  # noqa: S311
            due = now + max(wait, error.retry_after or 0.0)
            failed = replace(before, due=due, asked=now, failures=before.failures + 1, log=bus_log)
            self._remember(address, failed)
            more = {"source": shown(address), "error": str(error), "failures": failed.failures}
            log.warning("a weather source failed", extra=more)
            return [self._outcome(station, "failed", 0, str(error)) for station in stations]
        self._arrived[address] = reply, asked
        found = [self._publish(station, reply, asked, before) for station in stations]
        wait = max(every * random.uniform(*SPREAD), reply.fresh_seconds)  # noqa: S311 (jitter, not a secret)
        is_read = all(outcome.result != "unreadable" for outcome, _, _ in found)
        published = {str(station): new for station, (_, new, _) in zip(stations, found, strict=True)}
        self._remember(
            address,
            Remembered(
                due=asked + wait,
                asked=asked,
                etag=reply.etag if is_read else "",
                last_modified=reply.last_modified if is_read else "",
                log=bus_log,
                issued={
                    str(s): issued for s, (_, _, issued) in zip(stations, found, strict=True) if issued is not None
                },
                published=published,
            ),
        )
        del self._arrived[address]
        return [outcome for outcome, _, _ in found]

    def _ask(self, station: Station, before: Remembered) -> Reply:
        if station.is_file:
            return look(station.address, before.etag)
        return ask(self._pool, station.address, before.etag, before.last_modified, self._clock())

    def _publish(
        self, station: Station, reply: Reply, asked: float, before: Remembered
    ) -> tuple[Outcome, Mapping[str, Mapping[str, float]], int | None]:
        """Publish what is new of one station; how it went, what the bus has then, and of which issue time."""
        known, issued = before.published.get(str(station), {}), before.issued.get(str(station))
        if reply.body is None:
            return self._outcome(station, "unchanged", 0, "the same as before"), known, issued
        try:
            weather = _read(station, reply.body)
            batch = rows_of(station, weather, known, asked)
        except PayloadInvalid as error:
            said = f"{shown(station.address)}: {error}"
            log.warning("a weather source cannot be read", extra={"station": str(station), "error": said})
            return self._outcome(station, "unreadable", 0, said), known, issued
        issue = None if weather.issue_time is None else int(weather.issue_time.astype(np.int64))
        if issue is not None and issued is not None and issue < issued:
            said = f"issued {weather.issue_time}Z, before what was published"
            return self._outcome(station, "unchanged", 0, said), known, issued
        rows = np.flatnonzero(batch.valid)
        said = _said(station, weather, batch, len(rows))
        if batch.rejections:
            reason = batch.rejections[0].message
            log.warning("weather that cannot be", extra={"station": str(station), "error": reason})
        if len(rows) and self._send is not None:
            named = batch.take(rows)
            keys = np.full(len(rows), station.load_zone, object)
            self._send(Batch({**named.columns, STREAM.key.name: keys}, named.valid))
        result = "published" if len(rows) else "unreadable" if batch.rejections else "unchanged"
        return self._outcome(station, result, len(rows), said), _known(known, batch, rows, asked), issue

    def _outcome(self, station: Station, result: str, rows: int, said: str) -> Outcome:
        self._count(station.source, result)
        return Outcome(station, result, rows, said)

    def _remember(self, address: str, remembered: Remembered) -> None:
        if self._bus is None:
            return
        self._newest[address] = remembered
        try:
            save(self._folder, address, remembered)
        except OSError as error:  # this process still knows it
            said = f"{self._folder}: got {error.strerror}, allowed a folder that can be written"
            log.error("a restart would ask a weather source again", extra={"source": shown(address), "error": said})

    def _before(self, address: str) -> Remembered:
        if self._bus is None:
            return Remembered()
        if address not in self._newest:
            self._newest[address] = load(self._folder, address)
        return self._newest[address]


def _read(station: Station, body: bytes) -> Weather:
    return read_mosmix(body, station.station) if station.source == "mosmix" else read_open_meteo(body)


def _known(
    known: Mapping[str, Mapping[str, float]], batch: Batch, rows: NDArray[np.intp], asked: float
) -> dict[str, dict[str, float]]:
    """What the bus has once these rows are there; hours of long ago are forgotten."""
    oldest = int((asked - 100 * 86_400) * 1000)
    found = {name: {k: v for k, v in values.items() if int(k) >= oldest} for name, values in known.items()}
    starts = batch.columns["interval_start"][rows].astype(np.int64).tolist()
    for name in (TEMPERATURE.name, *STREAM.schema.more_unbounded(batch.columns)):
        for start, value in zip(starts, batch.columns[name][rows].tolist(), strict=True):
            if value == value:
                found.setdefault(name, {})[str(start)] = value
    return found


def _said(station: Station, weather: Weather, batch: Batch, n: int) -> str:
    if not len(weather.starts):
        return "no value"
    first, last = (str(t.astype("datetime64[m]")) + "Z" for t in (weather.starts[0], weather.starts[-1]))
    issue = "" if weather.issue_time is None else f", issued {weather.issue_time.astype('datetime64[m]')}Z"
    refused = int((~batch.valid).sum())
    more = f"; {refused} refused: {batch.rejections[0].message}" if refused else ""
    names = ", ".join(map(station.field, weather.columns))
    return f"{n} new of {len(weather.starts)} hours, {first} to {last}{issue}: {names}{more}"


class WeatherLoop(RetryingThread):
    """Has sources asked for ever, by one process of a state folder.

    Parameters
    ----------
    stations : sequence of Station
    folder : Path
    connect : callable
        Opens the bus, once this process is the one that asks.
    count : callable
    """

    def __init__(
        self,
        stations: Sequence[Station],
        folder: Path,
        connect: Callable[[], Bus],
        count: Callable[[str, str], None],
    ) -> None:
        super().__init__("weather")
        self._stations = stations
        self._folder = folder
        self._connect = connect
        self._count = count
        self._bus: Bus | None = None
        self._sources: Sources | None = None

    def _run(self) -> None:
        with _alone(self._folder) as is_alone:
            while is_alone and not self.stopped.is_set():
                if self._sources is None:
                    self._bus = self._bus or self._connect()
                    self._bus.ensure([STREAM.readings])
                    self._sources = Sources(self._stations, self._folder, self._bus, self._count)
                for outcome in self._sources.round():
                    if outcome.result == "published":
                        log.info("weather", extra={"station": str(outcome.station), "said": outcome.said})
                self.stopped.wait(LOOK_SECONDS)
        self.stopped.wait(LOOK_SECONDS)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Hold the folder while the block runs; False if another process does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a")
    except OSError as error:
        raise SourceFailed(f"{folder}: got {error.strerror}, allowed a folder that can be written") from None
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # not on Windows, where nothing holds it
            pass
        except OSError:
            yield False
            return
        yield True
