"""`kappawatt consume`: a worker with its probes beside it."""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from werkzeug.serving import make_server

from kappawatt.bus import Bus, connect
from kappawatt.bus.topic import TOPICS
from kappawatt.errors import BusUnreachable, SettingInvalid
from kappawatt.forecasting.forecaster import Forecaster
from kappawatt.serving.app import create_app
from kappawatt.serving.kinds import answers_of
from kappawatt.serving.models import open_model
from kappawatt.serving.service import Service
from kappawatt.settings import Settings
from kappawatt.telemetry import Telemetry
from kappawatt.worker.interface import Answers
from kappawatt.worker.loop import Worker

__all__ = ["consume", "probes", "run_sink", "stop_on_signals"]

log = logging.getLogger(__name__)

PROBE_PORT_OFFSET = 100
WAIT_SECONDS = 1.0  # between two questions to a bus that is not there yet
SLICE_SECONDS = 3.0  # of reading histories between two polls
FORECAST_RECORDS = 200  # a message may make a forecast due, 40 ms each, and a group expels who does not poll for 30 s


@contextmanager
def probes(app: Any, settings: Settings, port: int) -> Iterator[None]:
    """Answer probes and metrics on a thread while the block runs."""
    server = make_server(settings.host, settings.probe_port or port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="probes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def stop_on_signals(stop: Any) -> None:
    """Call `stop()` on SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())


def poll_question(telemetry: Telemetry, settings: Settings) -> Any:
    """Return the liveness question of a consumer: how old is the last poll?"""
    started = time.monotonic()

    def why_not_alive() -> str | None:
        age = time.monotonic() - (telemetry.last_poll or started)
        if age <= settings.poll_age_limit:
            return None
        return f"last poll: got {age:.0f} s ago, allowed {settings.poll_age_limit:g} s"

    return why_not_alive


def consume(service: Service, settings: Settings) -> None:
    """Answer the service's source topic until SIGTERM."""
    if service.stream is None:
        raise SettingInvalid(f"service: got {service.name}, which reads no topic, allowed a model that does")
    stream = service.stream
    if isinstance(service.predictor, Forecaster):
        settings = replace(settings, max_records=min(settings.max_records, FORECAST_RECORDS))
    telemetry = Telemetry(service.name)
    telemetry.will_poll()
    app = create_app(service, settings, telemetry=telemetry, serve_model=False)
    context = app.extensions["kappawatt"]
    context.ready.append(lambda: None if telemetry.last_poll else "no poll of the bus yet")
    with probes(app, settings, service.port + PROBE_PORT_OFFSET):
        bus = _open_bus(settings)

        def open_answers(version: str | None, output: str) -> tuple[Answers, str, str]:
            model = open_model(service, settings, version)
            answers = answers_of(model, bus, stream, output, settings.block_rows, telemetry.polled, SLICE_SECONDS)
            return answers, model.name, model.version

        worker = Worker(
            bus,
            open_answers,
            stream=stream.output.name,
            source=stream.source.name,
            service=service.name,
            settings=settings,
            telemetry=telemetry,
        )
        context.alive.append(poll_question(telemetry, settings))
        stop_on_signals(worker.stop)
        gc.freeze()  # what was loaded stays
        worker.run()
    bus.close()


def _open_bus(settings: Settings) -> Bus:
    """Return the bus with all topics; one that does not answer yet gets as long as one that stops answering."""
    bus = connect(settings.bus, settings.bus_options())
    deadline = time.monotonic() + settings.retry_for
    while True:
        try:
            bus.ensure(TOPICS)
            return bus
        except BusUnreachable as error:
            if time.monotonic() > deadline:
                raise
            log.warning("bus is not there yet; asking again", extra={"error": str(error)})
            time.sleep(WAIT_SECONDS)


def run_sink(settings: Settings) -> None:
    """Land what passes on the bus in the analytics store until SIGTERM."""
    from kappawatt.services.sink import build

    telemetry = Telemetry("sink")
    telemetry.will_poll()
    service, sink = build(settings, telemetry)
    app = create_app(service, settings, telemetry=telemetry)
    stop_on_signals(sink.stop)
    with probes(app, settings, service.port):
        sink.run()
