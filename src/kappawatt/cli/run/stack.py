"""Everything at once: the plant first, so that predictions are there in seconds, forecasts as their models load."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kappawatt.bus import Bus, connect_as
from kappawatt.bus.reading import ends_of
from kappawatt.cli.run.demos import PARTS, Part, prepare, streaming, usable, what_the_error_means
from kappawatt.cli.run.processes import LOST_SECONDS, STOP_SECONDS, Child, Stack, free_port
from kappawatt.cli.run.watch import ForecastWatch, Watch
from kappawatt.datasets.named import Dataset
from kappawatt.errors import KappawattError
from kappawatt.ingest import http_sender, send_columns
from kappawatt.models.artifact import Manifest
from kappawatt.serving.service import Service, find_service
from kappawatt.settings import Settings
from kappawatt.streams.table import TOPICS

__all__ = ["PARTS", "run_stack", "store_name"]

JOIN_SECONDS = 3.0
FORECAST_SECONDS = 5  # between two lines on forecasts

Say = Callable[[str], None]


class _Run:
    """One run: who listens where, what was started, what is watched."""

    def __init__(
        self, settings: Settings, folder: Path, parts: Sequence[Part], say: Say, stopped: threading.Event
    ) -> None:
        self.settings = settings
        self.say = say
        self.stopped = stopped
        self._folder = folder
        self.parts: dict[str, tuple[Part, Service]] = {}
        for part in parts:
            found = usable(part, settings)
            if isinstance(found, str):
                say(f"{part.name:10} left out: {found}")
            else:
                self.parts[part.name] = part, found
        names = [service.name for _, service in self.parts.values()]
        self.ports = {name: free_port(find_service(name).port) for name in (*names, "sensor-ingestor", "gateway")}
        self.ports |= {f"{name} consume": free_port(find_service(name).work_port) for name in (*names, "sink")}
        self.ports["sink"] = self.ports["sink consume"]
        known = (*names, "sensor-ingestor", "sink")
        self._common = {
            "KAPPAWATT_BUS": settings.bus,
            "KAPPAWATT_KAFKA_CLIENT": settings.kafka_client,
            "KAPPAWATT_DATABASE": settings.database,
            "KAPPAWATT_SERVICES": ",".join(f"{name}={self.url(name)}" for name in known),
            "PYTHONUNBUFFERED": "1",
        }
        self.stack = Stack(stopped=stopped)
        self.watches: list[tuple[str, Watch]] = []
        self.forecast_watches: list[ForecastWatch] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def ingestor(self) -> str:
        """The ingestor as a client sees it: behind the gateway."""
        return f"{self.url('gateway')}/api/sensor-ingestor"

    def serve(self, name: str, label: str | None = None) -> Child:
        return self._child(label or name, "serve", name, port=self.ports[name])

    def model(self, name: str) -> list[Child]:
        """The two processes of a model: one that serves, one that consumes."""
        return [self.serve(name, f"{name} serve"), self.consume(name, f"{name} consume")]

    def consume(self, name: str, label: str | None = None) -> Child:
        port = self.ports[f"{name} consume"]
        return self._child(label or name, "consume", name, port=port, is_probe=True)

    def _child(self, label: str, *arguments: str, port: int, is_probe: bool = False) -> Child:
        own = {"KAPPAWATT_PROBE_PORT" if is_probe else "KAPPAWATT_PORT": str(port)}
        log = self._folder / "logs" / f"{label.replace(' ', '-')}.log"
        return Child(label, list(arguments), f"http://127.0.0.1:{port}/readyz", self._common | own, log)


def run_stack(
    settings: Settings,
    folder: Path,
    *,
    rate: float,
    pace: float = 1.0,
    parts: Sequence[Part] = PARTS,
    say: Say,
    stopped: threading.Event,
    lost: threading.Event | None = None,
) -> None:
    """Run ingestor, models (serve and consume), sink and gateway, and stream data through them.

    Parameters
    ----------
    rate : float
        Readings a second of a stream whose rows stand by themselves.
    pace : float
        Hours a second of streams whose rows are intervals of a series.
    parts : sequence of Part
        What is streamed. A service without a trained model is left out, and said so.
    stopped : Event
        Set by whoever wants it to end.
    lost : Event, optional
        Set before that if the bus is gone for good: then nobody waits for what processes would still publish.
    """
    run = _Run(settings, folder, parts, say, stopped)
    if not run.parts:
        raise KappawattError("nothing to run")
    rows = [(part, service) for part, service in run.parts.values() if not part.stream.steps]
    readings = [_readings(part, settings, say) for part, _ in rows]
    mark = "SYNTHETIC  " if any(dataset.is_synthetic for dataset in readings) else ""
    bus = connect_as(settings)
    bus.ensure(TOPICS)
    models = [child for _, service in rows for child in run.model(service.name)]
    try:
        run.stack.start([*models, run.consume("sink"), run.serve("sensor-ingestor"), run.serve("gateway")], say)
        with ExitStack() as streams:
            for (part, service), dataset in zip(rows, readings, strict=True):
                streams.enter_context(_rows(run, bus, part, service, dataset, rate))
            say(f"\n  dashboard  {run.url('gateway')}/   API  {run.url('gateway')}/docs   Ctrl-C stops\n")
            streams.enter_context(_forecasts(run, bus, pace))
            for second in itertools.count():
                if stopped.wait(1.0):
                    break
                for name, watch in run.watches:
                    say(mark + (f"{name}  " if len(run.watches) > 1 else "") + watch.look())
                if run.forecast_watches and second % FORECAST_SECONDS == 0:
                    say("   ".join(watch.look() for watch in list(run.forecast_watches)))
                run.stack.revive(say)
        for _, watch in run.watches:
            watch.close()
        for forecast_watch in run.forecast_watches:
            forecast_watch.close()
    finally:
        say("stopping")
        run.stack.stop(LOST_SECONDS if lost is not None and lost.is_set() else STOP_SECONDS)
        bus.close()
        say("stopped")


def _readings(part: Part, settings: Settings, say: Say) -> Dataset:
    """Load a part's readings and say where they are from."""
    dataset: Dataset = part.data(settings.data)
    say(f"data       {len(dataset)} readings, {dataset.source}")
    if dataset.is_synthetic:
        say(f"           THIS IS SYNTHETIC DATA: no {part.stream.key.noun} ever said it")
    return dataset


def store_name(bus: str | None, own_broker: bool) -> str:
    """Return the file name of the analytics store of a bus: ids of another bus would overwrite its rows."""
    if bus is None:
        return "kappawatt.duckdb"
    name = "kafka" if own_broker else re.sub(r"[^A-Za-z0-9]+", "-", bus).strip("-")
    return f"kappawatt-{name}.duckdb"


@contextmanager
def _rows(run: _Run, bus: Bus, part: Part, service: Service, readings: Dataset, rate: float) -> Iterator[None]:
    """Stream rows that stand by themselves, and watch the predictions."""
    run.say(_held_out(part, service.open(run.settings).manifest, readings))
    run.watches.append((part.name, Watch(bus, part.stream)))
    example = part.stream.key.example
    key = f"synthetic-{example}" if readings.is_synthetic else example
    thread = threading.Thread(
        target=send_columns,
        args=(part.stream, readings.columns),
        kwargs={
            "send": http_sender(part.stream, run.ingestor, key),
            "rate": rate,
            "loop": True,
            "stopped": run.stopped,
        },
        name=f"ingest {part.name}",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        run.stopped.set()
        thread.join(JOIN_SECONDS)


@contextmanager
def _forecasts(run: _Run, bus: Bus, pace: float) -> Iterator[None]:
    """Start the forecasting services one after the other, beside what runs already."""
    thread = threading.Thread(target=_start_forecasts, args=(run, bus, pace), name="forecasts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        run.stopped.set()
        thread.join(2 * JOIN_SECONDS)


def _start_forecasts(run: _Run, bus: Bus, pace: float) -> None:
    with ExitStack() as streams:
        own = connect_as(run.settings)  # a bus belongs to the thread that asks it
        streams.callback(own.close)
        for part, service in [(part, service) for part, service in run.parts.values() if part.stream.steps]:
            children = run.model(service.name)
            try:
                found = part.data(run.settings.data)
                rows, text = prepare(part, service, found, own)
                meaning = what_the_error_means(service, run.settings, found)
                run.stack.start(children, run.say)
            except KappawattError as error:
                run.say(f"{part.name:10} left out: {error}")
                run.stack.drop(children)
                continue
            if run.stopped.is_set():
                return
            mark = "SYNTHETIC DATA, nobody ever measured it: " if found.is_synthetic else ""
            del found  # years of all series; what is streamed has been taken out
            run.say(f"{part.name:10} {mark}{text}, then {pace:g} h/s{meaning}")
            stream = part.stream
            since = ends_of(own, [stream.answers.name, stream.forecast_errors.name])
            run.forecast_watches.append(ForecastWatch(bus, stream, since))
            streams.enter_context(streaming(rows, run.ingestor, pace, run.stopped, run.say))
        run.stopped.wait()


def _held_out(part: Part, manifest: Manifest, dataset: Dataset) -> str:
    """Say what the error shown is to be compared with."""
    held_out = manifest.metrics.get("holdout_30", {}).get("mae")
    unit = part.stream.answer.field(part.stream.target).unit
    line = f"\n  model      {manifest.version}" + (f", MAE {held_out:.2f} {unit} on rows held out" if held_out else "")
    if dataset.is_synthetic and dataset.sha256 != manifest.data.get("sha256"):
        return f"{line}; trained on real readings, so the error on synthetic ones says nothing"
    return f"{line}; it was trained on these readings, so the error below is better"
