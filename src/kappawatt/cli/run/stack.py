"""Everything at once: the plant first, so that predictions are there in seconds, forecasts as their models load."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kappawatt.bus import Bus, connect
from kappawatt.bus.topic import TOPICS
from kappawatt.cli.run.demos import DEMOS, Demo, prepare, streaming, usable, what_the_error_means
from kappawatt.cli.run.processes import Child, Stack, free_port
from kappawatt.cli.run.watch import ForecastWatch, Watch, ends_of
from kappawatt.datasets.named import Dataset
from kappawatt.errors import KappawattError
from kappawatt.ingest import http_sender, stream_columns
from kappawatt.models.artifact import Manifest
from kappawatt.serving.models import open_model
from kappawatt.serving.service import Service, find_service
from kappawatt.settings import Settings

__all__ = ["PARTS", "run_stack", "store_name"]

PARTS = ("plant", *(demo.name for demo in DEMOS))
PLANT, SYNTHETIC_PLANT = "plant-1", "synthetic-plant-1"
PROBE_PORT_OFFSET = 100
SINK_PORT = 8090
JOIN_SECONDS = 3.0
FORECAST_SECONDS = 5  # between two lines on forecasts

Say = Callable[[str], None]


class _Run:
    """One run: who listens where, what was started, what is watched."""

    def __init__(self, settings: Settings, folder: Path, only: str | None, say: Say, stopped: threading.Event) -> None:
        self.settings = settings
        self.say = say
        self.stopped = stopped
        self._folder = folder
        self.has_plant = only in (None, "plant")
        self.demos: dict[Demo, Service] = {}
        for demo in DEMOS:
            if only in (None, demo.name):
                found = usable(demo, settings)
                if isinstance(found, str):
                    say(f"{demo.name:10} left out: {found}")
                else:
                    self.demos[demo] = found
        names = [*(["plant-power"] if self.has_plant else []), *(demo.service for demo in self.demos)]
        self.ports = {name: free_port(find_service(name).port) for name in (*names, "sensor-ingestor", "gateway")}
        self.ports |= {f"{name} consume": free_port(find_service(name).port + PROBE_PORT_OFFSET) for name in names}
        self.ports["sink"] = free_port(SINK_PORT)
        known = (*names, "sensor-ingestor", "sink")
        self._common = {
            "KAPPAWATT_BUS": settings.bus,
            "KAPPAWATT_KAFKA_CLIENT": settings.kafka_client,
            "KAPPAWATT_DATABASE": settings.database,
            "KAPPAWATT_SERVICES": ",".join(f"{name}={self.url(name)}" for name in known),
            "PYTHONUNBUFFERED": "1",
        }
        self.stack = Stack(stopped=stopped)
        self.plant_watch: Watch | None = None
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
        port = self.ports[f"{name} consume"]
        consume = self._child(f"{name} consume", "consume", name, port=port, is_probe=True)
        return [self.serve(name, f"{name} serve"), consume]

    def sink(self) -> Child:
        return self._child("sink", "sink", port=self.ports["sink"], is_probe=True)

    def _child(self, label: str, *arguments: str, port: int, is_probe: bool = False) -> Child:
        own = {"KAPPAWATT_PROBE_PORT" if is_probe else "KAPPAWATT_PORT": str(port)}
        log = self._folder / "logs" / f"{label.replace(' ', '-')}.log"
        return Child(label, list(arguments), f"http://127.0.0.1:{port}/readyz", self._common | own, log)


def run_stack(
    settings: Settings,
    folder: Path,
    dataset: Callable[[], Dataset],
    *,
    rate: float,
    pace: float = 1.0,
    only: str | None = None,
    say: Say,
    stopped: threading.Event,
) -> None:
    """Run ingestor, models (serve and consume), sink and gateway, and stream data through them.

    Parameters
    ----------
    dataset : callable
        Gives the plant's readings.
    rate : float
        Plant readings a second.
    pace : float
        Hours a second of load zones and meters.
    only : str, optional
        One of `PARTS`; all if absent. A forecasting service without a trained model is left out, and said so.
    """
    readings = dataset() if only in (None, "plant") else None
    run = _Run(settings, folder, only, say, stopped)
    if not run.has_plant and not run.demos:
        raise KappawattError("nothing to run")
    bus = connect(settings.bus, settings.bus_options())
    bus.ensure(TOPICS)
    models = run.model("plant-power") if run.has_plant else []
    try:
        run.stack.start([*models, run.sink(), run.serve("sensor-ingestor"), run.serve("gateway")], say)
        with ExitStack() as streams:
            if readings is not None:
                streams.enter_context(_plant(run, bus, readings, rate))
            say(f"\n  dashboard  {run.url('gateway')}/   API  {run.url('gateway')}/docs   Ctrl-C stops\n")
            streams.enter_context(_forecasts(run, bus, pace))
            mark = "SYNTHETIC  " if readings is not None and readings.is_synthetic else ""
            for second in itertools.count():
                if stopped.wait(1.0):
                    break
                if run.plant_watch is not None:
                    say(mark + run.plant_watch.look())
                if run.forecast_watches and second % FORECAST_SECONDS == 0:
                    say("   ".join(watch.look() for watch in list(run.forecast_watches)))
                run.stack.revive(say)
        for watch in (run.plant_watch, *run.forecast_watches):
            if watch is not None:
                watch.close()
    finally:
        say("stopping")
        run.stack.stop()
        bus.close()
        say("stopped")


def store_name(bus: str | None, own_broker: bool) -> str:
    """Return the file name of the analytics store of a bus: ids of another bus would overwrite its rows."""
    if bus is None:
        return "kappawatt.duckdb"
    name = "kafka" if own_broker else re.sub(r"[^A-Za-z0-9]+", "-", bus).strip("-")
    return f"kappawatt-{name}.duckdb"


@contextmanager
def _plant(run: _Run, bus: Bus, readings: Dataset, rate: float) -> Iterator[None]:
    """Stream a plant's readings and watch the predictions."""
    service = find_service("plant-power")
    assert service.stream is not None
    assert service.predictor is not None
    run.say(_held_out(open_model(service, run.settings).manifest, readings))
    run.plant_watch = Watch(bus, service.stream.source.name, service.stream.output.name, service.predictor.target)
    key = SYNTHETIC_PLANT if readings.is_synthetic else PLANT
    thread = threading.Thread(
        target=stream_columns,
        args=(readings.columns,),
        kwargs={
            "send": http_sender(run.ingestor, key),
            "rate": rate,
            "loop": True,
            "stopped": run.stopped,
        },
        name="ingest",
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
        own = connect(run.settings.bus, run.settings.bus_options())  # a bus belongs to the thread that asks it
        streams.callback(own.close)
        for demo, service in run.demos.items():
            children = run.model(service.name)
            try:
                found = demo.data(run.settings.data)
                rows, text = prepare(demo, service, found, own)
                meaning = what_the_error_means(service, run.settings, found)
                run.stack.start(children, run.say)
            except KappawattError as error:
                run.say(f"{demo.name:10} left out: {error}")
                run.stack.drop(children)
                continue
            if run.stopped.is_set():
                return
            mark = "SYNTHETIC DATA, nobody ever measured it: " if found.is_synthetic else ""
            del found  # years of all series; what is streamed has been taken out
            run.say(f"{demo.name:10} {mark}{text}, then {pace:g} h/s{meaning}")
            assert service.stream is not None
            assert service.stream.errors is not None
            since = ends_of(own, [service.stream.output.name, service.stream.errors.name])
            run.forecast_watches.append(ForecastWatch(bus, demo.name, service.stream, since))
            streams.enter_context(streaming(rows, run.ingestor, pace, run.stopped, run.say))
        run.stopped.wait()


def _held_out(manifest: Manifest, dataset: Dataset) -> str:
    """Say what the error shown is to be compared with."""
    held_out = manifest.metrics.get("holdout_30", {})
    line = f"\n  model      {manifest.version}, MAE {held_out.get('mae', float('nan')):.2f} MW on rows held out"
    if dataset.is_synthetic:
        return f"{line}; trained on a real plant, so the error on synthetic readings says nothing"
    return f"{line}; it was trained on these readings, so the error below is better"
