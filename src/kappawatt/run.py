"""`kappawatt run`: the whole stream on one machine, as processes, until Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kappawatt.artifact import Manifest
from kappawatt.bus import Bus, connect
from kappawatt.bus.envelope import read_predictions
from kappawatt.bus.streams import StreamFollower
from kappawatt.bus.topics import TOPICS
from kappawatt.datasets import Dataset
from kappawatt.errors import KappawattError
from kappawatt.parent import end_with_parent
from kappawatt.service import find_service
from kappawatt.serving.models import open_model
from kappawatt.settings import Settings

__all__ = ["Child", "Stack", "Watch", "run_stack", "store_name"]

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
WINDOW = 10_000  # predictions the running error and latency look back on
PLANT, SYNTHETIC_PLANT = "plant-1", "synthetic-plant-1"


@dataclass(slots=True)
class Child:
    """One process of the stack; started again when it dies."""

    name: str
    arguments: list[str]
    ready_url: str
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only the parent, which stops it in order."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 (our own command line)
                [sys.executable, "-m", "kappawatt.cli", *self.arguments],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def is_ready(self) -> bool:
        """Whether its readiness probe answers 200."""
        try:
            with urllib.request.urlopen(self.ready_url, timeout=2) as answer:  # noqa: S310 (localhost)
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Let it drain; kill it if it does not end."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return b"\n".join(self.log.read_bytes().splitlines()[-5:]).decode("utf-8", "replace")


@dataclass(slots=True)
class Stack:
    """All processes, in the order they start; they stop in the opposite order."""

    children: list[Child] = field(default_factory=list)

    def start(self, say: Callable[[str], None]) -> None:
        """Start all and wait until each is ready; KappawattError with a log's end if one is not."""
        for child in self.children:
            child.start()
        deadline = time.monotonic() + READY_SECONDS
        for child in self.children:
            while not child.is_ready():
                if not child.is_running() or time.monotonic() > deadline:
                    raise KappawattError(f"{child.name} did not get ready; {child.log}:\n{child.last_words()}")
                time.sleep(0.1)
            say(f"  {child.name:24} ready")

    def revive(self, say: Callable[[str], None]) -> None:
        """Start again what has died."""
        for child in self.children:
            if not child.is_running():
                child.restarts += 1
                code = child.process.returncode if child.process else None
                say(f"  {child.name} ended with {code}, starting it again (log: {child.log})")
                child.start()

    def stop(self) -> None:
        """Stop all, the last started first."""
        for child in reversed(self.children):
            child.stop()


class Watch:
    """Counts what passes on the bus, as an outsider: readings by offsets, predictions one by one."""

    def __init__(self, bus: Bus, source: str, stream: str, target: str) -> None:
        self._bus = bus
        self._source = source
        self._target = target
        self._follower = StreamFollower(bus, stream)
        serving = self._follower.read()
        self._read(serving.topic if serving else stream)
        self._first = self._end()
        self.predictions = 0
        self.errors: deque[float] = deque(maxlen=WINDOW)
        self.latencies: deque[float] = deque(maxlen=WINDOW)

    def _read(self, topic: str) -> None:
        """Read a topic of predictions from its end on."""
        ends = {(topic, p): o.end for p, o in self._bus.offsets(topic).items()}
        self._reader = self._bus.reader([topic], ends, max_records=50_000)

    def _end(self) -> int:
        return sum(o.end for o in self._bus.offsets(self._source).values())

    def look(self) -> str:
        """Read what has come and describe it in one line."""
        measured = f"measured_{self._target}"
        promoted = self._follower.poll()
        if promoted is not None:
            self._reader.close()
            self._read(promoted.topic)
        while True:
            found = read_predictions(self._reader.poll(0.0))
            for p in found:
                self.predictions += 1
                if p.get(measured) is not None:
                    self.errors.append(abs(p[measured] - p[self._target]))
                arrived = np.datetime64(p["event_time"].removesuffix("Z"), "ms").astype(np.int64)
                self.latencies.append((p["published"] - int(arrived)) / 1000)
            if not found:
                break
        mae = f"{np.mean(self.errors):.3f} MW" if self.errors else "no measurement yet"
        p99 = f"{np.percentile(self.latencies, 99) * 1000:.0f} ms" if self.latencies else "-"
        return (
            f"readings {self._end() - self._first:>8}  predictions {self.predictions:>8}  MAE {mae}  p99 latency {p99}"
        )

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()
        self._follower.close()


def run_stack(
    settings: Settings,
    folder: Path,
    dataset: Dataset,
    *,
    rate: float,
    say: Callable[[str], None],
    stopped: threading.Event,
) -> None:
    """Run ingestor, plant power (serve and consume), sink and gateway, and stream `dataset` through them."""
    names = ("sensor-ingestor", "plant-power", "gateway")
    services = {name: find_service(name) for name in names}
    ports = {name: _free_port(service.port) for name, service in services.items()}
    consume_port, sink_port = _free_port(services["plant-power"].port + 100), _free_port(8090)
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    known = {
        **{n: urls[n] for n in ("sensor-ingestor", "plant-power")},
        "sink": f"http://127.0.0.1:{sink_port}",
    }
    common = {
        "KAPPAWATT_BUS": settings.bus,
        "KAPPAWATT_KAFKA_CLIENT": settings.kafka_client,
        "KAPPAWATT_DATABASE": settings.database,
        "KAPPAWATT_SERVICES": ",".join(f"{name}={url}" for name, url in known.items()),
        "PYTHONUNBUFFERED": "1",
    }

    def child(name: str, *arguments: str, port: int, probe: bool = False) -> Child:
        own = {"KAPPAWATT_PROBE_PORT" if probe else "KAPPAWATT_PORT": str(port)}
        log = folder / "logs" / f"{name.replace(' ', '-')}.log"
        return Child(name, list(arguments), f"http://127.0.0.1:{port}/readyz", common | own, log)

    bus = connect(settings.bus, settings.bus_options())
    bus.ensure(TOPICS)
    stack = Stack(
        [
            child("plant-power serve", "serve", "plant-power", port=ports["plant-power"]),
            child("plant-power consume", "consume", "plant-power", port=consume_port, probe=True),
            child("sink", "sink", port=sink_port, probe=True),
            child("sensor-ingestor", "serve", "sensor-ingestor", port=ports["sensor-ingestor"]),
            child("gateway", "serve", "gateway", port=ports["gateway"]),
        ]
    )
    plant_power = services["plant-power"]
    assert plant_power.stream is not None
    assert plant_power.predictor is not None
    try:
        stack.start(say)
        target = plant_power.predictor.target
        say(_held_out(open_model(plant_power, settings).manifest, dataset))
        watch = Watch(bus, plant_power.stream.source.name, plant_power.stream.output.name, target)
        say(f"\n  dashboard  {urls['gateway']}/   API  {urls['gateway']}/docs   Ctrl-C stops\n")
        with _streaming(dataset, f"{urls['gateway']}/api/sensor-ingestor", rate, stopped):
            mark = "SYNTHETIC  " if dataset.is_synthetic else ""
            while not stopped.wait(1.0):
                say(mark + watch.look())
                stack.revive(say)
        watch.close()
    finally:
        say("stopping")
        stack.stop()
        bus.close()
        say("stopped")


def store_name(bus: str | None, own_broker: bool) -> str:
    """Return the file name of the analytics store of a bus: ids of another bus would overwrite its rows."""
    if bus is None:
        return "kappawatt.duckdb"
    name = "kafka" if own_broker else re.sub(r"[^A-Za-z0-9]+", "-", bus).strip("-")
    return f"kappawatt-{name}.duckdb"


def _held_out(manifest: Manifest, dataset: Dataset) -> str:
    """Say what the error shown is to be compared with."""
    held_out = manifest.metrics.get("holdout_30", {})
    line = f"\n  model      {manifest.version}, MAE {held_out.get('mae', float('nan')):.2f} MW on rows held out"
    if dataset.is_synthetic:
        return f"{line}; trained on a real plant, so the error on synthetic readings says nothing"
    return f"{line}; it was trained on these readings, so the error below is better"


@contextmanager
def _streaming(dataset: Dataset, url: str, rate: float, stopped: threading.Event) -> Iterator[None]:
    from kappawatt.ingest import http_sender, stream_columns

    plant = SYNTHETIC_PLANT if dataset.is_synthetic else PLANT
    thread = threading.Thread(
        target=stream_columns,
        args=(dataset.columns,),
        kwargs={
            "send": http_sender(url, plant),
            "rate": rate,
            "loop": True,
            "stopped": stopped,
        },
        name="ingest",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(STOP_SECONDS)


def _free_port(wanted: int) -> int:
    """The port itself, or any free one if somebody else listens there."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise KappawattError("no free port on 127.0.0.1")
